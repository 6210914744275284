//! Coalescing: what comes out, segmented again, is what went in, in the order of each flow.

use std::collections::BTreeMap;

use super::*;

fn coalesced(frames: Vec<Frame>) -> Vec<Coalesced> {
    let (mut coalescer, mut pool, mut out) = (Coalescer::default(), Pool::new(), Vec::new());
    for frame in frames {
        coalescer.push(frame, &mut pool, &mut out);
    }
    coalescer.flush(&mut out);
    out
}

/// How many frames each thing written stands for.
fn counts(frames: Vec<Frame>) -> Vec<u32> {
    coalesced(frames).iter().map(|merged| merged.frames).collect()
}

fn datagram(size: usize) -> Packet {
    Packet::udp(headers::Version::V4, vec![9; size])
}

/// What a frame says on a wire, without the identification where it means nothing.
fn on_the_wire(frame: Frame) -> Vec<Vec<u8>> {
    let frames = prepared(frame, &NOTHING);
    let bytes = frames.iter().map(|frame| {
        let mut bytes = frame.bytes().to_vec();
        if bytes[12..14] == [8, 0] && bytes[20] & 0x40 != 0 {
            bytes[18..20].fill(0);
            headers::put_header_checksum(&mut bytes, 14, 34);
        }
        bytes
    });
    bytes.collect()
}

/// Of each flow, its frames in order. Addresses and ports, whatever the version.
fn by_flow(frames: impl IntoIterator<Item = Vec<u8>>) -> BTreeMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for frame in frames {
        let tuple = if frame[14] >> 4 == 4 { &frame[26..38] } else { &frame[22..58] };
        flows.entry(tuple.to_vec()).or_default().push(frame);
    }
    flows
}

prop_compose! {
    fn datagrams()(
        version in prop_oneof![Just(headers::Version::V4), Just(headers::Version::V6)],
        port in 1_u16..5,
        size in prop_oneof![5 => Just(64_usize), 1 => 0_usize..80],
        fill in any::<u8>(),
        dont_fragment in prop::bool::weighted(0.7),
        hop_limit in prop_oneof![9 => Just(64), 1 => Just(63)],
        complete in prop::bool::weighted(0.3),
        wrong in prop::bool::weighted(0.05),
        identification in prop_oneof![Just(None), any::<u16>().prop_map(Some)],
    ) -> (Packet, bool, bool, bool) {
        let packet = Packet {
            dont_fragment,
            hop_limit,
            identification: identification.unwrap_or(0),
            l4_ports: (port, 53),
            ..Packet::udp(version, vec![fill; size])
        };
        (packet, complete, complete && wrong && size > 0, identification.is_none())
    }
}

proptest! {
    #[test]
    fn segmented_again_it_is_what_went_in(input in prop::collection::vec(datagrams(), 1..150)) {
        let mut next = 7_u16;
        let frames: Vec<_> = input
            .into_iter()
            .map(|(mut packet, complete, wrong, follows)| {
                if follows {
                    next = next.wrapping_add(1);
                    packet.identification = next;
                }
                let mut frame = packet.frame();
                if complete {
                    checksum::complete(&mut frame);
                    frame.set_offload(Offload::default());
                }
                if wrong {
                    let last = frame.len() - 1;
                    frame.bytes_mut()[last] ^= 0x55;
                }
                frame
            })
            .collect();
        let before = by_flow(frames.iter().flat_map(|frame| on_the_wire(frame.duplicate())));
        let number = u32::try_from(frames.len()).unwrap();
        let out = coalesced(frames);
        prop_assert_eq!(out.iter().map(|merged| merged.frames).sum::<u32>(), number);
        for merged in &out {
            prop_assert!(merged.frames <= 64);
            let pieces = on_the_wire(merged.frame.duplicate()).len();
            prop_assert_eq!(pieces, usize::try_from(merged.frames).unwrap());
        }
        let after = by_flow(out.into_iter().flat_map(|merged| on_the_wire(merged.frame)));
        prop_assert_eq!(before, after);
    }
}

#[test]
fn equal_datagrams_become_one_and_a_shorter_one_ends_it() {
    let sizes = [64, 64, 64, 10, 64];
    assert_eq!(counts(sizes.map(|size| datagram(size).frame()).into()), [4, 1]);
    let longer = [64, 65, 65].map(|size| datagram(size).frame());
    assert_eq!(counts(longer.into()), [1, 2]);
}

#[test]
fn a_super_frame_says_what_it_is() {
    let out = coalesced(vec![datagram(64).frame(), datagram(40).frame()]);
    let offload = Offload {
        checksum: Checksum::Partial { start: 34, offset: 6 },
        gso: Some(Gso { kind: GsoKind::Udp, size: 64, ecn: false }),
        fragment_mtu: None,
    };
    assert_eq!(*out[0].frame.offload(), offload);
    let whole = Packet::udp(headers::Version::V4, vec![9; 104]);
    assert_eq!(out[0].frame.bytes(), whole.frame().bytes());
}

#[test]
fn interleaved_flows_are_merged_apart() {
    let flow = |port| Packet { l4_ports: (port, 53), ..datagram(64) }.frame();
    assert_eq!(counts((0..40).map(|index| flow(index % 4)).collect()), [10; 4]);
}

#[test]
fn no_more_than_64_datagrams_and_64_kilobytes_at_once() {
    assert_eq!(counts((0..70).map(|_| datagram(64).frame()).collect()), [64, 6]);
    let count = (65_535 - 28) / 1472;
    let frames = (0..count + 2).map(|_| datagram(1472).frame()).collect();
    assert_eq!(counts(frames), [u32::try_from(count).unwrap(), 2]);
}

#[test]
fn what_a_receiver_could_tell_apart_is_not_merged() {
    let like = datagram(64);
    let other_hop_limit = Packet { hop_limit: 63, ..like.clone() };
    let may_be_fragmented = Packet { dont_fragment: false, ..like.clone() };
    for other in [other_hop_limit, may_be_fragmented] {
        assert_eq!(counts(vec![like.frame(), other.frame()]), [1, 1], "{other:?}");
    }
    let numbered =
        |identification| Packet { dont_fragment: false, identification, ..datagram(64) }.frame();
    assert_eq!(counts(vec![numbered(5), numbered(6), numbered(8), numbered(9)]), [2, 2]);
    assert_eq!(counts(vec![numbered(65_535), numbered(0)]), [2]);
}

#[test]
fn unverified_checksums_are_verified_before_a_merge() {
    let complete = || {
        let mut frame = datagram(64).frame();
        checksum::complete(&mut frame);
        frame.set_offload(Offload::default());
        frame
    };
    assert_eq!(counts(vec![complete(), complete(), datagram(64).frame()]), [3]);
    let mut wrong = complete();
    wrong.bytes_mut()[80] ^= 1;
    assert_eq!(counts(vec![complete(), wrong.duplicate(), complete()]), [1, 1, 1]);
    assert_eq!(coalesced(vec![wrong.duplicate(), complete()])[0].frame.bytes(), wrong.bytes());
    let mut none = complete();
    headers::put(none.bytes_mut(), 40, [0, 0]);
    assert_eq!(counts(vec![none.duplicate(), none]), [1, 1], "UDP without a checksum");
}

#[test]
fn a_frame_whose_flow_cannot_be_seen_waits_for_what_is_held() {
    let (mut coalescer, mut pool, mut out) = (Coalescer::default(), Pool::new(), Vec::new());
    coalescer.push(datagram(64).frame(), &mut pool, &mut out);
    let tcp = Packet { protocol: headers::TCP, ..datagram(64) };
    coalescer.push(tcp.frame(), &mut pool, &mut out);
    assert_eq!(out.len(), 1, "TCP belongs to no flow that is held");
    let mut fragment = datagram(64).frame();
    headers::put(fragment.bytes_mut(), 20, [0x20, 0]);
    coalescer.push(fragment.duplicate(), &mut pool, &mut out);
    let bytes: Vec<_> = out.iter().map(|merged| merged.frame.bytes()).collect();
    assert_eq!(bytes, [tcp.frame().bytes(), datagram(64).frame().bytes(), fragment.bytes()]);
}
