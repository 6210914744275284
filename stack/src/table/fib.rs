//! The FIB: prefix to route, by longest prefix; rebuilt whole on each change.

use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, IpCidr};

use super::lpm::{Lpm, Prefix};
use crate::config::{Route, RouteTarget};

/// A route that covers a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Bits of its prefix.
    pub prefix_len: u8,
    /// Where it leads.
    pub target: RouteTarget,
}

/// Routes of both families.
#[derive(Clone, Debug, Default)]
pub struct Fib {
    routes: Vec<Route>,
    v4: Lpm<Entry>,
    v6: Lpm<Entry>,
}

fn point(address: &IpAddress) -> (u128, u8) {
    match address {
        IpAddress::Ipv4(v4) => (u128::from(u32::from(*v4)), 32),
        IpAddress::Ipv6(v6) => (u128::from(*v6), 128),
    }
}

impl Fib {
    /// Builds it. Prefixes are unique: the caller checked.
    #[must_use]
    pub fn build(mut routes: Vec<Route>) -> Self {
        routes.sort_by_key(|route| (route.prefix.address(), route.prefix.prefix_len()));
        let of_width = |width: u8| -> Vec<(Prefix, Entry)> {
            routes
                .iter()
                .filter_map(|route| {
                    let (address, own) = point(&route.prefix.address());
                    let bits = route.prefix.prefix_len();
                    let entry = Entry { prefix_len: bits, target: route.target };
                    (own == width).then_some((Prefix { address, bits, width }, entry))
                })
                .collect()
        };
        let (v4, v6) = (Lpm::build(&of_width(32)), Lpm::build(&of_width(128)));
        Self { routes, v4, v6 }
    }

    /// The route of the longest prefix that covers `address`.
    #[must_use]
    #[inline]
    pub fn lookup(&self, address: &IpAddress) -> Option<Entry> {
        let (key, width) = point(address);
        if width == 32 { self.v4.lookup(key) } else { self.v6.lookup(key) }
    }

    /// All routes, in the order of their prefixes.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The first prefix that occurs twice.
    #[must_use]
    pub fn duplicate(routes: &[Route]) -> Option<IpCidr> {
        let mut prefixes: Vec<IpCidr> = routes.iter().map(|route| network(&route.prefix)).collect();
        prefixes.sort_unstable_by_key(|prefix| (prefix.address(), prefix.prefix_len()));
        prefixes.windows(2).find_map(|pair| match pair {
            [a, b] if a == b => Some(*a),
            _ => None,
        })
    }
}

/// The prefix with the bits behind it cleared.
fn network(prefix: &IpCidr) -> IpCidr {
    let bits = u32::from(prefix.prefix_len());
    match prefix.address() {
        IpAddress::Ipv4(v4) => {
            let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
            IpCidr::new(IpAddress::Ipv4((u32::from(v4) & mask).into()), prefix.prefix_len())
        }
        IpAddress::Ipv6(v6) => {
            let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
            IpCidr::new(IpAddress::Ipv6((u128::from(v6) & mask).into()), prefix.prefix_len())
        }
    }
}
