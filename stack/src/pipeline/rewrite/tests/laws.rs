//! Laws over generated packets and translations.

use proptest::prelude::*;

use super::*;

/// Numbers at the edges are where a checksum has two zeros.
fn port() -> impl Strategy<Value = u16> {
    (0..8_u8, any::<u16>()).prop_map(|(edge, port)| match edge {
        0 => 0,
        1 => 0xffff,
        _ => port,
    })
}

fn address() -> impl Strategy<Value = [u8; 16]> {
    (0..8_u8, any::<[u8; 16]>()).prop_map(|(edge, bytes)| match edge {
        0 => [0; 16],
        1 => [0xff; 16],
        _ => bytes,
    })
}

fn plain_body() -> impl Strategy<Value = Body> {
    (0..7_u8).prop_map(|kind| match kind {
        0 => Body::Tcp,
        1 => Body::Udp { summed: true },
        2 => Body::Udp { summed: false },
        3 => Body::Sctp,
        4 => Body::Echo { request: true },
        5 => Body::Echo { request: false },
        _ => Body::Unknown,
    })
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let bytes = proptest::collection::vec(any::<u8>(), 0..600);
    // A first fragment has at least some bytes behind the longest header.
    (any::<bool>(), bytes).prop_map(|(zeros, mut bytes)| {
        if zeros {
            bytes.fill(0);
        }
        bytes.resize(bytes.len().max(8), 0);
        bytes
    })
}

/// A packet of one version that is no ICMP error.
fn plain(six: bool) -> impl Strategy<Value = Spec> {
    let ends = ([address(), address()], [port(), port()]);
    (ends, 0..4_usize, 0..4_u8, plain_body(), payload()).prop_map(
        move |((addresses, ports), options, place, body, payload)| {
            let place = match place {
                0 => Place::First,
                1 => Place::Later,
                _ => Place::Whole,
            };
            Spec { six, addresses, ports, options, place, body, payload }
        },
    )
}

/// Any packet; half of them are ICMP errors about another.
fn spec() -> impl Strategy<Value = Spec> {
    let ends = any::<bool>().prop_flat_map(|six| (plain(six), plain(six)));
    (ends, any::<bool>(), 8..80_usize).prop_map(|((outer, inner), is_error, quoted)| {
        if !is_error {
            return outer;
        }
        // A checksum that is quoted in part stays as it is.
        let quoted = if (9..18).contains(&quoted) { 8 } else { quoted };
        let body = Body::Error { inner: Box::new(inner), quoted };
        Spec { place: Place::Whole, body, ..outer }
    })
}

/// Another address and port for one of four ends.
#[derive(Clone, Copy, Debug)]
struct Step {
    end: End,
    of_quoted: bool,
    address: [u8; 16],
    port: u16,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = any::<bool>().prop_map(|first| if first { End::Source } else { End::Destination });
    let step = (end, any::<bool>(), address(), port())
        .prop_map(|(end, of_quoted, address, port)| Step { end, of_quoted, address, port });
    proptest::collection::vec(step, 1..6)
}

impl Step {
    /// The edit, and what `spec` is after it; `None` if there is nothing quoted.
    fn of(&self, spec: &mut Spec, frame: &Frame) -> Option<Edit> {
        let Self { end, of_quoted, address, port } = *self;
        if !of_quoted {
            let edit = spec.edit(frame, end, address, port);
            spec.move_end(end, address, port);
            return Some(edit);
        }
        let edit = spec.quoted_edit(frame, end, address, port)?;
        let Body::Error { inner, .. } = &mut spec.body else { return None };
        inner.move_end(end, address, port);
        Some(edit)
    }

    /// The step back.
    fn back(&self, spec: &Spec) -> Self {
        let inner = match &spec.body {
            Body::Error { inner, .. } => self.of_quoted.then_some(&**inner),
            Body::Tcp | Body::Udp { .. } | Body::Sctp | Body::Echo { .. } | Body::Unknown => None,
        };
        let of = inner.unwrap_or(spec);
        let index = usize::from(self.end == End::Destination);
        let l4 = if matches!(of.body, Body::Echo { .. }) { 0 } else { index };
        Self { address: of.addresses[index], port: of.ports[l4], ..*self }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn translated_one_by_one_is_built_anew(
        spec in spec(), steps in steps(), partial in any::<bool>(), padding in 0..40_usize,
    ) {
        let mut moved = spec.clone();
        let mut frame = spec.frame(partial);
        // What pads a frame must not be summed, so with a partial checksum there is none.
        let padding = if spec.field().is_some() && partial { 0 } else { padding };
        let mut padded = Frame::from_bytes(&[frame.bytes(), &std::vec![0xee; padding]].concat());
        padded.set_offload(*frame.offload());
        for step in &steps {
            if let Some(edit) = step.of(&mut moved, &frame) {
                apply(padded.window_mut(), &edit);
            }
        }
        let anew = moved.frame(partial);
        prop_assert_eq!(padded.bytes(), [anew.bytes(), &std::vec![0xee; padding]].concat());
        // Completed behind the switch it is what a sender without offload would have sent.
        frame = padded;
        complete(&mut frame);
        frame.set_len(anew.len());
        prop_assert_eq!(frame.bytes(), moved.build());
    }

    #[test]
    fn completed_before_or_behind_is_the_same(spec in spec(), steps in steps()) {
        let (mut before, mut behind) = (spec.frame(true), spec.frame(true));
        complete(&mut before);
        before.set_offload(Offload::default());
        let (mut one, mut other) = (spec.clone(), spec);
        for step in &steps {
            for (frame, spec) in [(&mut before, &mut one), (&mut behind, &mut other)] {
                if let Some(edit) = step.of(spec, frame) {
                    apply(frame.window_mut(), &edit);
                }
            }
        }
        complete(&mut behind);
        prop_assert_eq!(before.bytes(), behind.bytes());
    }

    /// All checksums here are as a sender computes them, so there is no exception. One that has the
    /// other form of zero comes back in its own (see `edges`).
    #[test]
    fn a_step_and_the_step_back_restore_every_byte(
        spec in spec(), steps in steps(), partial in any::<bool>(),
    ) {
        let mut moved = spec.clone();
        let mut frame = spec.frame(partial);
        let original = frame.bytes().to_vec();
        let mut back = Vec::new();
        for step in &steps {
            let undo = step.back(&moved);
            if let Some(edit) = step.of(&mut moved, &frame) {
                apply(frame.window_mut(), &edit);
                back.push(undo);
            }
        }
        while let Some(step) = back.pop() {
            if let Some(edit) = step.of(&mut moved, &frame) {
                apply(frame.window_mut(), &edit);
            }
        }
        prop_assert_eq!(frame.bytes(), original);
    }

    #[test]
    fn a_window_cut_anywhere_is_edited_as_far_as_it_goes(
        spec in spec(), steps in steps(), partial in any::<bool>(),
    ) {
        let frame = spec.frame(partial);
        let edits: Vec<Edit> =
            steps.iter().filter_map(|step| step.of(&mut spec.clone(), &frame)).collect();
        let mut whole = frame.window().to_vec();
        edits.iter().for_each(|edit| apply(&mut whole, edit));
        let changed = |(new, old): (&u8, &u8)| new != old;
        // The last field that changed ends up to three bytes behind the last byte that did.
        let last = whole.iter().zip(frame.window()).rposition(changed).map_or(0, |at| at + 4);
        for len in 0..=whole.len() {
            let mut cut = frame.window()[..len].to_vec();
            edits.iter().for_each(|edit| apply(&mut cut, edit));
            prop_assert!(len < last || cut == whole[..len], "{} of {} bytes", len, whole.len());
        }
    }

    #[test]
    fn any_bytes_can_be_edited(
        bytes in proptest::collection::vec(any::<u8>(), 0..256),
        numbers in any::<[u16; 4]>(),
        six in any::<bool>(),
        sum in 0..10_usize,
        near in any::<bool>(),
    ) {
        let [at, icmp, offset, port] = numbers.map(|n| if near { n % 256 } else { n });
        let (on, off) = (true, false);
        let sums = [
            Sum::Nothing, Sum::Tcp { partial: on }, Sum::Udp { partial: off },
            Sum::Udp { partial: on }, Sum::Sctp, Sum::Echo { partial: off },
            Sum::Echo6 { partial: off }, Sum::Icmp, Sum::Icmp6 { partial: off },
            Sum::Tcp { partial: off },
        ];
        let address = Spec::plain(six, Body::Tcp).address([7; 16]);
        let rewrite = Rewrite { address, port, at, sum: sums[sum] };
        let quotation = Quotation { icmp, partial: near, offset, rewrite };
        for first in [0x45, 0x60] {
            let mut window = bytes.clone();
            if let Some(byte) = window.get_mut(IP) {
                *byte = first;
            }
            for edit in [
                Edit::Source(rewrite), Edit::Destination(rewrite),
                Edit::QuotedSource(quotation), Edit::QuotedDestination(quotation),
            ] {
                apply(&mut window, &edit);
            }
            prop_assert_eq!(window.len(), bytes.len());
        }
    }
}
