//! A real switch, its walks shown to rules.

use proptest::prelude::*;
use smoltcp::wire::Ipv4Address;
use stack::wire::build::Ip;
use stack::wire::build::flags::FIN;
use stack::{EndpointId, Input};

use super::*;
use crate::capture::world::{A, B, C, GATEWAY, HOST, World, bridged, mac, routed, v4, v6};
use crate::triggers::grammar;

const SECOND: u64 = 1_000_000_000;
/// The node's own address.
const NODE: Ipv4Address = Ipv4Address::new(192, 0, 2, 10);
/// An address that no pod has.
const NOBODY: Ipv4Address = Ipv4Address::new(10, 1, 0, 200);

struct Bed {
    switch: Switch,
    watcher: Watcher,
    now: Instant,
}

impl Bed {
    fn new(rules: &[&str]) -> Self {
        let rules = rules.iter().map(|text| Rule::new(grammar::parse(text).unwrap())).collect();
        let mut watcher = Watcher::new(rules, 5);
        for (port, name) in [(HOST, "host"), (A, "pod/demo/a"), (B, "pod/demo/b")] {
            watcher.name(port, name);
        }
        Self { switch: World::new().switch, watcher, now: Instant(100 * SECOND) }
    }

    /// Puts a frame in, and what an endpoint is to receive after it.
    fn put(&mut self, port: PortId, bytes: &[u8]) -> Vec<Fired> {
        let mut out = Outbox::default();
        let frame = Frame::from_bytes(bytes);
        self.switch.input(self.now, Input::Frame { port, frame }, &mut out);
        self.watcher.see(self.now, &self.switch, &out);
        for (endpoint, frame) in std::mem::take(&mut out.deliveries) {
            assert_eq!(endpoint, EndpointId(0));
            out.clear();
            self.switch.input(self.now, Input::Deliver { endpoint, frame }, &mut out);
            self.watcher.see(self.now, &self.switch, &out);
        }
        self.watcher.take_fired().collect()
    }

    fn wait(&mut self, millis: u64) -> Vec<Fired> {
        self.now = self.now + Duration::from_millis(millis);
        self.watcher.expire(self.now);
        self.watcher.take_fired().collect()
    }

    fn counts(&self, rule: usize) -> Counts {
        self.watcher.counts().nth(rule).unwrap()
    }
}

fn between(from: PortId, to: PortId) -> Ip {
    bridged(from, to).ipv4(v4(from), v4(to))
}

/// From the node to a pod's address.
fn node_to(address: Ipv4Address) -> Ip {
    routed(HOST).ipv4(NODE, address)
}

fn syn(ip: Ip, ports: (u16, u16)) -> Vec<u8> {
    ip.tcp(ports, SYN, 1, 0, &[])
}

fn spoofed() -> Vec<u8> {
    bridged(A, B).ipv4(Ipv4Address::new(10, 1, 0, 77), v4(B)).udp(1, 2, b"x")
}

fn one(fired: Vec<Fired>) -> Fired {
    let [fired] = <[Fired; 1]>::try_from(fired).unwrap();
    fired
}

#[test]
fn drops_fire_by_reason_class_port_and_address() {
    for (rule, fires) in [
        ("drop", true),
        ("drop reason=SourceIpSpoofed", true),
        ("drop reason=NoRoute,SourceIpSpoofed", true),
        ("drop reason=SourceMacSpoofed", false),
        ("drop class=spoofed", true),
        ("drop class=bug reason=NoRoute", false),
        ("drop port=demo/a", true),
        ("drop port=demo/b", false),
        ("drop port=demo/gone", false),
        ("drop address=10.1.0.77", true),
        ("drop address=10.1.0.3", true),
        ("drop address=10.1.0.2", false),
    ] {
        let mut bed = Bed::new(&[rule]);
        assert_eq!(bed.put(A, &between(A, B).udp(1, 2, b"x")), [], "{rule}");
        let fired = bed.put(A, &spoofed());
        assert_eq!(fired.len(), usize::from(fires), "{rule}");
        if let Some(fired) = fired.first() {
            let What::Stopped(DropReason::SourceIpSpoofed, window) = &fired.what else {
                panic!("{fired:?}")
            };
            assert_eq!(window.bytes(), spoofed());
            assert_eq!((fired.ingress, fired.walk, fired.at), (A, 2, bed.now));
        }
    }
}

#[test]
fn an_error_of_the_switch_counts_as_a_drop_and_bytes_that_do_not_parse_too() {
    let mut bed = Bed::new(&["drop reason=NeighborFailed", "drop class=malformed"]);
    let fired = one(bed.put(HOST, &syn(node_to(NOBODY), (4_000, 80))));
    assert!(matches!(fired.what, What::Stopped(DropReason::NeighborFailed, _)), "{fired:?}");
    let fired = one(bed.put(A, &[0; 9]));
    assert_eq!(fired.rule, 1);
    let mut bed = Bed::new(&["drop address=10.1.0.2"]);
    assert_eq!(bed.put(A, &[0; 9]), [], "who knows whose that was");
}

#[test]
fn a_reset_fires_whoever_sends_it() {
    let mut bed = Bed::new(&["rst port=demo/b"]);
    let reset = |from, to| between(from, to).tcp((80, 4_000), RST | ACK, 0, 2, &[]);
    assert_eq!(bed.put(A, &between(A, B).tcp((1, 2), FIN | ACK, 1, 1, &[])), []);
    assert_eq!(bed.put(A, &reset(A, C)), [], "not by that port");
    let fired = one(bed.put(A, &reset(A, B)));
    assert!(matches!(fired.what, What::Reset(_)), "{fired:?}");
    // The gateway's own.
    let mut bed = Bed::new(&["rst"]);
    let gateway = routed(A).ipv4(v4(A), v4(PortId(1)));
    let fired = one(bed.put(A, &syn(gateway, (4_000, 80))));
    assert_eq!((fired.ingress, fired.walk), (GATEWAY, 2));
}

#[test]
fn a_request_without_an_answer_fires_when_its_time_is_over() {
    let mut bed = Bed::new(&["no-answer 2s udp/53"]);
    let ask = |ports| between(A, B).udp(ports, 53, b"?");
    let answer = |to, port| between(B, to).udp(53, port, b"!");
    assert_eq!(bed.put(A, &ask(1_000)), []);
    assert_eq!(bed.put(A, &ask(1_001)), []);
    assert_eq!(bed.put(A, &between(A, B).udp(1_002, 54, b"?")), []);
    assert_eq!(bed.wait(1_000), []);
    // Of these one is an answer, the others are to another port, and to another pod.
    for answer in [answer(A, 1_001), answer(A, 1_009), answer(C, 1_000)] {
        assert_eq!(bed.put(B, &answer), []);
    }
    // A spoofed answer is none: the switch drops it.
    let forged = bridged(C, A).ipv4(v4(B), v4(A)).udp(53, 1_000, b"!");
    assert_eq!(bed.put(C, &forged), []);
    assert_eq!(bed.watcher.due(), Some(Instant(102 * SECOND)));
    assert_eq!(bed.wait(999), []);
    let fired = one(bed.wait(1));
    assert_eq!((fired.began, fired.at), (Instant(100 * SECOND), Instant(102 * SECOND)));
    let What::Unanswered(flow) = fired.what else { panic!("{fired:?}") };
    assert_eq!((flow.src, flow.dst), ((v4(A).into(), 1_000), (v4(B).into(), 53)));
    assert_eq!((fired.walk, fired.ingress, bed.watcher.due()), (1, A, None));
}

#[test]
fn a_syn_is_a_request_and_a_reset_an_answer() {
    let mut bed = Bed::new(&["no-answer 500ms tcp/80", "no-answer 2s tcp/80 address=10.1.0.4"]);
    let back = |flags| between(B, A).tcp((80, 4_000), flags, 0, 2, &[]);
    for answer in [back(SYN | ACK), back(RST | ACK)] {
        bed.put(A, &syn(between(A, B), (4_000, 80)));
        bed.put(B, &answer);
        assert_eq!(bed.wait(600), []);
    }
    // Sent again it waits no longer; an acknowledgment alone is no answer to it.
    bed.put(A, &syn(between(A, B), (4_000, 80)));
    assert_eq!(bed.wait(400), []);
    bed.put(A, &syn(between(A, B), (4_000, 80)));
    bed.put(B, &back(ACK));
    assert_eq!(one(bed.wait(100)).rule, 0);
    // Two rules, each in its time.
    bed.put(A, &syn(between(A, C), (4_000, 80)));
    let suppressed = bed.counts(0).suppressed;
    assert_eq!(bed.wait(1_000), [], "the first has fired within a minute");
    assert_eq!(bed.counts(0).suppressed, suppressed + 1);
    assert_eq!(one(bed.wait(1_000)).rule, 1);
}

#[test]
fn a_probe_fails_in_three_ways() {
    let six = routed(HOST).ipv6("2001:db8::10".parse().unwrap(), v6(A));
    let refusal = |what: &What| match what {
        What::Refused(_, refusal) => Some(*refusal),
        What::Unanswered(_) | What::Stopped(..) | What::Reset(_) => None,
    };
    for probe in [syn(node_to(v4(A)), (4_000, 80)), syn(six, (4_000, 80))] {
        let mut bed = Bed::new(&["probe-failed"]);
        assert_eq!(bed.put(HOST, &probe), []);
        let fired = one(bed.wait(1_000));
        assert!(matches!(fired.what, What::Unanswered(_)), "{fired:?}");
    }
    let answer = |flags| routed(A).ipv4(v4(A), NODE).tcp((80, 4_000), flags, 0, 2, &[]);
    let probe = syn(node_to(v4(A)), (4_000, 80));
    let mut bed = Bed::new(&["probe-failed"]);
    bed.put(HOST, &probe);
    assert_eq!(bed.put(A, &answer(SYN | ACK)), []);
    assert_eq!(bed.wait(5_000), []);
    bed.put(HOST, &probe);
    let fired = one(bed.put(A, &answer(RST | ACK)));
    assert_eq!(refusal(&fired.what), Some(Refusal::Rst));
    // An ICMP error of the pod's own firewall.
    let mut bed = Bed::new(&["probe-failed"]);
    bed.put(HOST, &probe);
    let quoted = probe.get(14..).unwrap();
    let error = routed(A).ipv4(v4(A), NODE).icmp(3, 10, [0; 4], quoted);
    let fired = one(bed.put(A, &error));
    assert_eq!(refusal(&fired.what), Some(Refusal::Icmp));
    // The switch's own.
    let mut bed = Bed::new(&["probe-failed"]);
    let fired = one(bed.put(HOST, &syn(node_to(NOBODY), (4_000, 80))));
    assert_eq!(refusal(&fired.what), Some(Refusal::Switch(DropReason::NeighborFailed)));
}

#[test]
fn only_the_node_itself_probes() {
    let mut bed = Bed::new(&["probe-failed", "probe-failed port=demo/b"]);
    bed.put(A, &syn(between(A, B), (4_000, 80)));
    // Forwarded by the node, from elsewhere.
    let elsewhere = routed(HOST).ipv4(Ipv4Address::new(198, 51, 100, 7), v4(A));
    bed.put(HOST, &syn(elsewhere, (4_000, 80)));
    // No SYN.
    bed.put(HOST, &node_to(v4(A)).tcp((4_000, 80), ACK, 1, 1, &[]));
    bed.put(HOST, &node_to(v4(A)).udp(4_000, 80, b"x"));
    assert_eq!(bed.wait(2_000), []);
    // An ICMP error is no answer for others, and a pod's word about nobody's flow is nothing.
    let mut bed = Bed::new(&["no-answer 2s tcp/80", "probe-failed"]);
    let asked = syn(between(A, B), (4_000, 80));
    bed.put(A, &asked);
    let error = between(B, A).icmp(3, 3, [0; 4], asked.get(14..).unwrap());
    assert_eq!(bed.put(B, &error), []);
    assert_eq!(one(bed.wait(2_000)).rule, 0);
}

#[test]
fn only_the_first_of_many_fires_within_its_time() {
    let mut bed = Bed::new(&["drop class=spoofed", "drop"]);
    let fired: Vec<Fired> = (0..100).flat_map(|_| bed.put(A, &spoofed())).collect();
    assert_eq!(fired.iter().map(|fired| fired.rule).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(bed.counts(0), Counts { fired: 1, suppressed: 99, given_up: 0 });
    bed.wait(59_999);
    assert_eq!(bed.put(A, &spoofed()), []);
    bed.wait(1);
    assert_eq!(bed.put(A, &spoofed()).len(), 2);
    // What fired before this process began counts.
    let mut bed = Bed::new(&["drop"]);
    bed.watcher.fired_before(0, Instant(70 * SECOND));
    assert_eq!(bed.put(A, &spoofed()), []);
    bed.wait(30_000);
    assert_eq!(bed.put(A, &spoofed()).len(), 1);
}

#[test]
fn a_flood_of_requests_takes_no_memory_and_is_told() {
    let mut bed = Bed::new(&["no-answer 10m udp/53"]);
    for port in 1_024..6_024 {
        bed.put(A, &between(A, B).udp(port, 53, b"?"));
    }
    let given_up = bed.counts(0).given_up;
    assert!(given_up >= 5_000 - 1_024, "{given_up}");
    let fired = bed.wait(600_000);
    assert_eq!(fired.len(), 1);
    assert_eq!(bed.counts(0).suppressed + 1 + given_up, 5_000, "each is one or the other");
    assert_eq!(bed.watcher.due(), None);
}

#[test]
fn a_pod_that_comes_back_under_its_name_is_watched() {
    let mut bed = Bed::new(&["drop port=demo/c"]);
    let spoofed = bridged(C, B).ipv4(Ipv4Address::new(10, 1, 0, 77), v4(B)).udp(1, 2, b"x");
    assert_eq!(bed.put(C, &spoofed), [], "nobody has told its name");
    bed.watcher.name(C, "pod/demo/c");
    assert_eq!(bed.put(C, &spoofed).len(), 1);
    assert_eq!(mac(C).0[5], 4);
}

proptest! {
    /// Whatever comes and whenever: a rule never fires more often than it may.
    #[test]
    fn no_rule_fires_too_often(
        steps in proptest::collection::vec((0..6_u8, 0..3_u16, 0..40_000_u64), 1..300),
    ) {
        let rules = ["drop", "rst", "no-answer 2s udp/53", "probe-failed", "drop class=spoofed"];
        let mut bed = Bed::new(&rules);
        let mut fired: Vec<Fired> = Vec::new();
        for (step, n, millis) in steps {
            fired.extend(bed.wait(millis));
            let (port, bytes) = match step {
                0 => (A, spoofed()),
                1 => (A, between(A, B).tcp((1, n), RST, 0, 0, &[])),
                2 => (A, between(A, B).udp(1_000 + n, 53, b"?")),
                3 => (B, between(B, A).udp(53, 1_000 + n, b"!")),
                4 => (HOST, syn(node_to(v4(A)), (4_000 + n, 80))),
                _ => (HOST, syn(node_to(NOBODY), (4_000 + n, 80))),
            };
            fired.extend(bed.put(port, &bytes));
        }
        for rule in 0..rules.len() {
            let times: Vec<u64> =
                fired.iter().filter(|fired| fired.rule == rule).map(|fired| fired.at.0).collect();
            prop_assert!(times.windows(2).all(|pair| pair[1] - pair[0] >= 60 * SECOND));
            prop_assert_eq!(times.len() as u64, bed.counts(rule).fired);
        }
    }
}
