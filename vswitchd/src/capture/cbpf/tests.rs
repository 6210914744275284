//! The interpreter against libpcap's own, and what it refuses.

use pcap::{Capture, Linktype};
use proptest::prelude::*;

use super::*;
use crate::cli::filter::compile;

const EXPRESSIONS: &[&str] = &[
    "ip",
    "ip6",
    "arp",
    "tcp",
    "udp port 53",
    "tcp dst port 80 or udp src port 68",
    "host 10.0.0.1",
    "src net 10.0.0.0/8 and not dst host 10.1.2.3",
    "ip6 host fd00::1",
    "icmp[icmptype] == icmp-echo",
    "icmp6",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "ip[2:2] > 576",
    "tcp[((tcp[12] & 0xf0) >> 2):4] == 0x47455420",
    "ether host 02:00:00:00:00:01",
    "ether multicast",
    "greater 200",
    "less 60 and ip proto 47",
    "portrange 1-1024",
    "vlan 7 and tcp",
    "ip[6:2] & 0x1fff != 0",
    "len % 7 = 3 and ip[8] * 3 - 1 > 100",
    "ether[12:2] / (ip[8] + 0) > 3",
    "ether[20] ^ ether[21] = 5 or -ether[22] < 9",
    "ip6 proto 6",
    "sctp or tcp[0:2] << 2 > 400",
];

/// Frames that are near to real ones: a random frame would never get past the Ethertype.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let ethertype = prop_oneof![
        Just(vec![0x08, 0x00]),
        Just(vec![0x86, 0xdd]),
        Just(vec![0x08, 0x06]),
        Just(vec![0x81, 0x00, 0x00, 0x07, 0x08, 0x00]),
        prop::collection::vec(any::<u8>(), 2),
    ];
    let protocol = prop_oneof![Just(1_u8), Just(6), Just(17), Just(58), Just(132), any::<u8>()];
    let port = prop_oneof![Just(53_u16), Just(80), Just(68), any::<u16>()];
    let body = prop::collection::vec(any::<u8>(), 0..300);
    (ethertype, protocol, port, body, any::<bool>()).prop_map(
        |(ethertype, protocol, port, body, fragment)| {
            let mut bytes = vec![0x02, 0, 0, 0, 0, 1, 0x02, 0, 0, 0, 0, 2];
            bytes.extend(&ethertype);
            let ip = bytes.len();
            bytes.extend(body);
            let six = ethertype.starts_with(&[0x86]);
            let mut set = |at: usize, value: &[u8]| {
                if let Some(place) = bytes.get_mut(ip + at..ip + at + value.len()) {
                    place.copy_from_slice(value);
                }
            };
            if six {
                set(0, &[0x60]);
                set(6, &[protocol]);
                set(40, &port.to_be_bytes());
                set(42, &port.to_be_bytes());
            } else {
                set(0, &[0x45]);
                if !fragment {
                    set(6, &[0x40, 0]);
                }
                set(9, &[protocol]);
                set(12, &[10, 0, 0, 1, 10, 1, 2, 3]);
                set(20, &port.to_be_bytes());
                set(22, &port.to_be_bytes());
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn agrees_with_libpcap(bytes in frame(), split in 0_usize..400) {
        for expression in EXPRESSIONS {
            let dead = Capture::dead(Linktype::ETHERNET).unwrap();
            let theirs = dead.compile(expression, true).unwrap();
            let ours = Program::new(&compile(expression).unwrap()).unwrap();
            let (head, tail) = bytes.split_at(split.min(bytes.len()));
            let expected = theirs.filter(&bytes);
            prop_assert_eq!(ours.accepts(Bytes { head, tail }), expected, "{}", expression);
        }
    }

    /// Whatever comes over the socket is refused or runs to its end.
    #[test]
    fn any_program_is_safe(
        raw in prop::collection::vec((any::<u16>(), 0_u8..4, 0_u8..4, 0_u32..40), 1..40),
        bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        const CODES: &[u16] = &[
            0x00, 0x01, 0x02, 0x03, 0x04, 0x0c, 0x14, 0x24, 0x34, 0x3c, 0x44, 0x54, 0x64, 0x6c,
            0x74, 0x7c, 0x84, 0x94, 0x9c, 0xa4, 0x05, 0x15, 0x1d, 0x25, 0x35, 0x45, 0x4d, 0x07,
            0x87, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x61, 0x80, 0x81, 0xb1, 0x16,
        ];
        let mut program: Vec<_> = raw
            .into_iter()
            .map(|(code, jt, jf, k)| {
                let code = CODES[usize::from(code) % CODES.len()];
                Instruction { code, jt, jf, k }
            })
            .collect();
        program.push(Instruction { code: 0x06, jt: 0, jf: 0, k: 1 });
        if let Ok(program) = Program::new(&program) {
            let result = program.run(Bytes::whole(&bytes));
            prop_assert_eq!(program.run(Bytes::whole(&bytes)), result);
        }
    }
}

#[test]
fn what_could_run_astray_is_refused() {
    let ret = Instruction { code: 0x06, jt: 0, jf: 0, k: 1 };
    let step = |code, jt, jf, k| Instruction { code, jt, jf, k };
    let refused = |program: &[Instruction]| Program::new(program).unwrap_err().to_string();

    assert!(refused(&[]).contains("1 to 4096"));
    assert!(refused(&vec![ret; INSTRUCTIONS_MAX + 1]).contains("4097"));
    assert!(refused(&[step(0x05, 0, 0, 1), ret]).contains("instruction 0: a jump"));
    assert!(refused(&[step(0x05, 0, 0, u32::MAX), ret]).contains("a jump backwards or beyond"));
    assert!(refused(&[step(0x15, 0, 9, 0), ret]).contains("a jump backwards or beyond"));
    assert!(refused(&[step(0x60, 0, 0, 16), ret]).contains("16 memory slots"));
    assert!(refused(&[step(0x34, 0, 0, 0), ret]).contains("division by zero"));
    assert!(refused(&[step(0x00, 0, 0, 0)]).contains("the last must return"));
    assert!(refused(&[step(0xffff, 0, 0, 0), ret]).contains("instruction 0"));
    Program::new(&[step(0x05, 0, 0, 0), ret]).unwrap();
}

/// The one primitive that libpcap compiles to a loop. The kernel refuses it as well.
#[test]
fn protochain_is_refused() {
    let program = compile("ip6 protochain 6").unwrap();
    assert!(Program::new(&program).unwrap_err().to_string().contains("protochain"));
}
