//! GET /v1/conntrack: connections, with what each is translated to.
//!
//! There may be a million. They are gone through in steps, a question to the event loop each, so
//! that frames pass in between; what is asked for is decided there, and no more is kept than is
//! shown. So the list is no one moment's: what began or ended meanwhile may be in it or not.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use smoltcp::wire::IpAddress;
use stack::config::ServiceId;
use stack::table::Tables;
use stack::table::conntrack::{Connection as Row, ConnectionId, Side, State as How, Tuple};
use stack::{Instant, PortId};

use super::Context;
use super::objects::{Connection, ConnectionQuery, Flow, List};
use super::reply::Failure;
use super::snapshot::{GONE, name_of};
use crate::directory::{Directory, Label};

/// Connections that are shown unless more are asked for.
pub const LIMIT: usize = 1_000;

/// Slots of each family that one question looks at: less than a millisecond's work.
const STEP: usize = 2_048;

/// Connections that match, sorted by protocol, source and destination, up to a limit.
///
/// # Errors
/// When what is asked for cannot be, or the event loop has ended.
pub async fn connections(
    State(context): State<Context>,
    query: Result<Query<ConnectionQuery>, QueryRejection>,
) -> Result<Json<List<Connection>>, Failure> {
    let Query(query) = query?;
    let names = context.directory.load_full();
    let mut listing = Listing::new(&query, &names)?;
    let mut from = Some(0);
    while let Some(slot) = from {
        let question = move |view: &crate::event_loop::View<'_>| {
            let next = listing.step(view.switch.tables(), view.now, slot);
            (listing, next)
        };
        (listing, from) = context.handle.ask(question).await?;
    }
    let ids = listing.services();
    let question =
        move |view: &crate::event_loop::View<'_>| (named(view.switch.tables(), &ids), view.now);
    let (services, now) = context.handle.ask(question).await?;
    Ok(Json(listing.list(now, &services, &names)))
}

/// All at once, of a switch that carries nothing.
///
/// # Errors
/// When what is asked for cannot be.
pub fn at_rest(
    query: &ConnectionQuery,
    tables: &Tables,
    names: &Directory,
) -> Result<List<Connection>, Failure> {
    let mut listing = Listing::new(query, names)?;
    let mut from = Some(0);
    while let Some(slot) = from {
        from = listing.step(tables, tables.now(), slot);
    }
    let services = named(tables, &listing.services());
    Ok(listing.list(tables.now(), &services, names))
}

/// Names of these Services, as far as they are there.
fn named(tables: &Tables, ids: &BTreeSet<ServiceId>) -> BTreeMap<ServiceId, String> {
    let name = |id: &ServiceId| Some((*id, tables.services().by_id(*id)?.config.name.clone()));
    ids.iter().filter_map(name).collect()
}

/// What connections are sorted by: what is asked for, then protocol, then source and destination as
/// its packets bear them.
type Key = (u64, u8, IpAddress, u16, IpAddress, u16);

/// What can be asked for first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    /// Nothing.
    Ends,
    /// The time that is left, the most first.
    Expires,
}

impl Sort {
    fn read(name: Option<&str>) -> Result<Self, Failure> {
        match name {
            None => Ok(Self::Ends),
            Some("expiresSeconds") => Ok(Self::Expires),
            Some(other) => {
                Err(Failure::request(format!("sort: {other} is none"), "expiresSeconds, or none"))
            }
        }
    }

    fn key(self, row: &Row) -> Key {
        let Tuple { src, src_port, dst, dst_port, protocol } = row.of(Side::Originator);
        let first = match self {
            Self::Ends => 0,
            Self::Expires => u64::MAX - row.track.deadline.0,
        };
        (first, protocol, src, src_port, dst, dst_port)
    }
}

/// What has been found so far.
#[derive(Debug)]
struct Listing {
    filter: Filter,
    limit: usize,
    sort: Sort,
    /// The first ones in the order of their keys.
    kept: BTreeMap<Key, Row>,
    left_out: u64,
}

impl Listing {
    fn new(query: &ConnectionQuery, names: &Directory) -> Result<Self, Failure> {
        let limit = query.limit.unwrap_or(LIMIT);
        let filter = Filter::new(query, names)?;
        let sort = Sort::read(query.sort.as_deref())?;
        Ok(Self { filter, limit, sort, kept: BTreeMap::new(), left_out: 0 })
    }

    /// Looks at the slots from this one on; where to go on, if that was not all.
    fn step(&mut self, tables: &Tables, now: Instant, from: usize) -> Option<usize> {
        let connections = tables.connections();
        let to = from.saturating_add(STEP);
        for slot in (from..to.min(connections.slots())).filter_map(|slot| u32::try_from(slot).ok())
        {
            for is_ipv6 in [false, true] {
                let row = connections.get(ConnectionId { is_ipv6, slot });
                if let Some(row) = row.filter(|row| row.track.deadline > now)
                    && self.filter.admits(&row, tables)
                {
                    self.keep(row);
                }
            }
        }
        (to < connections.slots()).then_some(to)
    }

    fn keep(&mut self, row: Row) {
        // One that ended and began again while this went on is one.
        if self.kept.insert(self.sort.key(&row), row).is_none() && self.kept.len() > self.limit {
            self.kept.pop_last();
            self.left_out += 1;
        }
    }

    /// The Services of what was found.
    fn services(&self) -> BTreeSet<ServiceId> {
        self.kept.values().filter_map(|row| row.service).collect()
    }

    fn list(
        self,
        now: Instant,
        services: &BTreeMap<ServiceId, String>,
        names: &Directory,
    ) -> List<Connection> {
        let items = self.kept.values().map(|row| connection(row, now, services, names)).collect();
        List { left_out: self.left_out, ..List::new(items) }
    }
}

/// Which connections are wanted.
#[derive(Debug)]
struct Filter {
    /// A namespace, with the ports of its pods.
    namespace: Option<(String, BTreeSet<PortId>)>,
    service: Option<String>,
    /// A pod's ports.
    pod: Option<BTreeSet<PortId>>,
    address: Option<IpAddress>,
    /// Numbers of the protocol.
    protocols: Option<&'static [u8]>,
    /// A state's name.
    state: Option<&'static str>,
    port: Option<u16>,
}

impl Filter {
    fn new(query: &ConnectionQuery, names: &Directory) -> Result<Self, Failure> {
        let of = |wanted: &String| (wanted.clone(), wired(names, |ns, _| ns == wanted));
        Ok(Self {
            namespace: query.namespace.as_ref().map(of),
            service: query.service.as_deref().map(service).transpose()?,
            pod: query.pod.as_deref().map(|pod| ports(pod, names)).transpose()?,
            address: query.address.as_deref().map(address).transpose()?,
            protocols: query.protocol.as_deref().map(known_protocols).transpose()?,
            state: query.state.as_deref().map(state).transpose()?,
            port: query.port,
        })
    }

    fn admits(&self, row: &Row, tables: &Tables) -> bool {
        let touches = |ports: &BTreeSet<PortId>| row.ports.iter().any(|port| ports.contains(port));
        let name = || {
            let service = row.service.and_then(|id| tables.services().by_id(id));
            service.map(|service| service.config.name.as_str())
        };
        let [originator, responder] = &row.tuples;
        let bears = |address: &IpAddress| {
            [originator.src, originator.dst, responder.src, responder.dst].contains(address)
        };
        let is_service = |wanted: &str| {
            name().is_some_and(|name| {
                name == wanted || name.split(':').next().is_some_and(|name| name == wanted)
            })
        };
        let is_of = |(namespace, ports): &(String, BTreeSet<PortId>)| {
            touches(ports)
                || name()
                    .and_then(|name| name.split_once('/'))
                    .is_some_and(|(ns, _)| ns == namespace)
        };
        let ports =
            [originator.src_port, originator.dst_port, responder.src_port, responder.dst_port];
        self.protocols.is_none_or(|protocols| protocols.contains(&originator.protocol))
            && self.state.is_none_or(|state| row.track.state.name() == state)
            && self.port.is_none_or(|port| ports.contains(&port))
            && self.address.as_ref().is_none_or(bears)
            && self.pod.as_ref().is_none_or(touches)
            && self.service.as_deref().is_none_or(is_service)
            && self.namespace.as_ref().is_none_or(is_of)
    }
}

fn service(name: &str) -> Result<String, Failure> {
    if name.contains('/') {
        return Ok(name.to_owned());
    }
    Err(Failure::request(
        format!("{name}: no NS/NAME"),
        "Services are named with their namespace, as in demo/web; hopctl get services",
    ))
}

/// Ports of pods by namespace and name.
fn wired(names: &Directory, wanted: impl Fn(&str, &str) -> bool) -> BTreeSet<PortId> {
    let of = |label: &Label| match label {
        Label::Pod { namespace, name } => wanted(namespace, name),
        Label::Host | Label::Endpoint(_) => false,
    };
    names.ports.iter().filter(|(_, label)| of(label)).map(|(port, _)| *port).collect()
}

fn ports(pod: &str, names: &Directory) -> Result<BTreeSet<PortId>, Failure> {
    let Some(wanted) = pod.split_once('/') else {
        return Err(Failure::request(
            format!("{pod}: no NS/POD"),
            "pods are named with their namespace, as in demo/web",
        ));
    };
    let ports = wired(names, |namespace, name| (namespace, name) == wanted);
    if ports.is_empty() {
        let message = format!("no pod {pod} is wired on this node");
        return Err(Failure::missing(message, "hopctl get ports"));
    }
    Ok(ports)
}

fn address(text: &str) -> Result<IpAddress, Failure> {
    text.parse().map_err(|_unfit| {
        Failure::request(format!("{text}: no IP address"), "as in 10.96.0.10 or fd00::10")
    })
}

/// The name of a state as it is written here.
fn state(name: &str) -> Result<&'static str, Failure> {
    let mut names: Vec<&str> = How::ALL.iter().map(|state| state.name()).collect();
    names.sort_unstable();
    // Two protocols have the same word.
    names.dedup();
    let found = names.iter().find(|known| known.eq_ignore_ascii_case(name));
    found.copied().ok_or_else(|| {
        Failure::request(format!("{name}: no state of a connection"), names.join(", "))
    })
}

fn known_protocols(name: &str) -> Result<&'static [u8], Failure> {
    protocols(name).ok_or_else(|| {
        let message = format!("{name}: no protocol that is known here");
        Failure::request(message, "tcp, udp, sctp or icmp")
    })
}

/// Numbers of the protocol of that name.
pub(crate) fn protocols(name: &str) -> Option<&'static [u8]> {
    match name {
        "tcp" => Some(&[6]),
        "udp" => Some(&[17]),
        "sctp" => Some(&[132]),
        "icmp" => Some(&[1, 58]),
        _ => None,
    }
}

/// What a protocol is called.
pub(crate) fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmp6".to_owned(),
        132 => "sctp".to_owned(),
        other => other.to_string(),
    }
}

fn connection(
    row: &Row,
    now: Instant,
    services: &BTreeMap<ServiceId, String>,
    names: &Directory,
) -> Connection {
    let (seen, out) = (row.of(Side::Originator), row.translated(Side::Originator));
    let differs = (seen.src, seen.src_port) != (out.src, out.src_port);
    let name = |id: ServiceId| services.get(&id).cloned().unwrap_or_else(|| GONE.to_owned());
    Connection {
        protocol: protocol(seen.protocol),
        state: row.track.state.name().to_owned(),
        source: end(&seen.src, seen.src_port),
        destination: end(&seen.dst, seen.dst_port),
        backend: row.has_other_destination().then(|| end(&out.dst, out.dst_port)),
        translated_source: differs.then(|| end(&out.src, out.src_port)),
        service: row.service.map(name),
        expires_seconds: row.track.deadline.since(now).0 / 1_000_000_000,
        from: name_of(row.port(Side::Originator), names),
        to: name_of(row.port(Side::Responder), names),
        original: flow(&seen),
        reply: flow(&row.of(Side::Responder)),
    }
}

fn flow(tuple: &Tuple) -> Flow {
    Flow {
        source: tuple.src.to_string(),
        source_port: tuple.src_port,
        destination: tuple.dst.to_string(),
        destination_port: tuple.dst_port,
    }
}

/// An address with its port, if there is one.
pub(crate) fn end(address: &IpAddress, port: u16) -> String {
    match (address, port) {
        (address, 0) => address.to_string(),
        (IpAddress::Ipv4(address), port) => format!("{address}:{port}"),
        (IpAddress::Ipv6(address), port) => format!("[{address}]:{port}"),
    }
}

#[cfg(test)]
mod tests;
