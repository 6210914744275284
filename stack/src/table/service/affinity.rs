//! Session affinity: which backend a client has, until when.
//!
//! A table of fixed size, since every client writes to it. A client of a Service has eight places,
//! four in each of two groups that a keyed hash names, so nobody who does not know the key can
//! choose whom to push out. With half of all places in use 3 clients of 100,000 find theirs taken,
//! with three quarters 7 of 1,000. What has expired counts as absent and is overwritten.
//!
//! **A flood of client addresses** (spoofed, or a whole IPv6 prefix) has to push others out once
//! all eight places are in use. A client that came once goes before one that came again while it
//! was remembered, and among those the one that expires first. So such a flood pushes out its own
//! kind; who made at least two connections stays. Who is pushed out loses nothing but the memory:
//! its next connection is given a backend as a first one is.

use alloc::vec::Vec;

use smoltcp::wire::IpAddress;

use super::row::halves;
use crate::config::ServiceId;
use crate::hash;
use crate::table::slab::Slab;
use crate::time::{Duration, Instant};
use crate::words::words_of;

/// Places of a group.
const GROUP: usize = 4;
/// Hashes of clients are apart from others of the same seed: "hopstick".
const TAG: u64 = 0x686f_7073_7469_636b;

/// A client of a Service, and its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Affinity {
    /// The Service.
    pub service: ServiceId,
    /// The client's address.
    pub client: IpAddress,
    /// Its backend's address.
    pub backend: IpAddress,
    /// Its backend's port.
    pub port: u16,
    /// From when on it counts as absent.
    pub deadline: Instant,
    /// Whether the client came again while it was remembered.
    pub again: bool,
}

words_of!(Affinity { service, client, backend, port, deadline, again });

/// All clients that are remembered.
#[derive(Clone, Debug)]
pub(in crate::table) struct Affinities {
    rows: Slab<Affinity>,
    groups: u64,
    key: u64,
}

impl Affinities {
    /// A table of at most `rows_max` clients, laid out by the seed of choices.
    pub(super) fn new(seed: u64, rows_max: usize) -> Self {
        let groups = (rows_max / GROUP) as u64;
        Self { rows: Slab::new(rows_max), groups, key: seed ^ TAG }
    }

    /// The client's backend, if it has one.
    pub(super) fn find(
        &self,
        service: ServiceId,
        client: &IpAddress,
        now: Instant,
    ) -> Option<&Affinity> {
        self.at(service, client)
            .and_then(|place| self.rows.get(place))
            .filter(|row| lives(row, now))
    }

    /// The client made a new connection to that backend.
    pub(super) fn keep(
        &mut self,
        service: ServiceId,
        client: IpAddress,
        (backend, port): (IpAddress, u16),
        now: Instant,
        timeout: Duration,
    ) {
        let again = self.find(service, &client, now).is_some();
        let deadline = now + timeout;
        self.put(Affinity { service, client, backend, port, deadline, again }, now);
    }

    /// Puts a row in, in place of that client's own, of nobody's, or of who is to go first.
    pub(in crate::table) fn put(&mut self, row: Affinity, now: Instant) {
        let own = self.at(row.service, &row.client);
        let place = own.or_else(|| {
            let places = self.places(row.service, &row.client);
            places.min_by_key(|place| self.worth(*place, now))
        });
        let Some(place) = place else { return };
        match self.rows.change(place) {
            Some(old) => *old = row,
            None => {
                self.rows.restore(place, row);
            }
        }
    }

    /// Takes all clients of a Service out: their places and what they were.
    pub(super) fn forget(&mut self, service: ServiceId) -> Vec<(usize, Affinity)> {
        let of = |(place, row): (usize, &Affinity)| (row.service == service).then_some(place);
        let places: Vec<usize> = self.rows.iter().filter_map(of).collect();
        places.into_iter().filter_map(|at| Some((at, self.rows.remove(at)?))).collect()
    }

    /// Puts a row where it was. False when it cannot be there.
    pub(in crate::table) fn restore(&mut self, place: usize, row: Affinity) -> bool {
        self.at(row.service, &row.client).is_none()
            && self.places(row.service, &row.client).any(|its| its == place)
            && self.rows.restore(place, row)
    }

    /// Lays the table out by another seed of choices.
    pub(super) fn lay_out(&mut self, seed: u64, now: Instant) {
        let key = seed ^ TAG;
        if key == self.key {
            return;
        }
        let places: Vec<usize> = self.rows.iter().map(|(place, _)| place).collect();
        let rows: Vec<Affinity> =
            places.into_iter().filter_map(|place| self.rows.remove(place)).collect();
        self.key = key;
        rows.into_iter().for_each(|row| self.put(row, now));
    }

    /// All rows by place, expired ones included.
    pub(in crate::table) fn rows(&self) -> &Slab<Affinity> {
        &self.rows
    }

    /// The rows, for a snapshot.
    pub(in crate::table) fn rows_mut(&mut self) -> &mut Slab<Affinity> {
        &mut self.rows
    }

    /// The place of a client that is there.
    fn at(&self, service: ServiceId, client: &IpAddress) -> Option<usize> {
        self.places(service, client).find(|place| {
            let row = self.rows.get(*place);
            row.is_some_and(|row| row.service == service && row.client == *client)
        })
    }

    /// Where a client may be.
    fn places(
        &self,
        service: ServiceId,
        client: &IpAddress,
    ) -> impl Iterator<Item = usize> + use<> {
        let [high, low] = halves(client);
        let hash = hash::numbers(self.key, &[u64::from(service.0), high, low]);
        let groups = self.groups;
        let of = move |half: u64| half.checked_rem(groups).and_then(|it| usize::try_from(it).ok());
        let both = [of(hash >> 32), of(hash & u64::from(u32::MAX))];
        both.into_iter().flatten().flat_map(|group| group * GROUP..(group + 1) * GROUP)
    }

    /// What is lost with what is at a place; the least goes first. Of two that nobody has, the one
    /// in the emptier group.
    fn worth(&self, place: usize, now: Instant) -> (u8, u64) {
        match self.living(place, now) {
            Some(row) => (1 + u8::from(row.again), row.deadline.0),
            None => {
                let first = place - place % GROUP;
                let group = first..first + GROUP;
                (0, group.filter(|place| self.living(*place, now).is_some()).count() as u64)
            }
        }
    }

    fn living(&self, place: usize, now: Instant) -> Option<&Affinity> {
        self.rows.get(place).filter(|row| lives(row, now))
    }
}

fn lives(row: &Affinity, now: Instant) -> bool {
    now < row.deadline
}

#[cfg(test)]
mod tests;
