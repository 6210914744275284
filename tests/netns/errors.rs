//! ICMP errors: traceroute and tracepath see the gateway, and what the switch answers is compared
//! with what the kernel, as a router in the same place, answers to the same packets.
//!
//! ```text
//!   pod a ── vswitchd ── hop0 [ node ]          a ── r0 [ kernel router ] r1 ── b
//! ```

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use lab::pod::lab_run;
use lab::router::Router;
use lab::{Namespace, Pod};

use crate::foretell::{BY_HAND, How, fails, passes};
use crate::frames::{GATEWAY, Mac, ethernet, hex, mac, udp4, udp6, unhex};
use crate::{World, turn};

/// Bytes of the causing packet that the switch quotes at least: its headers. The switch quotes at
/// most its header window (declared), the kernel more.
const QUOTE_MIN: usize = 48;

/// What an ICMP error says.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Answer {
    source: String,
    icmp_type: u8,
    code: u8,
    mtu: u32,
    /// In which form the packet is quoted.
    form: Form,
    quote: Vec<u8>,
}

/// How a quoted packet stands beside the one that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As it was sent.
    AsSent,
    /// With the hop limit that it would have gone on with: only the last step failed.
    Forwarded,
}

/// Reads an ICMP or ICMPv6 error about a packet that was sent.
fn answer(frame: &[u8], sent: &[u8]) -> Option<Answer> {
    let packet = frame.get(14..)?;
    let (source, message) = if frame.get(12..14)? == [0x08, 0x00] {
        let source = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?);
        (source.to_string(), packet.get(usize::from(packet[0] & 15) * 4..)?)
    } else {
        let source = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?);
        (source.to_string(), packet.get(40..)?)
    };
    let mtu = u32::from_be_bytes(message.get(4..8)?.try_into().ok()?);
    let (icmp_type, code) = (message[0], message[1]);
    let quote = message.get(8..)?.to_vec();
    let form = form(&quote, sent);
    Some(Answer { source, icmp_type, code, mtu, form, quote })
}

/// The form of a quote, which must be the packet itself as far as it goes.
fn form(quote: &[u8], sent: &[u8]) -> Form {
    let forwarded = forwarded(sent);
    let quoted = quote.len().min(sent.len());
    match &quote[..quoted] {
        same if *same == sent[..quoted] => Form::AsSent,
        same if *same == forwarded[..quoted] => Form::Forwarded,
        other => panic!("the quote is the packet:\n{other:?}\n{sent:?}"),
    }
}

/// The packet with its hop limit less by one, and for IPv4 the header's checksum that follows.
fn forwarded(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
    } else {
        packet[8] -= 1;
        // RFC 1624: the sum's complement grows by what the word has lost.
        let sum = u32::from(packet[10]) << 8 | u32::from(packet[11]);
        let sum = sum + 0x0100;
        let sum = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

/// Sends one frame and gives back the one error that comes.
fn ask(from: &Namespace, frame: Vec<u8>, wait_ms: &str) -> Answer {
    let file = from.owner().fresh_path("frames");
    std::fs::write(&file, hex(std::slice::from_ref(&frame))).unwrap();
    let filter = "(icmp and icmp[0] != 8 and icmp[0] != 0) or (icmp6 and ip6[40] < 128)";
    let path = file.to_string_lossy();
    let args = ["raw", "--interface", "eth0", "--frames", &path, "--wait-ms", wait_ms];
    let said = lab_run(from, &[&args[..], &["--filter", filter]].concat()).unwrap();
    let sent = &frame[14..];
    let answers: Vec<Answer> = unhex(&said).iter().filter_map(|it| answer(it, sent)).collect();
    assert_eq!(answers.len(), 1, "one error: {answers:?} in {said:?}");
    let answer = answers.into_iter().next().unwrap();
    assert!(answer.quote.len() >= QUOTE_MIN.min(sent.len()), "{} bytes quoted", answer.quote.len());
    answer
}

/// A host that asks: where it is and how its packets reach the gateway.
struct Asker<'a> {
    netns: &'a Namespace,
    own: Mac,
    gateway: Mac,
    v4: Ipv4Addr,
    v6: Ipv6Addr,
}

impl Asker<'_> {
    fn v4(&self, dst: &str, ttl: u8, payload: usize, wait_ms: &str) -> Answer {
        let packet = udp4(self.v4, dst.parse().unwrap(), ttl, &vec![0x55; payload]);
        ask(self.netns, ethernet(self.gateway, self.own, 0x0800, &packet), wait_ms)
    }

    fn v6(&self, dst: &str, hops: u8, payload: usize, wait_ms: &str) -> Answer {
        self.v6_from(self.v6, dst, hops, payload, wait_ms)
    }

    fn v6_from(&self, src: Ipv6Addr, dst: &str, hops: u8, payload: usize, wait_ms: &str) -> Answer {
        let packet = udp6(src, dst.parse().unwrap(), hops, &vec![0x55; payload]);
        let mut answer =
            ask(self.netns, ethernet(self.gateway, self.own, 0x86dd, &packet), wait_ms);
        // The two gateways have each their own: that it is the gateway's is what is compared.
        if answer.source == link_local(self.gateway).to_string() {
            "the gateway's link-local address".clone_into(&mut answer.source);
        }
        answer
    }

    /// From its link-local address, beyond whose scope the destination is.
    fn beyond_scope(&self, dst: &str) -> Answer {
        self.v6_from(link_local(self.own), dst, 64, 80, "300")
    }
}

/// The EUI-64 link-local address of a MAC.
fn link_local(mac: Mac) -> Ipv6Addr {
    stack::config::link_local(smoltcp::wire::EthernetAddress(mac))
}

/// The MAC of an interface.
fn mac_of(netns: &Namespace, ifname: &str) -> Mac {
    let text = netns.ip(&["-json", "link", "show", ifname]).unwrap();
    let links: serde_json::Value = serde_json::from_str(&text).unwrap();
    mac(links[0]["address"].as_str().unwrap())
}

fn asker(pod: &Pod) -> Asker<'_> {
    Asker {
        netns: pod,
        own: mac(&pod.mac().unwrap()),
        gateway: GATEWAY,
        v4: pod.v4().unwrap(),
        v6: pod.v6().unwrap(),
    }
}

/// Every error in question: what is asked in both places, and what comes back.
struct Case {
    name: &'static str,
    kernel: Answer,
    switch: Answer,
}

fn cases(kernel: &Asker<'_>, switch: &Asker<'_>) -> Vec<Case> {
    // The far host of the oracle is in the place of the node.
    let (far4, node4) = ("10.244.2.2", "192.0.2.11");
    let (far6, node6) = ("fd00:10:244:2::2", "2001:db8::11");
    let case = |name, kernel, switch| Case { name, kernel, switch };
    vec![
        case("hop limit, IPv4", kernel.v4(far4, 1, 80, "300"), switch.v4(node4, 1, 80, "300")),
        case("hop limit, IPv6", kernel.v6(far6, 1, 80, "300"), switch.v6(node6, 1, 80, "300")),
        case("too big, IPv4", kernel.v4(far4, 64, 3000, "300"), switch.v4(node4, 64, 3000, "300")),
        case("too big, IPv6", kernel.v6(far6, 64, 3000, "300"), switch.v6(node6, 64, 3000, "300")),
        // The kernel asks three times for a host that is not there; the switch knows its pods.
        case(
            "no such host, IPv4",
            kernel.v4("10.244.2.99", 64, 80, "4500"),
            switch.v4("10.244.1.99", 64, 80, "300"),
        ),
        case(
            "no such host, IPv6",
            kernel.v6("fd00:10:244:2::99", 64, 80, "4500"),
            switch.v6("fd00:10:244:1::99", 64, 80, "300"),
        ),
        case("beyond scope", kernel.beyond_scope(far6), switch.beyond_scope(node6)),
    ]
}

/// Where no route leads it is the node's kernel that says so, one hop further.
fn no_route(kernel: &Asker<'_>, switch: &Asker<'_>) {
    for (kernel, switch, node) in [
        (
            kernel.v4("203.0.113.9", 64, 80, "300"),
            switch.v4("203.0.113.9", 64, 80, "300"),
            "192.0.2.11",
        ),
        (
            kernel.v6("2001:db8:9::9", 64, 80, "300"),
            switch.v6("2001:db8:9::9", 64, 80, "300"),
            "2001:db8::11",
        ),
    ] {
        assert_eq!(kernel.form, Form::AsSent);
        let expected = (kernel.icmp_type, kernel.code, node.to_owned(), Form::Forwarded);
        assert_eq!((switch.icmp_type, switch.code, switch.source, switch.form), expected);
    }
}

/// A trace foretells the same types and codes.
fn foretold(world: &World, pod: &Pod) {
    let (node, from) = (("node", &world.netns), ("default/a", &**pod));
    let (four, six) = ((How::Icmp, false), (How::Icmp, true));
    let near = link_local(mac(&pod.mac().unwrap()));
    let beyond = udp6(near, "2001:db8::11".parse().unwrap(), 64, b"hopctl trace");
    let beyond = ethernet(GATEWAY, mac(&pod.mac().unwrap()), 0x86dd, &beyond);
    let near = near.to_string();
    let probe = udp4(pod.v4().unwrap(), "192.0.2.11".parse().unwrap(), 1, b"hopctl trace");
    let probe = ethernet(GATEWAY, mac(&pod.mac().unwrap()), 0x0800, &probe);
    world.foretell(&[
        fails(node, "10.244.1.99", four, "ICMP type 3 code 1"),
        fails(node, "fd00:10:244:1::99", (How::Tcp(80), true), "ICMP type 1 code 3"),
        fails(from, "node", four, "ICMP type 11 code 0").hop_limit(1),
        fails(from, "node", six, "ICMP type 3 code 0").hop_limit(1),
        fails(from, "node", (BY_HAND, false), "ICMP type 11 code 0")
            .hop_limit(1)
            .sent_as("eth0", probe),
        fails(from, "node", four, "ICMP type 3 code 4").size(3_000),
        fails(from, "node", six, "ICMP type 2 code 0").size(3_000),
        fails((&near, pod), "node", (BY_HAND, true), "ICMP type 1 code 2").sent_as("eth0", beyond),
    ]);
    // What begins as one of those does, and goes on.
    world.foretell(&[
        passes(from, "node", four, "forward to host").hop_limit(2),
        // A bridge counts no hops, and answers nothing.
        passes(from, "default/small", four, "forward to pod/default/small").hop_limit(1),
        fails(from, "default/small", four, "drop MtuExceeded").size(3_000),
        fails(from, "default/small", six, "drop MtuExceeded").size(3_000),
        passes(from, "node", six, "forward to host").hop_limit(2),
        passes(from, "node", four, "forward to host").size(1_500),
        passes(from, "node", six, "forward to host").size(1_500),
        // To where the pod's kernel has learned no path MTU.
        passes(from, "192.0.2.1", four, "forward to host").size(3_000).may_fragment(),
    ]);
}

#[test]
fn errors_equal_the_kernels() {
    let world = World::new("tap");
    let jumbo: BTreeMap<_, _> = [("mtu".to_owned(), 9000.into())].into();
    let pod = world.pod_with(("default", "a"), &jumbo).unwrap();
    let [_small] = world.pods(["small"]);
    let oracle = Router::new(9000, 1500).unwrap();
    let kernel = Asker {
        netns: &oracle.a,
        own: mac_of(&oracle.a, "eth0"),
        gateway: mac_of(&oracle.router, "r0"),
        v4: "10.244.1.2".parse().unwrap(),
        v6: "fd00:10:244:1::2".parse().unwrap(),
    };
    for Case { name, kernel, switch } in cases(&kernel, &asker(&pod)) {
        let facts = |answer: &Answer| {
            (answer.icmp_type, answer.code, answer.mtu, answer.source.clone(), answer.form)
        };
        assert_eq!(facts(&switch), facts(&kernel), "{name}: type, code, MTU, source, quote");
    }
    foretold(&world, &pod);
    // Without a way out of the node.
    for family in ["-4", "-6"] {
        let _none = world.netns.ip(&[family, "route", "del", "default"]);
    }
    no_route(&kernel, &asker(&pod));
    world.settle(&["HopLimitExceeded", "MtuExceeded", "NeighborFailed", "LinkScope"]);
}

/// Whether traceroute or tracepath shows that address as the hop of that number.
pub(crate) fn shows(output: &str, number: u32, address: &str) -> bool {
    output.lines().any(|line| {
        let mut words = line.split_whitespace();
        // Lines begin with the hop's number; tracepath writes `1:`.
        let hop = words.next().and_then(|word| word.trim_end_matches(':').parse().ok());
        hop == Some(number) && words.any(|word| word == address)
    })
}

#[test]
fn traceroute_and_tracepath_show_the_gateway() {
    let world = World::new("tap");
    let [pod] = world.pods(["a"]);
    for (gateway, node) in [("10.244.1.1", "192.0.2.11"), ("fd00:10:244:1::1", "2001:db8::11")] {
        for (program, args) in
            [("traceroute", &["-n", "-q", "1", "-w", "2", node][..]), ("tracepath", &["-n", node])]
        {
            let output = pod.run(program, args).unwrap().stdout;
            assert!(shows(&output, 1, gateway), "{program}: the first is the gateway: {output}");
            assert!(shows(&output, 2, node), "{program}: the second is the node: {output}");
        }
        // The probe that gets there, as a trace tells it.
        let how = (How::Udp(33_434), node.contains(':'));
        world.foretell(&[passes(("default/a", &pod), node, how, "forward to host")]);
    }
    world.settle(&["HopLimitExceeded"]);
}

#[test]
fn the_oracle_itself_answers() {
    // Keeps the comparison honest without a switch: the kernel's answers are the RFCs'.
    let _turn = turn();
    let oracle = Router::new(9000, 1500).unwrap();
    let kernel = Asker {
        netns: &oracle.a,
        own: mac_of(&oracle.a, "eth0"),
        gateway: mac_of(&oracle.router, "r0"),
        v4: "10.244.1.2".parse().unwrap(),
        v6: "fd00:10:244:1::2".parse().unwrap(),
    };
    let facts = |answer: Answer| {
        // What is refused before it goes on is quoted as it was sent.
        let last_step = matches!((answer.icmp_type, answer.code), (3, 1) | (1, 3));
        assert_eq!(answer.form == Form::Forwarded, last_step, "{answer:?}");
        (answer.icmp_type, answer.code, answer.mtu, answer.source)
    };
    let gateway4 = "10.244.1.1".to_owned();
    let gateway6 = "fd00:10:244:1::1".to_owned();
    let far6 = "fd00:10:244:2::2";
    assert_eq!(facts(kernel.v4("10.244.2.2", 1, 80, "300")), (11, 0, 0, gateway4.clone()));
    assert_eq!(facts(kernel.v6(far6, 1, 80, "300")), (3, 0, 0, gateway6.clone()));
    assert_eq!(facts(kernel.v4("10.244.2.2", 64, 3000, "300")), (3, 4, 1500, gateway4.clone()));
    assert_eq!(facts(kernel.v6(far6, 64, 3000, "300")), (2, 0, 1500, gateway6.clone()));
    assert_eq!(facts(kernel.v4("203.0.113.9", 64, 80, "300")), (3, 0, 0, gateway4.clone()));
    assert_eq!(facts(kernel.v6("2001:db8:9::9", 64, 80, "300")), (1, 0, 0, gateway6.clone()));
    assert_eq!(facts(kernel.v4("10.244.2.99", 64, 80, "4500")), (3, 1, 0, gateway4));
    assert_eq!(facts(kernel.v6("fd00:10:244:2::99", 64, 80, "4500")), (1, 3, 0, gateway6));
    let near = "the gateway's link-local address".to_owned();
    assert_eq!(facts(kernel.beyond_scope(far6)), (1, 2, 0, near));
}
