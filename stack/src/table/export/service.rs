//! Services in an export: by number, and their backends by address and port, since places follow
//! from a configuration.

use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

use crate::config::ServiceId;
use crate::counters::COUNT_MAX;
use crate::table::form::{Damaged, Fields, Writer};
use crate::table::service::{Affinity, Refused, Service, Services};
use crate::time::Instant;
use crate::words;

/// A Service's state.
#[derive(Debug)]
pub(super) struct Carried {
    id: ServiceId,
    turns: [u32; 2],
    refused: Refused,
    /// Backends, and the connections that each was given.
    totals: Vec<(IpAddress, u16, u64)>,
}

pub(super) fn put_services(form: &mut Writer, services: &Services) {
    let stateful = services.iter().map(|(_, service)| service).filter(|service| {
        let used = service.loads.iter().any(|load| load.total > 0);
        used || service.turns != [0; 2] || service.refused != Refused::default()
    });
    form.list("services", stateful, |form, service| {
        let Service { config, loads, turns: [cluster, local], refused, .. } = service;
        let Refused { no_backends, none_local, source } = refused;
        form.number("id", u64::from(config.id.0));
        form.number("turn-cluster", u64::from(*cluster));
        form.number("turn-local", u64::from(*local));
        form.number("refused-no-backends", *no_backends);
        form.number("refused-none-local", *none_local);
        form.number("refused-source", *source);
        let used = config.backends.iter().zip(loads).filter(|(_, load)| load.total > 0);
        form.list("backends", used, |form, (backend, load)| {
            form.record("address", |form| put_address(form, &backend.address));
            form.number("port", u64::from(backend.port));
            form.number("total", load.total);
        });
    });
}

pub(super) fn take_services(fields: &Fields<'_>) -> Result<Vec<Carried>, Damaged> {
    let mut services = Vec::new();
    for fields in fields.list("services")? {
        let Some(id) = number(&fields, "id")? else { continue };
        let count = |name| fields.number(name, 0).map(|count| count.min(COUNT_MAX));
        let turn = |name| number(&fields, name).map(Option::unwrap_or_default);
        let mut totals = Vec::new();
        for backend in fields.list("backends")? {
            let address = take_address(&backend.record("address")?)?;
            if let (Some(address), Some(port)) = (address, number(&backend, "port")?) {
                totals.push((address, port, backend.number("total", 0)?.min(COUNT_MAX)));
            }
        }
        services.push(Carried {
            id: ServiceId(id),
            turns: [turn("turn-cluster")?, turn("turn-local")?],
            refused: Refused {
                no_backends: count("refused-no-backends")?,
                none_local: count("refused-none-local")?,
                source: count("refused-source")?,
            },
            totals,
        });
    }
    Ok(services)
}

impl Carried {
    /// What is of Services and backends that are not there is passed over.
    pub(super) fn give(self, services: &mut Services) {
        let Self { id, turns, refused, totals } = self;
        let slot = services.slot(id);
        let Some(service) = slot.and_then(|slot| services.change(slot)) else { return };
        (service.turns, service.refused) = (turns, refused);
        for (address, port, total) in totals {
            let place = service.place(&address, port);
            if let Some(load) = place.and_then(|place| service.loads.get_mut(place)) {
                load.total = total;
            }
        }
    }
}

pub(super) fn put_clients(form: &mut Writer, services: &Services) {
    form.list("affinities", services.affinities(), |form, row| {
        let Affinity { service, client, backend, port, deadline, again } = row;
        form.number("service", u64::from(service.0));
        form.record("client", |form| put_address(form, client));
        form.record("backend", |form| put_address(form, backend));
        form.number("port", u64::from(*port));
        form.number("deadline", deadline.0);
        form.number("again", u64::from(*again));
    });
}

pub(super) fn take_clients(fields: &Fields<'_>) -> Result<Vec<Affinity>, Damaged> {
    let mut clients = Vec::new();
    for fields in fields.list("affinities")? {
        let client = take_address(&fields.record("client")?)?;
        let backend = take_address(&fields.record("backend")?)?;
        let (service, port) = (number(&fields, "service")?, number(&fields, "port")?);
        if let (Some(service), Some(client), Some(backend), Some(port)) =
            (service, client, backend, port)
        {
            let (service, deadline) = (ServiceId(service), Instant(fields.number("deadline", 0)?));
            let again = fields.number("again", 0)? != 0;
            clients.push(Affinity { service, client, backend, port, deadline, again });
        }
    }
    Ok(clients)
}

fn put_address(form: &mut Writer, address: &IpAddress) {
    match address {
        IpAddress::Ipv4(v4) => form.number("v4", u64::from(u32::from(*v4))),
        IpAddress::Ipv6(v6) => {
            let (high, low) = words::halves(u128::from(*v6));
            form.number("v6-high", high);
            form.number("v6-low", low);
        }
    }
}

/// `None` where it is missing or of a kind that this build does not know.
fn take_address(fields: &Fields<'_>) -> Result<Option<IpAddress>, Damaged> {
    if let Some(v4) = number::<u32>(fields, "v4")? {
        return Ok(Some(Ipv4Address::from(v4).into()));
    }
    let halves = (fields.number_if_there("v6-high")?, fields.number_if_there("v6-low")?);
    Ok(match halves {
        (Some(high), Some(low)) => {
            Some(Ipv6Address::from(u128::from(high) << 64 | u128::from(low)).into())
        }
        _ => None,
    })
}

/// A number of fewer bits; `None` where it is missing or too large.
fn number<T: TryFrom<u64>>(fields: &Fields<'_>, name: &str) -> Result<Option<T>, Damaged> {
    Ok(fields.number_if_there(name)?.and_then(|number| T::try_from(number).ok()))
}

#[cfg(test)]
mod tests;
