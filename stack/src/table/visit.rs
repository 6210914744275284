//! One walk over all state, for whoever wants to see it: the digest, the dump, and the snapshots of
//! issue 2.
//!
//! Every table appears in [`Tables::visit`] and nowhere else, so none can be forgotten by one of
//! them. Each item is a table's name, the item's key and its state, as numbers. Rows come in a
//! canonical order.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};

use super::Tables;
use crate::config::{PortKind, RouteTarget};
use crate::hash::Hasher;

/// Takes one item after the other.
pub trait Sink {
    /// An item of `table`: its key and state in `words`.
    fn item(&mut self, table: &'static str, words: &[u64]);
}

fn mac(words: &mut Vec<u64>, address: EthernetAddress) {
    let [a, b, c, d, e, f] = address.0;
    words.push(u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
}

fn ip(words: &mut Vec<u64>, address: &IpAddress) {
    match address {
        IpAddress::Ipv4(v4) => words.extend([4, 0, u64::from(u32::from(*v4))]),
        IpAddress::Ipv6(v6) => {
            let bytes = u128::from(*v6).to_be_bytes();
            let (high, low) = bytes.split_at(8);
            let half = |half: &[u8]| half.iter().fold(0_u64, |sum, b| (sum << 8) | u64::from(*b));
            words.extend([6, half(high), half(low)]);
        }
    }
}

fn cidr(words: &mut Vec<u64>, prefix: &IpCidr) {
    ip(words, &prefix.address());
    words.push(u64::from(prefix.prefix_len()));
}

fn kind(kind: PortKind) -> u64 {
    match kind {
        PortKind::Pod => 0,
        PortKind::Host => 1,
        PortKind::Endpoint(id) => 2 + (u64::from(id.0) << 8),
    }
}

impl Tables {
    /// Shows every item of every table, counters included.
    pub fn visit(&self, sink: &mut dyn Sink) {
        // Destructured without `..`: a new table does not compile until it is shown here. FDB and
        // neighbors follow from the ports' configuration, the limits are no state.
        let Self { limits: _, node, complete, epoch, ports: _, fdb: _, neighbors: _, fib, gone } =
            self;
        let mut words = Vec::new();
        mac(&mut words, node.gateway_mac);
        for gateway in [node.gateway4.map(IpCidr::Ipv4), node.gateway6.map(IpCidr::Ipv6)] {
            match gateway {
                Some(prefix) => cidr(&mut words, &prefix),
                None => words.push(0),
            }
        }
        for address in &node.addresses {
            ip(&mut words, address);
        }
        words.push(u64::from(node.vxlan_port));
        sink.item("node", &words);
        sink.item("state", &[u64::from(*complete), *epoch]);
        self.visit_ports(sink);
        for route in fib.routes() {
            words.clear();
            cidr(&mut words, &route.prefix);
            match route.target {
                RouteTarget::Connected => words.push(0),
                RouteTarget::Port(port) => words.extend([1, u64::from(port.0)]),
                RouteTarget::Blackhole => words.push(2),
            }
            sink.item("route", &words);
        }
        sink.item("gone", &gone.words());
    }

    fn visit_ports(&self, sink: &mut dyn Sink) {
        let mut ports: Vec<&super::Port> = self.ports.iter().map(|(_, port)| port).collect();
        ports.sort_by_key(|port| port.config.id);
        for port in ports {
            let config = &port.config;
            let mut words = Vec::new();
            words.extend([u64::from(config.id.0), kind(config.kind), u64::from(config.mtu)]);
            words.push(u64::from(config.up));
            mac(&mut words, config.mac);
            words.push(config.addresses.len() as u64);
            for address in &config.addresses {
                ip(&mut words, address);
            }
            for prefix in &config.allowed {
                cidr(&mut words, prefix);
            }
            sink.item("port", &words);
            let id = u64::from(config.id.0);
            sink.item("buckets", &[id, port.errors.word(), port.floods.word()]);
            let mut counts = port.counters.words();
            counts.insert(0, id);
            sink.item("counters", &counts);
        }
    }

    /// The digest of all state: the sum of the items' keyed hashes, so it does not depend on their
    /// order.
    #[must_use]
    pub fn digest(&self) -> u64 {
        struct Sum(u64);
        impl Sink for Sum {
            fn item(&mut self, table: &'static str, words: &[u64]) {
                let mut hasher = Hasher::new(0x686f_7073_636f_7065);
                hasher.bytes(table.as_bytes());
                for word in words {
                    hasher.number(*word);
                }
                self.0 = self.0.wrapping_add(hasher.finish());
            }
        }
        let mut sum = Sum(0);
        self.visit(&mut sum);
        sum.0
    }

    /// All state as text, one item a line, in canonical order.
    #[must_use]
    pub fn dump(&self) -> String {
        struct Text(String);
        impl Sink for Text {
            fn item(&mut self, table: &'static str, words: &[u64]) {
                self.0.push_str(table);
                for word in words {
                    // Writing to a String cannot fail.
                    let _infallible = write!(self.0, " {word:x}");
                }
                self.0.push('\n');
            }
        }
        let mut text = Text(String::new());
        self.visit(&mut text);
        text.0
    }
}
