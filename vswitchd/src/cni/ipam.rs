//! Addresses: which one a pod gets. Pure: no clock, no files.
//!
//! Never used ones go first, in order, then the one that was freed the longest time ago: an address
//! that comes back soon meets stale connections and neighbor entries elsewhere. An address is taken
//! within its cool-down only when no other is left, since a pod that waits is worse; the caller is
//! told and logs it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use smoltcp::wire::{IpAddress, IpCidr};

/// Freed addresses that are remembered, per range. Of a range with more (every /64), the ones freed
/// first count as never used again; the cursor comes to them after it went through the whole range.
pub const FREED_MAX: usize = 4_096;
/// An address should rest so long before it is given out again, in seconds.
pub const COOL_DOWN: u64 = 120;

/// The pod range of one family, its gateway and what can be given out of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    network: IpCidr,
    first: u128,
    last: u128,
}

/// Why a pod range is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// Bits behind the prefix.
    #[error("podCIDRs: {0} has bits behind its prefix; write {1}")]
    HostBits(IpCidr, IpCidr),
    /// No room for a gateway and a pod.
    #[error("podCIDRs: {0} is too small: it must hold a gateway and at least one pod")]
    TooSmall(IpCidr),
    /// Not an address hosts can have.
    #[error("podCIDRs: {0} is no unicast range")]
    NotUnicast(IpCidr),
    /// Two ranges of a family.
    #[error("podCIDRs: {0} and {1} are of one family; give one range a family at most")]
    Twice(IpCidr, IpCidr),
}

fn number(address: IpAddress) -> u128 {
    match address {
        IpAddress::Ipv4(address) => u128::from(address.to_bits()),
        IpAddress::Ipv6(address) => address.to_bits(),
    }
}

impl Range {
    /// The range of a pod CIDR.
    ///
    /// # Errors
    /// See [`RangeError`].
    pub fn new(cidr: IpCidr) -> Result<Self, RangeError> {
        let width: u32 = if matches!(cidr, IpCidr::Ipv4(_)) { 32 } else { 128 };
        let host_bits = width - u32::from(cidr.prefix_len()).min(width);
        let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
        let base = number(cidr.address()) & mask;
        let unchecked = Self { network: cidr, first: base, last: base | !mask };
        let network = IpCidr::new(unchecked.address(base), cidr.prefix_len());
        if network != cidr {
            return Err(RangeError::HostBits(cidr, network));
        }
        // A gateway, one pod and, with IPv4, the network's own address and the broadcast.
        if host_bits < 2 {
            return Err(RangeError::TooSmall(cidr));
        }
        if !cidr.address().is_unicast() {
            return Err(RangeError::NotUnicast(cidr));
        }
        let broadcast = u128::from(width == 32);
        let last = base + ((1_u128 << host_bits.min(127)) - 1) - broadcast;
        Ok(Self { network, first: base + 2, last })
    }

    /// One range a family at most, IPv4 first.
    ///
    /// # Errors
    /// See [`RangeError`].
    pub fn all(cidrs: &[IpCidr]) -> Result<Vec<Self>, RangeError> {
        let mut ranges: Vec<Self> = Vec::new();
        for cidr in cidrs {
            let range = Self::new(*cidr)?;
            if let Some(other) = ranges.iter().find(|other| other.is_v6() == range.is_v6()) {
                return Err(RangeError::Twice(other.network, *cidr));
            }
            ranges.push(range);
        }
        ranges.sort_by_key(|range| range.is_v6());
        Ok(ranges)
    }

    /// The range as a CIDR.
    #[must_use]
    pub fn network(&self) -> IpCidr {
        self.network
    }

    /// The first address after the network's own: the gateway.
    #[must_use]
    pub fn gateway(&self) -> IpAddress {
        self.address(self.first - 1)
    }

    /// Whether it is an IPv6 range.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        matches!(self.network, IpCidr::Ipv6(_))
    }

    /// How many pods have room.
    #[must_use]
    pub fn capacity(&self) -> u128 {
        self.last - self.first + 1
    }

    /// An address with the prefix length of the range, as pods have it.
    #[must_use]
    pub fn cidr(&self, address: IpAddress) -> IpCidr {
        IpCidr::new(address, self.network.prefix_len())
    }

    fn address(&self, number: u128) -> IpAddress {
        match self.network {
            IpCidr::Ipv4(_) => {
                let [.., a, b, c, d] = number.to_be_bytes();
                IpAddress::Ipv4(Ipv4Addr::new(a, b, c, d))
            }
            IpCidr::Ipv6(_) => IpAddress::Ipv6(Ipv6Addr::from_bits(number)),
        }
    }
}

/// A freed address and when that was, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freed {
    /// The address.
    pub address: IpAddress,
    /// When it was freed.
    pub at: u64,
}

/// Why a requested address is refused: a clause that goes after key and value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not of this range.
    #[error("is outside of the node's pod range {0}")]
    Outside(IpCidr),
    /// The gateway.
    #[error("is the gateway of {0}")]
    Gateway(IpCidr),
    /// The first address of the range.
    #[error("is the network address of {0}")]
    Network(IpCidr),
    /// The last address of an IPv4 range.
    #[error("is the broadcast address of {0}")]
    Broadcast(IpCidr),
    /// Somebody has it.
    #[error("is in use")]
    InUse,
}

/// No address is left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no address is left in {range}: all {capacity} are in use")]
pub struct Full {
    /// The range.
    pub range: IpCidr,
    /// How many pods it has room for.
    pub capacity: u128,
}

/// The addresses of one range. An IPv6 /64 costs no more than its pods.
#[derive(Clone, Debug)]
pub struct Pool {
    range: Range,
    used: BTreeSet<u128>,
    /// By the order in which they were freed.
    freed: BTreeMap<u64, Freed>,
    freed_order: BTreeMap<u128, u64>,
    next_order: u64,
    cursor: u128,
}

impl Pool {
    /// All free, none ever used.
    #[must_use]
    pub fn new(range: Range) -> Self {
        Self {
            range,
            used: BTreeSet::new(),
            freed: BTreeMap::new(),
            freed_order: BTreeMap::new(),
            next_order: 0,
            cursor: range.first,
        }
    }

    /// Its range.
    #[must_use]
    pub fn range(&self) -> &Range {
        &self.range
    }

    /// Where the search for a never used address goes on. Kept over a restart with [`Pool::freed`].
    #[must_use]
    pub fn cursor(&self) -> IpAddress {
        self.range.address(self.cursor)
    }

    /// Sets the cursor; one outside of the range is ignored.
    pub fn set_cursor(&mut self, cursor: IpAddress) {
        if let Ok(number) = self.host(cursor) {
            self.cursor = number;
        }
    }

    /// Freed addresses, the one freed first in front.
    pub fn freed(&self) -> impl Iterator<Item = Freed> {
        self.freed.values().copied()
    }

    /// How many are in use.
    #[must_use]
    pub fn used(&self) -> usize {
        self.used.len()
    }

    /// The address the next pod gets, and when it was freed if ever.
    ///
    /// # Errors
    /// [`Full`].
    pub fn next(&self) -> Result<(IpAddress, Option<u64>), Full> {
        let known = u128::try_from(self.used.len() + self.freed.len()).unwrap_or(u128::MAX);
        if known < self.range.capacity() {
            let mut number = self.cursor;
            // Ends after as many steps as addresses are known, since one more exists.
            while self.used.contains(&number) || self.freed_order.contains_key(&number) {
                number = if number >= self.range.last { self.range.first } else { number + 1 };
            }
            return Ok((self.range.address(number), None));
        }
        match self.freed.first_key_value() {
            Some((_, freed)) => Ok((freed.address, Some(freed.at))),
            None => Err(Full { range: self.range.network, capacity: self.range.capacity() }),
        }
    }

    /// Whether a pod may ask for this address.
    ///
    /// # Errors
    /// Why not.
    pub fn requested(&self, address: IpAddress) -> Result<(), Refusal> {
        let number = self.host(address)?;
        if self.used.contains(&number) { Err(Refusal::InUse) } else { Ok(()) }
    }

    /// Takes an address that [`Pool::next`] or [`Pool::requested`] allowed, or one that an
    /// attachment from before a restart has. Returns whether it was free; outside of the range
    /// nothing is taken.
    pub fn take(&mut self, address: IpAddress) -> bool {
        let Ok(number) = self.host(address) else { return false };
        if !self.used.insert(number) {
            return false;
        }
        if let Some(order) = self.freed_order.remove(&number) {
            self.freed.remove(&order);
        }
        if number == self.cursor {
            self.cursor = if number >= self.range.last { self.range.first } else { number + 1 };
        }
        true
    }

    /// Gives an address back; from now on it is the last to be given out again.
    pub fn free(&mut self, freed: Freed) {
        let Ok(number) = self.host(freed.address) else { return };
        self.used.remove(&number);
        if let Some(before) = self.freed_order.insert(number, self.next_order) {
            self.freed.remove(&before);
        }
        self.freed.insert(self.next_order, freed);
        self.next_order += 1;
        if self.freed.len() > FREED_MAX
            && let Some((_, oldest)) = self.freed.pop_first()
        {
            self.freed_order.remove(&number_of(oldest));
        }
    }

    /// The number of an address that a pod can have.
    fn host(&self, address: IpAddress) -> Result<u128, Refusal> {
        let network = self.range.network;
        if !network.contains_addr(&address) {
            return Err(Refusal::Outside(network));
        }
        let number = number(address);
        if number == self.range.first - 1 {
            Err(Refusal::Gateway(network))
        } else if number < self.range.first {
            Err(Refusal::Network(network))
        } else if number > self.range.last {
            Err(Refusal::Broadcast(network))
        } else {
            Ok(number)
        }
    }
}

fn number_of(freed: Freed) -> u128 {
    number(freed.address)
}

#[cfg(test)]
mod tests;
