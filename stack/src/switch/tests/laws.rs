//! Laws over generated inputs: conservation, the dry run, equality under another table seed, no
//! panic.

use proptest::prelude::*;

use super::*;

/// A frame that is mostly sensible: real MACs and addresses, sometimes others, any hop limit.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let who = proptest::sample::select(vec![1_u8, 2, 3, 4, 77, 250]);
    let to = (who.clone(), any::<bool>(), 0_u8..6);
    let parts = (who, to, any::<bool>(), 0_u8..4, 0_usize..3_000);
    parts.prop_map(|(from, (to, far, hops), six, kind, len)| {
        let dst = if far || to == 1 { GATEWAY } else { mac(to) };
        let link = Link { src: mac(from), dst };
        let payload = vec![kind; len];
        let packet = if six {
            let dst = if far { OUTSIDE6 } else { v6(to.into()) };
            link.ipv6(v6(from.into()), dst).hop_limit(hops)
        } else {
            let dst = if far { OUTSIDE4 } else { v4(to) };
            link.ipv4(v4(from), dst).hop_limit(hops).may_fragment()
        };
        match kind {
            0 => packet.udp(1_000, 53, &payload),
            1 => packet.tcp((1_000, 80), 0x10, 1, 1, &payload),
            2 => packet.echo(true, 1, 1, &payload),
            _ => packet.icmp(3, 1, [0; 4], &payload),
        }
    })
}

fn port() -> impl Strategy<Value = PortId> {
    (0_u32..7).prop_map(PortId)
}

type Seen = (Vec<Trace>, Vec<(PortId, Vec<u8>)>, u64, String);

/// Runs inputs and returns what can be seen of it.
fn run(inputs: &[(PortId, Vec<u8>, u64)], table: u64) -> Seen {
    let mut switch = Switch::new(config(), Limits::default(), seeds(table));
    let (mut out, mut now) = (Outbox::default(), 0);
    for (port, bytes, pause) in inputs {
        now += pause;
        let frame = Frame::from_bytes(bytes);
        switch.input(Instant(now), Input::Frame { port: *port, frame }, &mut out);
        for (endpoint, frame) in std::mem::take(&mut out.deliveries) {
            switch.input(Instant(now), Input::Deliver { endpoint, frame }, &mut out);
        }
        assert_eq!(switch.counters().imbalances(), []);
    }
    let sent = out.transmits.iter().map(|t| (t.port, t.frame.bytes().to_vec())).collect();
    (out.walked.to_vec(), sent, switch.digest(), switch.dump())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn twice_the_same_and_whatever_the_table_seed(
        inputs in proptest::collection::vec((port(), frame(), 0_u64..20_000_000), 1..40),
    ) {
        let first = run(&inputs, 1);
        prop_assert_eq!(&first, &run(&inputs, 1));
        prop_assert_eq!(&first, &run(&inputs, 0xdead_beef));
    }

    #[test]
    fn garbage_never_panics_and_is_accounted_for(
        inputs in proptest::collection::vec(
            (port(), proptest::collection::vec(any::<u8>(), 0..400)), 1..20),
    ) {
        let mut bed = Bed::new();
        for (port, bytes) in &inputs {
            bed.send(*port, bytes);
        }
    }

    #[test]
    fn a_damaged_frame_leaves_by_another_port_or_not_at_all(
        port in port(), bytes in frame(), at in any::<proptest::sample::Index>(), bit in 0_u8..8,
    ) {
        let mut bytes = bytes;
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        let mut bed = Bed::new();
        let answered = matches!(bed.send(port, &bytes), Verdict::Answer(_));
        for (egress, sent) in bed.sent() {
            let hairpin = bed.out.walked[0].hops().iter().any(|h| matches!(h, crate::Hop::Gateway));
            prop_assert!(egress != port || answered || hairpin);
            prop_assert!(sent.len() >= 14);
        }
    }

    #[test]
    fn edits_one_by_one_make_the_frame_that_leaves(port in port(), bytes in frame()) {
        let mut bed = Bed::new();
        if let Verdict::Forward(_) = bed.send(port, &bytes) {
            let trace = &bed.out.walked[0];
            let mut window = bytes[..bytes.len().min(Frame::WINDOW)].to_vec();
            trace.render(&mut window, trace.hops().len());
            prop_assert_eq!(&window[..], &bed.sent()[0].1[..window.len()]);
        }
    }
}
