//! When connections begin, change their backend and end; and that there is room for others.

use super::*;
use crate::table::conntrack::Side;

/// A UDP Service and a connection to its first backend, answered.
fn answered(family: &Family, backends: &[Backend]) -> (Bed, (IpAddress, u16)) {
    let mut bed = bed(vec![service(family, ServiceProtocol::Udp, backends)]);
    bed.udp(A, (family.pods[0], 40_000), (family.vip, 80));
    let chosen = bed.left().1.dst;
    (bed, chosen)
}

#[test]
fn udp_of_a_backend_that_is_gone_is_led_to_another_at_once() {
    // SVC-09, conformance.md 3.5.
    for family in families() {
        let both = [backend(family.pods[1], true), backend(family.pods[2], true)];
        let (mut bed, chosen) = answered(&family, &both);
        let rest: Vec<Backend> =
            both.iter().copied().filter(|other| other.address != chosen.0).collect();
        bed.udp(A, (family.pods[0], 40_000), (family.vip, 80));
        assert_eq!(bed.left().1.dst, chosen, "no connection moves while its backend lives");
        let changed = service(&family, ServiceProtocol::Udp, &rest);
        assert!(bed.change(Change::Service(changed)).is_empty());
        bed.udp(A, (family.pods[0], 40_000), (family.vip, 80));
        assert_eq!(bed.left().1.dst.0, rest[0].address);
        assert_eq!(bed.connections(), 1, "one in place of the other");
    }
}

#[test]
fn udp_of_a_service_that_is_gone_ends_with_it() {
    // SVC-08.
    for family in families() {
        let (mut bed, _) = answered(&family, &[backend(family.pods[1], true)]);
        let id = service(&family, ServiceProtocol::Udp, &[]).id;
        assert!(bed.change(Change::ServiceRemoved(id)).is_empty());
        let verdict = bed.udp(A, (family.pods[0], 40_000), (family.vip, 80));
        assert_eq!(verdict, Verdict::Drop(DropReason::ServiceAddressUnallocated));
    }
}

#[test]
fn udp_that_was_led_nowhere_finds_a_service_that_came() {
    // SVC-10: an external address that no Service had yet.
    for family in families() {
        let mut bed = bed(vec![]);
        let client = (family.pods[0], 40_000);
        assert_eq!(bed.udp(A, client, (family.balancer, 80)), Verdict::Forward(HOST));
        let service = service(&family, ServiceProtocol::Udp, &[backend(family.pods[1], true)]);
        assert!(bed.change(Change::Service(service)).is_empty());
        assert_eq!(bed.udp(A, client, (family.balancer, 80)), Verdict::Forward(B));
    }
}

#[test]
fn tcp_goes_on_with_a_backend_that_is_gone_and_begins_with_another() {
    // SVC-09: left to die. DESIGN 8: a SYN on a closed connection chooses anew.
    for family in families() {
        let mut bed =
            bed(vec![service(&family, ServiceProtocol::Tcp, &[backend(family.pods[1], true)])]);
        let client = (family.pods[0], 40_000);
        bed.tcp(A, client, (family.vip, 80), SYN);
        let reply = |flags| {
            ip(between(3, mac(2)), family.pods[1], family.pods[0]).tcp(
                (8_080, 40_000),
                flags,
                5_000,
                1_001,
                b"",
            )
        };
        bed.send(B, &reply(SYN | ACK));
        bed.tcp(A, client, (family.vip, 80), ACK);
        let other = service(&family, ServiceProtocol::Tcp, &[backend(family.pods[2], true)]);
        assert!(bed.change(Change::Service(other)).is_empty());
        assert_eq!(bed.tcp(A, client, (family.vip, 80), ACK), Verdict::Forward(B));
        let reset = ip(between(3, mac(2)), family.pods[1], family.pods[0]);
        bed.send(B, &reset.tcp((8_080, 40_000), 0x14, 5_001, 1_001, b""));
        assert_eq!(bed.left().1.src, (family.vip, 80), "the reset is translated as well");
        assert_eq!(bed.tcp(A, client, (family.vip, 80), SYN), Verdict::Forward(C));
        assert_eq!(bed.connections(), 1);
    }
}

#[test]
fn an_address_that_went_to_another_pod_takes_no_connections_with_it() {
    let [family, _] = families();
    let mut bed = bed(vec![]);
    bed.udp(A, (family.pods[0], 40_000), (family.outside, 53));
    let first = bed.left().1.src;
    let next = PortId(9);
    let moved = PortConfig { id: next, ..pod(A, 2, 1_500) };
    let change = Change::All(vec![Change::PortRemoved(A), Change::Port(moved)]);
    assert!(bed.change(change).is_empty());
    let frame = ip(between(2, GATEWAY), family.pods[0], family.outside).udp(40_000, 53, b"x");
    assert_eq!(bed.send(next, &frame), Verdict::Forward(HOST));
    let connection = bed.switch.tables().connections().iter().next().unwrap().1;
    assert_eq!(connection.port(Side::Originator), next, "a connection of its own");
    assert_eq!(bed.left().1.src.0, first.0);
    assert_eq!(bed.connections(), 1);
}

#[test]
fn what_another_pod_left_behind_is_no_room_for_more() {
    let [family, _] = families();
    let limits = Limits { pod_connections_max: 2, ..Limits::default() };
    let mut bed = limited(limits);
    bed.udp(A, (family.pods[0], 40_000), (family.outside, 53));
    let next = PortId(9);
    let moved = PortConfig { id: next, ..pod(A, 2, 1_500) };
    let change = Change::All(vec![Change::PortRemoved(A), Change::Port(moved)]);
    assert!(bed.change(change).is_empty());
    let send = |bed: &mut Bed, client_port| {
        let frame = ip(between(2, GATEWAY), family.pods[0], family.outside);
        bed.send(next, &frame.udp(client_port, 53, b"x"))
    };
    for client_port in [50_000, 50_001] {
        assert_eq!(send(&mut bed, client_port), Verdict::Forward(HOST));
        let outer = bed.left().1.src;
        assert_eq!(bed.udp(HOST, (family.outside, 53), outer), Verdict::Forward(next));
        assert_eq!(send(&mut bed, client_port), Verdict::Forward(HOST), "answered, so it stays");
    }
    let full = Verdict::Drop(DropReason::PodConnectionsFull);
    assert_eq!(send(&mut bed, 40_000), full);
    assert_eq!(send(&mut bed, 50_000), Verdict::Forward(HOST), "one that is there");
}

#[test]
fn udp_finds_the_pod_that_came_in_its_backends_place() {
    // Who goes on asking would keep the connection, and hear nothing: the answers are another's.
    const FRESH: PortId = PortId(99);
    for family in families() {
        let (mut bed, chosen) = answered(&family, &[backend(family.pods[1], true)]);
        let reply = ip(between(3, mac(2)), chosen.0, family.pods[0]).udp(8_080, 40_000, b"x");
        assert_eq!(bed.send(B, &reply), Verdict::Forward(A));
        let mut pod = bed.switch.config().ports.into_iter().find(|port| port.id == B).unwrap();
        pod.id = FRESH;
        let moved = vec![Change::PortRemoved(B), Change::Port(pod)];
        assert_eq!(bed.change(Change::All(moved)), []);
        bed.udp(A, (family.pods[0], 40_000), (family.vip, 80));
        let (egress, left) = bed.left();
        assert_eq!((egress, left.dst), (FRESH, chosen));
        assert_eq!(bed.connections(), 1, "one in place of the other");
        assert_eq!(bed.send(FRESH, &reply), Verdict::Forward(A));
        assert_eq!(bed.left().1.src, (family.vip, 80));
    }
}

#[test]
fn a_connection_past_its_deadline_is_absent_and_its_room_is_given_back() {
    // 4787-5 with Linux's values, which DESIGN 8 declares: 30 s unreplied, 120 s replied.
    let [family, _] = families();
    let mut bed = bed(vec![]);
    let client = (family.pods[0], 40_000);
    bed.udp(A, client, (family.outside, 53));
    let outer = bed.left().1.src;
    bed.wait(Duration(Duration::from_secs(30).0 - 1));
    assert_eq!(bed.udp(HOST, (family.outside, 53), outer), Verdict::Forward(A));
    bed.wait(Duration(Duration::from_secs(120).0 - 1));
    assert_eq!(bed.udp(HOST, (family.outside, 53), outer), Verdict::Forward(A));
    bed.wait(Duration::from_secs(120));
    // 4787-6: nobody is let in any more.
    assert_eq!(bed.udp(HOST, (family.outside, 53), outer), Verdict::Forward(HOST));
    assert_eq!(bed.connections(), 1);
    let due = bed.switch.poll_at().expect("there is something to sweep");
    assert!(due <= bed.now + Duration::from_secs(1));
    bed.now = bed.now.max(due);
    bed.switch.input(bed.now, Input::Tick, &mut bed.out);
    assert_eq!(bed.connections(), 0);
    assert_eq!(bed.switch.poll_at(), None, "a silent switch asks for nothing");
}

#[test]
fn a_pod_that_begins_too_much_harms_itself_only() {
    let [family, _] = families();
    let limits = Limits { connections_max: 64, pod_connections_max: 8, ..Limits::default() };
    let mut bed = limited(limits);
    // B has a connection that was answered.
    bed.udp(B, (family.pods[1], 50_000), (family.outside, 53));
    let outer = bed.left().1.src;
    bed.udp(HOST, (family.outside, 53), outer);
    bed.udp(B, (family.pods[1], 50_000), (family.outside, 53));
    // A floods: those that were never answered make room for the new ones.
    for port in 0..1_000 {
        let verdict = bed.tcp(A, (family.pods[0], 1_024 + port), (family.outside, 80), SYN);
        assert_eq!(verdict, Verdict::Forward(HOST));
        assert!(bed.connections() <= 9);
    }
    assert_eq!(bed.udp(HOST, (family.outside, 53), outer), Verdict::Forward(B));
}

#[test]
fn what_a_pod_began_in_one_family_makes_room_in_the_other() {
    let [four, six] = families();
    let limits = Limits { connections_max: 64, pod_connections_max: 8, ..Limits::default() };
    let mut bed = limited(limits);
    let open = |bed: &mut Bed, family: &Family, port| {
        bed.tcp(A, (family.pods[0], port), (family.outside, 80), SYN)
    };
    for (one, other) in [(&four, &six), (&six, &four)] {
        for port in 1_024..1_064 {
            assert_eq!(open(&mut bed, one, port), Verdict::Forward(HOST));
        }
        assert_eq!(open(&mut bed, other, 40_000), Verdict::Forward(HOST));
        assert_eq!(bed.connections(), 8);
    }
    // Where the other family's table is full, one of this family is no room.
    let limits = Limits { connections_max: 8, pod_connections_max: 8, ..limits };
    bed = limited(limits);
    for port in 1_024..1_032 {
        assert_eq!(open(&mut bed, &four, port), Verdict::Forward(HOST));
        let verdict = bed.udp(B, (six.pods[1], port), (six.outside, 53));
        assert_eq!(verdict, Verdict::Forward(HOST));
    }
    let full = Verdict::Drop(DropReason::ConntrackFull);
    assert_eq!(open(&mut bed, &six, 40_000), full);
}

#[test]
pub(super) fn what_is_answered_is_never_dropped_for_another() {
    let [family, _] = families();
    let limits = Limits { connections_max: 8, pod_connections_max: 4, ..Limits::default() };
    let mut bed = limited(limits);
    let open = |bed: &mut Bed, port, pod: IpAddress, client_port| {
        let verdict = bed.udp(port, (pod, client_port), (family.outside, 53));
        if verdict == Verdict::Forward(HOST) {
            let outer = bed.left().1.src;
            bed.udp(HOST, (family.outside, 53), outer);
            bed.udp(port, (pod, client_port), (family.outside, 53));
        }
        verdict
    };
    for client_port in 0..4 {
        assert_eq!(open(&mut bed, A, family.pods[0], 40_000 + client_port), Verdict::Forward(HOST));
    }
    let refused = open(&mut bed, A, family.pods[0], 40_004);
    assert_eq!(refused, Verdict::Drop(DropReason::PodConnectionsFull));
    for client_port in 0..4 {
        assert_eq!(open(&mut bed, B, family.pods[1], 40_000 + client_port), Verdict::Forward(HOST));
    }
    let refused = open(&mut bed, C, family.pods[2], 40_000);
    assert_eq!(refused, Verdict::Drop(DropReason::ConntrackFull));
    assert_eq!(bed.connections(), 8);
}

/// Connections that are open with the backends of all Services.
fn open(bed: &Bed) -> u32 {
    let services = bed.switch.tables().services().iter();
    services.flat_map(|(_, service)| &service.loads).map(|load| load.active).sum()
}

#[test]
fn a_backend_that_comes_back_carries_what_is_open_after_a_restart_too() {
    for family in families() {
        let (mut bed, _) = answered(&family, &[backend(family.pods[1], true)]);
        let with = |backends: &[Backend]| {
            Change::Service(service(&family, ServiceProtocol::Udp, backends))
        };
        assert_eq!(bed.change(with(&[])), []);
        assert_eq!(open(&bed), 0);
        bed.switch = Switch::restore(&bed.switch.snapshot(), 99).expect("a whole snapshot");
        let mut other = Bed::with(bed.switch.config());
        let exported = bed.switch.export();
        other.switch.input(bed.now, Input::Import(exported), &mut other.out);
        for bed in [&mut bed, &mut other] {
            assert_eq!(bed.change(with(&[backend(family.pods[1], true)])), []);
            assert_eq!(open(bed), 1);
            bed.wait(Duration::from_secs(300));
            bed.switch.input(bed.now, Input::Tick, &mut bed.out);
            assert_eq!((bed.connections(), open(bed)), (0, 0));
        }
    }
}

#[test]
fn a_restored_switch_goes_on_with_its_connections() {
    for family in families() {
        let (mut bed, chosen) = answered(&family, &[backend(family.pods[1], true)]);
        let bytes = bed.switch.snapshot();
        let digest = bed.switch.digest();
        bed.switch = Switch::restore(&bytes, 99).expect("a whole snapshot");
        assert_eq!(bed.switch.digest(), digest);
        assert_eq!(open(&bed), 1, "what its backend carries");
        let reply = ip(between(3, mac(2)), chosen.0, family.pods[0]).udp(8_080, 40_000, b"x");
        assert_eq!(bed.send(B, &reply), Verdict::Forward(A));
        assert_eq!(bed.left().1.src, (family.vip, 80));
    }
}

#[test]
fn another_build_goes_on_with_the_connections() {
    for family in families() {
        let (mut bed, chosen) = answered(&family, &[backend(family.pods[1], true)]);
        bed.tcp(A, (family.pods[0], 41_000), (family.outside, 443), SYN);
        let exported = bed.switch.export();
        let mut other = Bed::with(bed.switch.config());
        other.switch.input(bed.now, Input::Import(exported), &mut other.out);
        assert_eq!(other.out.events, []);
        let all = |bed: &Bed| -> Vec<_> {
            let mut all: Vec<_> = bed
                .switch
                .tables()
                .connections()
                .iter()
                .map(|(_, connection)| (connection.tuples, connection.track, connection.ports))
                .collect();
            all.sort_by_key(|(tuples, _, _)| *tuples);
            all
        };
        assert_eq!(all(&other), all(&bed));
        assert_eq!((open(&bed), open(&other)), (1, 1), "what its backend carries");
        let reply = ip(between(3, mac(2)), chosen.0, family.pods[0]).udp(8_080, 40_000, b"x");
        assert_eq!(other.send(B, &reply), Verdict::Forward(A));
        assert_eq!(other.left().1.src, (family.vip, 80));
    }
}

#[test]
fn states_are_as_the_packets_say() {
    let [family, _] = families();
    let mut bed =
        bed(vec![service(&family, ServiceProtocol::Tcp, &[backend(family.pods[1], true)])]);
    let client = (family.pods[0], 40_000);
    let state = |bed: &Bed| bed.switch.tables().connections().iter().next().unwrap().1.track.state;
    bed.tcp(A, client, (family.vip, 80), SYN);
    assert_eq!(state(&bed), State::SynSent);
    let reply = ip(between(3, mac(2)), family.pods[1], family.pods[0]);
    bed.send(B, &reply.tcp((8_080, 40_000), SYN | ACK, 5_000, 1_001, b""));
    assert_eq!(state(&bed), State::SynReceived);
    bed.tcp(A, client, (family.vip, 80), ACK);
    assert_eq!(state(&bed), State::Established);
}
