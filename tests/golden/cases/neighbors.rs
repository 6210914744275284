//! ARP, neighbor discovery, and what goes to everybody.

use stack::config::link_local;
use stack::wire::build::{solicited_node, solicited_node_mac};

use super::*;

pub(super) const CASES: &[Input] = &[
    ("arp_is_answered_for_pods_and_the_gateway", arp),
    ("neighbor_discovery_is_answered_for_pods_and_the_gateway", discovery),
    ("a_duplicate_address_is_found_by_its_probes", duplicate),
    ("a_broadcast_reaches_every_other_pod", broadcast),
];

const ALL: EthernetAddress = EthernetAddress::BROADCAST;

fn who_has(n: u8, target: Ipv4Address) -> Vec<u8> {
    from(n, ALL).arp(true, (mac(n), v4(n)), (NOBODY, target))
}

fn arp() -> Vec<Seen> {
    let node = from(250, ALL).arp(true, (mac(250), NODE4), (NOBODY, v4(1)));
    script([
        (A, who_has(2, v4(3))),
        (A, who_has(2, v4(1))),
        (B, who_has(3, v4(2))),
        (A, who_has(2, v4(77))),
        (NODE, node),
        (A, from(2, ALL).arp(true, (mac(2), v4(2)), (NOBODY, v4(2)))),
    ])
}

fn discovery() -> Vec<Seen> {
    let ask = |src, target| from(2, solicited_node_mac(target)).neighbor_solicit(src, target);
    let own = link_local(mac(2));
    script([
        (A, ask(v6(2), v6(3))),
        (A, ask(v6(2), v6(1))),
        (A, ask(own, link_local(mac(3)))),
        (A, ask(own, link_local(NodeConfig::GATEWAY_MAC))),
        (A, ask(v6(2), v6(77))),
    ])
}

fn duplicate() -> Vec<Seen> {
    let probe4 =
        |target| from(2, ALL).arp(true, (mac(2), Ipv4Address::UNSPECIFIED), (NOBODY, target));
    let probe6 = |target| {
        from(2, solicited_node_mac(target)).neighbor_solicit(Ipv6Address::UNSPECIFIED, target)
    };
    script([(A, probe4(v4(3))), (A, probe4(v4(2))), (A, probe6(v6(3))), (A, probe6(v6(2)))])
}

fn broadcast() -> Vec<Seen> {
    let group = Ipv4Address::new(224, 0, 0, 251);
    let link = from(3, EthernetAddress([1, 0, 0x5e, 0, 0, 251]));
    let node = from(3, solicited_node_mac(v6(9)));
    script([
        (A, from(2, ALL).ipv4(v4(2), Ipv4Address::BROADCAST).udp(9, 9, b"wake up")),
        (A, from(2, ALL).ipv4(v4(2), v4(255)).udp(9, 9, b"wake up")),
        (B, link.ipv4(v4(3), group).hop_limit(1).udp(5_353, 5_353, b"mdns")),
        (B, node.ipv6(v6(3), solicited_node(v6(9))).udp(5_353, 5_353, b"mdns")),
        (NODE, from(250, ALL).ipv4(NODE4, Ipv4Address::BROADCAST).udp(9, 9, b"node")),
    ])
}

/// Four broadcasts at once where two are allowed, one more when time has passed.
pub(super) fn storm() -> Vec<Seen> {
    let shout = || from(2, ALL).ipv4(v4(2), Ipv4Address::BROADCAST).udp(9, 9, b"storm");
    let quiet = || from(3, ALL).ipv4(v4(3), Ipv4Address::BROADCAST).udp(9, 9, b"other");
    let mut seen = script([(A, shout()), (A, shout()), (A, shout()), (A, shout()), (B, quiet())]);
    let mut later = script([(A, shout()), (A, shout())]);
    for frame in &mut later {
        frame.time = Instant(frame.time.0 + 1_500_000);
    }
    seen.append(&mut later);
    seen
}
