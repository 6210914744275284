//! What must hold of every step of a switch, whatever goes in: one verdict a frame, conservation of
//! frames and buffers, the dry run, what may change on the way and what may not, who owns which
//! address.
//!
//! Laws look at the switch from outside; checksums are judged by smoltcp, which shares no code with
//! ours.

use stack::counters::{Counters, PortCounters};
use stack::input::{EndpointId, Frame, Input, Offload, Outbox, PortId, Transmit};
use stack::pipeline::packet::{Inner, L4, Packet};
use stack::pipeline::parse::parse;
use stack::trace::Walked;
use stack::wire::build::flags;
use stack::{AnswerKind, Hop, Instant, PortKind, Switch, Trace, Verdict};

mod bytes;
mod whole;

/// Puts a frame in and judges everything that follows. `out` is empty before and holds the outputs
/// after.
pub(crate) fn frame(
    switch: &mut Switch,
    now: Instant,
    port: PortId,
    frame: Frame,
    out: &mut Outbox,
) {
    assert!(out.walked.is_empty() && out.transmits.is_empty(), "the outbox was emptied");
    let digest = switch.digest();
    let mut predicted = switch.trace(now, port, &frame);
    assert_eq!(predicted, switch.trace_whole(now, port, &frame), "the fast path is the walk");
    assert_eq!(digest, switch.digest(), "a dry run changes nothing");
    let before = switch.counters();
    let given = frame.duplicate();
    switch.input(now, Input::Frame { port, frame }, out);
    assert_eq!(out.walked.len(), 1 + out.released.len(), "a frame walks once");
    let trace = &out.walked[0];
    predicted.number = trace.number;
    assert_eq!(&predicted, trace, "the dry run is the walk");
    assert_eq!(trace.ingress, port);
    assert_eq!(out.events, [], "frames cause no events");
    counted(&before, &switch.counters(), Some((port, &given)), out);
    became(switch, &given, &of_walk(out, 0));
    released(switch, 1, out);
}

/// What was held walks behind the first `before` walks, each under the laws of all frames.
pub(crate) fn released(switch: &Switch, before: usize, out: &Outbox) {
    for (at, (walk, held)) in out.released.iter().enumerate() {
        let walk = usize::try_from(*walk).unwrap();
        assert_eq!(walk, before + at, "one walk each, in their order");
        assert_ne!(out.walked[walk].verdict, Verdict::Hold, "nothing is held twice");
        became(switch, held, &of_walk(out, walk));
    }
    let held = switch.tables().datagrams().iter().map(|(_, datagram)| datagram.held());
    let held = u64::try_from(held.sum::<usize>()).unwrap();
    assert_eq!(switch.counters().total().held, held, "what is counted as held is held");
}

/// What came of one walk, as if nothing else had walked. Of deliveries there is one at most.
fn of_walk(out: &Outbox, walk: usize) -> Outbox {
    let is = |number: u32| usize::try_from(number).unwrap() == walk;
    let trace = out.walked[walk].clone();
    let delivered = matches!(trace.verdict, Verdict::Deliver(_));
    let sent = out.transmits.iter().filter(|sent| is(sent.walk));
    let kept = out.reclaimed.iter().filter(|(number, _)| is(*number));
    let deliveries = out.deliveries.iter().filter(|_| delivered);
    let mut walked = Walked::default();
    walked.push(trace);
    Outbox {
        transmits: sent
            .map(|sent| Transmit { port: sent.port, frame: copy(&sent.frame), walk: 0 })
            .collect(),
        deliveries: deliveries.map(|(endpoint, frame)| (*endpoint, copy(frame))).collect(),
        reclaimed: kept.map(|(_, frame)| (0, copy(frame))).collect(),
        walked,
        ..Outbox::default()
    }
}

fn copy(frame: &Frame) -> Frame {
    frame.duplicate()
}

/// A frame became what its verdict says.
fn became(switch: &Switch, given: &Frame, out: &Outbox) {
    let trace = &out.walked[0];
    let port = trace.ingress;
    assert_eq!(
        trace.hops().last(),
        Some(&Hop::Verdict(trace.verdict)),
        "the last hop is the verdict"
    );
    buffers(switch, port, given, out);
    match trace.verdict {
        Verdict::Forward(_) => forwarded(switch, port, given, out),
        Verdict::Flood(_) => flooded(given, out),
        Verdict::Deliver(_) => assert_eq!(out.deliveries[0].1, *given, "delivered as it came"),
        Verdict::Answer(kind) => answered(switch, given, kind, out),
        Verdict::Drop(_) | Verdict::Hold => {
            assert_eq!(out.reclaimed[0].1.bytes().len(), given.len());
        }
    }
}

/// Gives a delivered frame to its endpoint. What the endpoint says must walk as if anybody had put
/// it in by the endpoint's port, under the same laws.
pub(crate) fn deliver(
    switch: &mut Switch,
    now: Instant,
    endpoint: EndpointId,
    delivered: Frame,
    out: &mut Outbox,
) {
    let mut other = switch.clone();
    let walks = out.walked.len();
    assert_eq!(walks, 0, "the outbox was emptied");
    switch.input(now, Input::Deliver { endpoint, frame: delivered }, out);
    for (index, trace) in out.walked.iter().enumerate() {
        let of_walk = |walk: u32| usize::try_from(walk).unwrap() == index;
        let sent = out.transmits.iter().filter(|t| of_walk(t.walk)).map(|t| &t.frame);
        let kept = out.reclaimed.iter().filter(|(walk, _)| of_walk(*walk)).map(|(_, frame)| frame);
        let said: Vec<&Frame> = sent.chain(kept).collect();
        assert_eq!(said.len(), 1, "an endpoint's frame leaves once or is reclaimed");
        let mut again = Outbox::default();
        frame(&mut other, now, trace.ingress, said[0].duplicate(), &mut again);
        assert_eq!(&again.walked[0], trace, "an endpoint's frame walks like any other");
    }
    assert_eq!(switch.counters(), other.counters());
    assert_eq!(out.deliveries.len(), 0, "an endpoint does not speak to another");
}

/// One buffer in; out come the buffers that the verdict promises, by the ports that it names.
fn buffers(switch: &Switch, ingress: PortId, given: &Frame, out: &Outbox) {
    let ports: Vec<PortId> = out.transmits.iter().map(|transmit| transmit.port).collect();
    let counts = (out.deliveries.len(), out.reclaimed.len());
    for transmit in &out.transmits {
        assert_eq!(transmit.walk, 0);
        let port = switch.tables().ports().by_id(transmit.port).expect("egress port exists");
        assert!(port.config.up || transmit.port == ingress, "egress port is up");
    }
    match out.walked[0].verdict {
        Verdict::Forward(port) => assert_eq!((ports, counts), (vec![port], (0, 0))),
        Verdict::Flood(count) => {
            let others = receivers(switch, ingress, given);
            assert_eq!(usize::from(count), others.len(), "every other pod that takes it");
            assert_eq!((ports, counts), (others, (0, 0)));
        }
        Verdict::Deliver(endpoint) => {
            assert_eq!((ports, counts), (vec![], (1, 0)));
            assert_eq!(out.deliveries[0].0, endpoint);
        }
        Verdict::Answer(AnswerKind::Echo) => assert_eq!((ports, counts), (vec![ingress], (0, 0))),
        Verdict::Answer(_) => assert_eq!((ports, counts), (vec![ingress], (0, 1))),
        Verdict::Drop(_) | Verdict::Hold => {
            assert_eq!((ports, counts), (vec![], (0, 1)));
            assert_eq!(out.reclaimed[0].0, 0);
            assert_eq!(
                &out.reclaimed[0].1, given,
                "a dropped frame is shown as it came, a held one too"
            );
        }
    }
}

/// The pods that a flood goes to: every other one that takes the frame.
pub(crate) fn receivers(switch: &Switch, ingress: PortId, given: &Frame) -> Vec<PortId> {
    let len = bytes::carried(given);
    let takes = |port: &stack::PortConfig| {
        let other = port.kind == PortKind::Pod && port.up && port.id != ingress;
        other && len <= usize::from(port.mtu)
    };
    let ports = switch.tables().ports().iter().map(|(_, port)| &port.config);
    ports.filter(|port| takes(port)).map(|port| port.id).collect()
}

/// The counters of all ports are those before, the walks' own counts added, and nothing else.
/// `came`: the frame that was put in.
pub(crate) fn counted(
    before: &Counters,
    after: &Counters,
    came: Option<(PortId, &Frame)>,
    out: &Outbox,
) {
    let mut expected = before.clone();
    let mut at = |id: PortId, count: &dyn Fn(&mut PortCounters)| {
        let found = expected.ports.iter_mut().find(|(port, _)| *port == id);
        count(found.map_or(&mut expected.gone, |(_, counters)| counters));
    };
    if let Some((port, given)) = came {
        at(port, &|counters| {
            counters.received += 1;
            counters.received_bytes += u64::try_from(given.len()).unwrap();
        });
    }
    for trace in &out.walked {
        at(trace.ingress, &|counters| match trace.verdict {
            Verdict::Forward(_) => counters.forwarded += 1,
            Verdict::Flood(_) => counters.flooded += 1,
            Verdict::Deliver(_) => counters.delivered += 1,
            Verdict::Answer(_) => counters.answered += 1,
            Verdict::Drop(reason) => counters.dropped[reason.index()] += 1,
            Verdict::Hold => counters.held += 1,
        });
    }
    for (walk, _) in &out.released {
        let ingress = out.walked[usize::try_from(*walk).unwrap()].ingress;
        at(ingress, &|counters| counters.held -= 1);
    }
    for transmit in &out.transmits {
        at(transmit.port, &|counters| {
            counters.transmitted += 1;
            counters.transmitted_bytes += u64::try_from(transmit.frame.len()).unwrap();
        });
    }
    assert_eq!(after, &expected, "this frame is counted and nothing else");
    assert_eq!(after.imbalances(), []);
}

fn understood(frame: &Frame) -> Packet {
    parse(frame.window(), frame.len(), frame.offload()).expect("what goes on was understood")
}

fn routed(trace: &Trace) -> bool {
    trace.hops().contains(&Hop::Gateway)
}

/// Bridged: untouched, and out by another port. Routed: new MACs, a hop less, nothing more.
fn forwarded(switch: &Switch, ingress: PortId, given: &Frame, out: &Outbox) {
    let (trace, sent) = (&out.walked[0], &out.transmits[0]);
    let egress = &switch.tables().ports().by_id(sent.port).unwrap().config;
    let fragment = |hop: &Hop| if let Hop::Fragment(mtu) = hop { Some(*mtu) } else { None };
    let fragment_mtu = trace.hops().iter().find_map(fragment);
    assert_eq!(*sent.frame.offload(), Offload { fragment_mtu, ..*given.offload() });
    if let (Inner::Ip(ip), None, None) =
        (understood(given).inner, given.offload().gso, fragment_mtu)
    {
        assert!(ip.total_len <= u32::from(egress.mtu), "{} bytes leave", ip.total_len);
    }
    let translated = trace.edits().iter().any(|(_, edit)| edit.translates());
    let given_back = trace.hops().contains(&Hop::GivenBack);
    let (before, after) = if translated {
        let parts = [given, &sent.frame].map(bytes::without_ends);
        let [before, after] = parts;
        (before, after)
    } else {
        (given.bytes().to_vec(), sent.frame.bytes().to_vec())
    };
    if given_back {
        assert_eq!(sent.port, ingress, "back to where it came from");
        assert_eq!(sent.frame.bytes()[12..], given.bytes()[12..], "as it came, MACs apart");
    } else if routed(trace) {
        assert_eq!(egress.mac, understood(&sent.frame).dst, "to the egress port's MAC");
        let gateway = switch.tables().node().gateway_mac;
        let len = bytes::unpadded(given).len();
        let is_valid = bytes::header_is_valid(&sent.frame);
        assert!(is_valid, "IPv4 header checksum");
        bytes::one_hop_less(&before[..len], &after, gateway, egress.mac);
    } else {
        assert_ne!(sent.port, ingress, "a bridged frame does not go back");
        assert_eq!(after, before, "bridged untouched, translated ends apart");
    }
    bytes::still_valid(given, &sent.frame);
    whole::translated(switch, (ingress, sent.port), &sent.frame, trace);
    whole::quotes_still_fit(given, &sent.frame);
}

fn flooded(given: &Frame, out: &Outbox) {
    for transmit in &out.transmits {
        assert_eq!(&transmit.frame, given, "a copy for each");
    }
}

fn answered(switch: &Switch, given: &Frame, kind: AnswerKind, out: &Outbox) {
    let answer = &out.transmits[0].frame;
    let (request, reply) = (understood(given), understood(answer));
    match kind {
        AnswerKind::Echo => {
            bytes::still_valid(given, answer);
            assert_eq!(answer.len(), given.len(), "an echo has the request's payload");
            assert_eq!((reply.dst, reply.src), (request.src, switch.tables().node().gateway_mac));
        }
        AnswerKind::Arp(mac) => assert_eq!((reply.dst, reply.src), (request.src, mac)),
        AnswerKind::Neighbor(mac) => {
            bytes::valid(answer);
            assert_eq!(reply.src, mac);
        }
        AnswerKind::Error { .. } => {
            let Inner::Ip(ip) = request.inner else { panic!("an error is about an IP packet") };
            assert!(!ip.is_icmp_error(), "no error about an error");
            bytes::valid(answer);
            bytes::quotes(given, answer.bytes());
            assert_eq!((reply.dst, reply.src), (request.src, switch.tables().node().gateway_mac));
        }
        AnswerKind::Reset { .. } => {
            let (Inner::Ip(to), Inner::Ip(from)) = (request.inner, reply.inner) else {
                panic!("a reset is about an IP packet")
            };
            assert_eq!((from.src, from.dst), (to.dst, to.src), "from whom it was sent to");
            assert_eq!(from.ports(), to.ports().map(|(src, dst)| (dst, src)));
            let L4::Tcp { flags, .. } = to.l4 else { panic!("a reset is about a segment") };
            assert_eq!(flags & flags::RST, 0, "no reset about a reset");
            bytes::valid(answer);
            assert_eq!((reply.dst, reply.src), (request.src, switch.tables().node().gateway_mac));
        }
    }
}
