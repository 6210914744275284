//! Connections as another build reads them: Services and ports by number.

use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

use super::super::Tables;
use super::super::conntrack::{Connection, Side, State, Track, Tuple};
use super::super::form::{Damaged, Fields, Writer};
use crate::config::ServiceId;
use crate::input::PortId;
use crate::time::Instant;
use crate::words::halves;

pub(super) fn put(form: &mut Writer, tables: &Tables) {
    let connections = tables.connections().iter();
    form.list("connections", connections, |form, (_, connection)| {
        let Connection { tuples: [originator, responder], track, service, ports } = connection;
        let Track { deadline, end, limit, window, acked, state, flags, last, again, scale } = track;
        form.record("originator", |form| put_tuple(form, &originator));
        form.record("responder", |form| put_tuple(form, &responder));
        let [one, other] = ports;
        form.number("originator-port", u64::from(one.0));
        form.number("responder-port", u64::from(other.0));
        if let Some(service) = service {
            form.number("service", u64::from(service.0));
        }
        form.number("deadline", deadline.0);
        form.number("state", state as u64);
        form.number("flags", u64::from(flags));
        form.number("last", u64::from(last));
        form.number("again", u64::from(again));
        let pairs = [("end", end), ("limit", limit), ("window", window), ("acked", acked)];
        pairs.into_iter().for_each(|(name, pair)| form.number(name, pair_of(pair)));
        form.number("scale", pair_of(scale.map(u32::from)));
    });
}

fn pair_of([one, other]: [u32; 2]) -> u64 {
    u64::from(one) << 32 | u64::from(other)
}

pub(super) fn put_tuple(form: &mut Writer, tuple: &Tuple) {
    for (high, low, address) in [("src-high", "src", tuple.src), ("dst-high", "dst", tuple.dst)] {
        match address {
            IpAddress::Ipv4(v4) => form.number(low, u64::from(u32::from(v4))),
            IpAddress::Ipv6(v6) => {
                let (upper, lower) = halves(u128::from(v6));
                form.number(high, upper);
                form.number(low, lower);
            }
        }
    }
    form.number("src-port", u64::from(tuple.src_port));
    form.number("dst-port", u64::from(tuple.dst_port));
    form.number("protocol", u64::from(tuple.protocol));
}

/// The connections that this build can go on with; of a state that it does not know it has none.
pub(super) fn take(fields: &Fields<'_>) -> Result<Vec<Connection>, Damaged> {
    let each = fields.list("connections")?.into_iter().map(|fields| take_one(&fields));
    Ok(each.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn take_one(fields: &Fields<'_>) -> Result<Option<Connection>, Damaged> {
    let Some(state) = State::by_number(fields.number("state", 0)?) else { return Ok(None) };
    let pair = |name| -> Result<[u32; 2], Damaged> {
        let both = fields.number(name, 0)?;
        let half = |half: u64| u32::try_from(half & 0xffff_ffff).unwrap_or(0);
        Ok([half(both >> 32), half(both)])
    };
    let port = |name| -> Result<PortId, Damaged> {
        u32::try_from(fields.number(name, u64::MAX)?).map(PortId).map_err(|_large| Damaged)
    };
    let service = fields.number_if_there("service")?;
    let service = service.and_then(|id| u32::try_from(id).ok()).map(ServiceId);
    let small = |name| u16::try_from(fields.number(name, 0)?).map_err(|_large| Damaged);
    let track = Track {
        deadline: Instant(fields.number("deadline", 0)?),
        end: pair("end")?,
        limit: pair("limit")?,
        window: pair("window")?,
        acked: pair("acked")?,
        state,
        flags: small("flags")?,
        last: small("last")?,
        again: u8::try_from(small("again")?.min(3)).unwrap_or(3),
        scale: pair("scale")?.map(|scale| u8::try_from(scale.min(14)).unwrap_or(14)),
    };
    Ok(Some(Connection {
        tuples: [
            take_tuple(&fields.record("originator")?)?,
            take_tuple(&fields.record("responder")?)?,
        ],
        track,
        service,
        ports: [port("originator-port")?, port("responder-port")?],
    }))
}

pub(super) fn take_tuple(fields: &Fields<'_>) -> Result<Tuple, Damaged> {
    let address = |high, low| -> Result<IpAddress, Damaged> {
        let lower = fields.number(low, 0)?;
        Ok(match fields.number_if_there(high)? {
            Some(upper) => Ipv6Address::from(u128::from(upper) << 64 | u128::from(lower)).into(),
            None => {
                let bits = u32::try_from(lower).map_err(|_large| Damaged)?;
                Ipv4Address::from(bits).into()
            }
        })
    };
    let port = |name| u16::try_from(fields.number(name, 0)?).map_err(|_large| Damaged);
    Ok(Tuple {
        src: address("src-high", "src")?,
        dst: address("dst-high", "dst")?,
        src_port: port("src-port")?,
        dst_port: port("dst-port")?,
        protocol: u8::try_from(fields.number("protocol", 0)?).map_err(|_large| Damaged)?,
    })
}

impl Tables {
    /// Goes on with connections of another build, as far as there is room.
    pub(super) fn import_connections(&mut self, carried: Vec<Connection>) {
        for connection in carried {
            let [originator, responder] = &connection.tuples;
            let is_new =
                [originator, responder].iter().all(|tuple| self.connections.find(tuple).is_none());
            let over = connection.track.deadline <= self.now;
            if over || !is_new || self.connections.is_full(originator) {
                continue;
            }
            self.begin_connection(&connection);
            if let Some(service) = connection.service {
                let backend = connection.of(Side::Responder);
                self.services.taken_over(service, &backend.src, backend.src_port);
            }
        }
    }
}
