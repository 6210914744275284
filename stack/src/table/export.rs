//! What one build of the switch leaves to another: all that desired state does not give, in a form
//! that says itself what it holds.
//!
//! A snapshot is of its build: words by place. An export names its fields ([`form`]). What an older
//! build does not know it passes over, and what a newer one misses has a value; only another
//! [`MAJOR`] is refused. Ports are known by their numbers, since slots follow from a history.
//! Limits, node, routes and the configuration of ports and Services are not in it: whoever imports
//! has made them from desired state. Nor are the connections that a Service's backends have open:
//! who takes connections over counts them anew, and the same holds of fragments that are held.
//!
//! [`form`]: super::form

use alloc::vec::Vec;

use super::form::{Damaged, Fields, Writer};
use super::fragment::Datagram;
use super::service::Affinity;
use super::{Port, Table, Tables};
use crate::counters::{COUNT_MAX, PortCounters};
use crate::drop::DropReason;
use crate::input::{ImportError, PortId};
use crate::table::bucket::Bucket;
use crate::table::conntrack::Connection;
use crate::time::Instant;

mod connections;
mod datagrams;
mod service;

/// First bytes of an export.
const MAGIC: [u8; 8] = *b"hopxport";
/// Version of exports whose fields mean the same; another one is not read.
pub const MAJOR: u32 = 1;

impl From<Damaged> for ImportError {
    fn from(_damaged: Damaged) -> Self {
        Self::Damaged
    }
}

/// What is taken over.
#[derive(Debug, Default)]
struct Carried {
    now: u64,
    walks: u64,
    epoch: u64,
    choice: Option<u64>,
    gone: PortCounters,
    ports: Vec<CarriedPort>,
    connections: Vec<Connection>,
    services: Vec<service::Carried>,
    clients: Vec<Affinity>,
    datagrams: Vec<Datagram>,
}

#[derive(Debug)]
struct CarriedPort {
    id: u64,
    errors: Bucket,
    floods: Bucket,
    counters: PortCounters,
}

impl Tables {
    /// All that desired state does not give.
    #[must_use]
    pub fn export(&self) -> Vec<u8> {
        // Taken apart without `..`, as for rows: a new field does not compile until it is exported,
        // or said to follow from others.
        let Self {
            limits: _,
            seeds,
            now,
            walks,
            node: _,
            complete: _,
            epoch,
            ports,
            fdb: _,
            neighbors: _,
            fib: _,
            connections: _,
            sweep: _,
            datagrams: _,
            gone,
            services,
            open: _,
        } = self;
        let mut form = Writer::default();
        for table in Table::ALL {
            match table {
                // Desired state, or the build's own.
                Table::Limits | Table::Node | Table::Route => {}
                Table::State => {
                    form.number("now", now.0);
                    form.number("walks", *walks);
                    form.number("epoch", *epoch);
                    form.number("choice", seeds.choice);
                }
                // Both families at once.
                Table::Connection4 => connections::put(&mut form, self),
                Table::Connection6 => {}
                Table::Datagram => datagrams::put(&mut form, self),
                Table::Gone => form.record("gone", |form| put_counters(form, gone)),
                Table::Port => form.list("ports", ports.iter(), |form, (_, port)| {
                    // Connections are counted anew as they come in.
                    let Port { config, errors, floods, connections: _, counters } = port;
                    form.number("id", u64::from(config.id.0));
                    form.number("errors-full-at", errors.full_at().0);
                    form.number("floods-full-at", floods.full_at().0);
                    form.record("counters", |form| put_counters(form, counters));
                }),
                Table::Service => service::put_services(&mut form, services),
                Table::Affinity => service::put_clients(&mut form, services),
            }
        }
        let mut bytes = MAGIC.to_vec();
        bytes.extend(MAJOR.to_le_bytes());
        bytes.extend(form.into_bytes());
        bytes
    }

    /// Takes an export over, whole or not at all. What ports had counted that are not there any
    /// more is counted as that of removed ones.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub fn import(&mut self, bytes: &[u8]) -> Result<(), ImportError> {
        let Carried {
            now,
            walks,
            epoch,
            choice,
            gone: removed,
            ports,
            services,
            clients,
            connections,
            datagrams,
        } = read(bytes)?;
        self.advance(Instant(now));
        self.walks = self.walks.max(walks);
        self.epoch = self.epoch.max(epoch);
        self.seeds.choice = choice.unwrap_or(self.seeds.choice);
        self.gone.add(&removed);
        for CarriedPort { id, errors, floods, counters } in ports {
            let id = u32::try_from(id).ok().map(PortId);
            let slot = id.and_then(|id| self.ports.slot(id));
            match slot.and_then(|slot| self.ports.change(slot)) {
                Some(port) => {
                    (port.errors, port.floods) = (errors, floods);
                    port.counters.add(&counters);
                }
                None => self.gone.add(&counters),
            }
        }
        self.services.lay_out(self.seeds.choice, self.now);
        services.into_iter().for_each(|carried| carried.give(&mut self.services));
        for client in clients {
            let service = self.services.by_id(client.service);
            if service.is_some_and(|service| service.config.affinity.is_some()) {
                self.services.clients_mut().put(client, self.now);
            }
        }
        self.import_connections(connections);
        self.import_datagrams(datagrams);
        Ok(())
    }
}

fn read(bytes: &[u8]) -> Result<Carried, ImportError> {
    let rest = bytes.strip_prefix(&MAGIC).ok_or(ImportError::Damaged)?;
    let (major, rest) = rest.split_first_chunk::<4>().ok_or(ImportError::Damaged)?;
    let theirs = u32::from_le_bytes(*major);
    if theirs != MAJOR {
        return Err(ImportError::Version { theirs, ours: MAJOR });
    }
    let fields = Fields::new(rest);
    let count = |name| fields.number(name, 0).map(|count| count.min(COUNT_MAX));
    let port = |fields: Fields<'_>| -> Result<CarriedPort, Damaged> {
        Ok(CarriedPort {
            id: fields.number("id", u64::MAX)?,
            errors: Bucket::filling(Instant(fields.number("errors-full-at", 0)?)),
            floods: Bucket::filling(Instant(fields.number("floods-full-at", 0)?)),
            counters: take_counters(fields.record("counters")?)?,
        })
    };
    Ok(Carried {
        now: fields.number("now", 0)?,
        walks: count("walks")?,
        epoch: count("epoch")?,
        choice: fields.number_if_there("choice")?,
        gone: take_counters(fields.record("gone")?)?,
        ports: fields.list("ports")?.into_iter().map(port).collect::<Result<_, _>>()?,
        connections: connections::take(&fields)?,
        services: service::take_services(&fields)?,
        clients: service::take_clients(&fields)?,
        datagrams: datagrams::take(&fields)?,
    })
}

fn put_counters(form: &mut Writer, counters: &PortCounters) {
    counters.counts().into_iter().for_each(|(name, count)| form.number(name, count));
    form.list("dropped", counters.drops(), |form, (reason, count)| {
        form.number("reason", u64::from(reason.code()));
        form.number("count", count);
    });
}

/// Frames that met an end which this build does not know are not counted as received either: what
/// came in is what became of it.
fn take_counters(fields: Fields<'_>) -> Result<PortCounters, Damaged> {
    let count = |name| fields.number(name, 0).map(|count| count.min(COUNT_MAX));
    let mut counters = PortCounters::default();
    for (name, place) in counters.counts_mut() {
        *place = count(name)?;
    }
    // Who takes fragments over that are held counts them anew.
    counters.held = 0;
    for drop in fields.list("dropped")? {
        let code = drop.number("reason", u64::MAX)?;
        let place = DropReason::ALL.iter().position(|reason| u64::from(reason.code()) == code);
        if let Some(sum) = place.and_then(|place| counters.dropped.get_mut(place)) {
            *sum = drop.number("count", 0)?.min(COUNT_MAX);
        }
    }
    counters.received = counters.received.min(counters.accounted());
    Ok(counters)
}

#[cfg(test)]
mod tests;
