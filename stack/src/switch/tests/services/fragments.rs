//! Datagrams in fragments: whatever their order, they arrive as what their first is made, or not at
//! all (SVC-14, 4787-13, FR-1 to FR-5).

use smoltcp::wire::IpProtocol;

use super::*;
use crate::pipeline::packet::Fragment;

mod limits;
mod order;
mod state;
mod translation;

pub(in super::super) use limits::every_reason;

/// Bytes of a part, so that a datagram of 2,000 has three.
const PART: usize = 800;

/// A whole packet in parts of `size` bytes.
fn split(whole: &[u8], id: u16, size: usize) -> Vec<Vec<u8>> {
    let packet = read(whole);
    let link = Link { src: ethernet(&whole[6..12]), dst: ethernet(&whole[..6]) };
    let upper = &whole[usize::from(packet.l4_offset)..];
    let last = upper.len().div_ceil(size) - 1;
    let part = |(n, bytes): (usize, &[u8])| {
        let at = u16::try_from(n * size).unwrap();
        let packet = ip(link, packet.src, packet.dst).fragment(id, at, n < last);
        packet.upper(read(whole).protocol, bytes)
    };
    upper.chunks(size).enumerate().map(part).collect()
}

fn ethernet(bytes: &[u8]) -> EthernetAddress {
    EthernetAddress::from_bytes(bytes)
}

/// What a receiver puts together of fragments, which must be one datagram's and all of it.
fn join(parts: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![None; 65_536];
    let first = read(&parts[0]);
    let mut end = None;
    for frame in parts {
        let packet = read(frame);
        let (Fragment::First(part) | Fragment::Later(part)) = packet.fragment else {
            panic!("no fragment")
        };
        let one = |packet: &Ip| (packet.src, packet.dst, packet.protocol);
        assert_eq!(one(&packet), one(&first), "all of one datagram");
        assert_sums_of_header(frame);
        let at = frame.len() - usize::from(part.len);
        for (place, byte) in bytes[usize::from(part.offset)..].iter_mut().zip(&frame[at..]) {
            assert_eq!(place.replace(*byte), None, "each byte once");
        }
        end = end.or_else(|| (!part.more).then_some(usize::from(part.end())));
    }
    let whole: Vec<u8> =
        bytes[..end.expect("a last one")].iter().map(|byte| byte.unwrap()).collect();
    let link = Link { src: ethernet(&parts[0][6..12]), dst: ethernet(&parts[0][..6]) };
    ip(link, first.src, first.dst).upper(first.protocol, &whole)
}

/// IPv4's own checksum; what is above is judged when all is there.
fn assert_sums_of_header(frame: &[u8]) {
    use crate::wire::checksum;
    if frame[14] >> 4 == 4 {
        assert_eq!(checksum::fold(checksum::sum(&frame[14..34])), 0xffff, "IPv4 header");
    }
}

/// All orders of `n` things.
fn orders(n: usize) -> Vec<Vec<usize>> {
    if n == 0 {
        return vec![vec![]];
    }
    let shorter = orders(n - 1);
    let put = |order: &Vec<usize>, at| {
        let mut order = order.clone();
        order.insert(at, n - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..n).map(move |at| put(order, at))).collect()
}

/// A payload that is nowhere the same.
fn payload(len: usize) -> Vec<u8> {
    (0..len).map(|n| u8::try_from(n % 251).unwrap()).collect()
}

impl Bed {
    /// Puts fragments in, and gives what left, which all left by one port.
    fn send_all(
        &mut self,
        port: PortId,
        frames: impl IntoIterator<Item = impl AsRef<[u8]>>,
    ) -> (PortId, Vec<Vec<u8>>) {
        let mut left = vec![];
        for frame in frames {
            self.send(port, frame.as_ref());
            self.judge_released();
            left.extend(self.sent());
        }
        let by = left.first().expect("something leaves").0;
        assert!(left.iter().all(|(port, _)| *port == by));
        (by, left.into_iter().map(|(_, frame)| frame).collect())
    }

    /// Each walk behind the first is of a fragment that was held, and tells where it went.
    fn judge_released(&self) {
        let out = &self.out;
        let walks: Vec<u32> = out.released.iter().map(|(walk, _)| *walk).collect();
        let expected: Vec<u32> = (1..u32::try_from(out.walked.len()).unwrap()).collect();
        assert_eq!(walks, expected, "one walk for each that is let go, behind the one put in");
        for (walk, frame) in &out.released {
            let trace = &out.walked[*walk as usize];
            let mut window = frame.window().to_vec();
            trace.render(&mut window, trace.hops().len());
            let left = out.transmits.iter().find(|transmit| transmit.walk == *walk);
            match trace.verdict {
                Verdict::Forward(port) => {
                    let left = left.expect("it leaves");
                    assert_eq!((left.port, left.frame.window()), (port, &window[..]));
                }
                Verdict::Drop(reason) => {
                    seen::note(reason);
                    assert!(left.is_none());
                }
                Verdict::Flood(_) | Verdict::Deliver(_) | Verdict::Answer(_) | Verdict::Hold => {
                    panic!("{:?}", trace.verdict)
                }
            }
        }
        self.assert_held();
    }

    /// What is counted as held is what is held.
    fn assert_held(&self) {
        let held: usize =
            self.switch.tables().datagrams().iter().map(|(_, datagram)| datagram.held()).sum();
        let counters = self.switch.counters();
        assert_eq!(counters.total().held, u64::try_from(held).unwrap());
        assert_eq!(counters.imbalances(), []);
    }

    fn datagrams(&self) -> usize {
        self.switch.tables().datagrams().len()
    }

    fn tick(&mut self) {
        self.out.clear();
        self.switch.input(self.now, Input::Tick, &mut self.out);
    }

    /// A datagram of 2,000 bytes of a pod, or what the port is.
    fn large(&self, link: Link, src: (IpAddress, u16), dst: (IpAddress, u16)) -> Vec<u8> {
        ip(link, src.0, dst.0).udp(src.1, dst.1, &payload(2_000))
    }
}
