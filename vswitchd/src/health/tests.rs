//! What health checks are told, and the host by its cable.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use smoltcp::wire::Ipv4Address;
use stack::wire::build::{Link, flags};
use stack::{Frame, NodeConfig};

use super::answer::Asked;
use super::http::{HEAD_MAX, Head, read};
use super::*;
use crate::daemon::HEALTH_MAC;
use crate::port::Pool;

fn facts() -> Facts {
    let check = HealthCheck {
        namespace: "default".into(),
        name: "web".into(),
        port: 32_000,
        local: [2, 0],
    };
    Facts { node_port: 10_256, leaving: false, checks: vec![check] }
}

fn asked(facts: &Facts, port: u16, is_ipv6: bool, line: &str) -> (u16, String) {
    let Head::Whole(request) = read(format!("{line} HTTP/1.1\r\n\r\n").as_bytes()) else {
        panic!("{line}")
    };
    let asked = Asked { port, is_ipv6, now: 1_500_000 };
    let response = facts.answer(asked, &request);
    let text = String::from_utf8(response.bytes(request.method == "HEAD")).unwrap();
    (response.status, text)
}

#[test]
fn answers_are_those_of_kube_proxy() {
    let (mut facts, at) = (facts(), "1970-01-01 00:00:00.001 +0000 UTC");
    let (status, text) = asked(&facts, 32_000, false, "GET /whatever");
    assert_eq!(status, 200);
    let wanted = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\
         X-Content-Type-Options: nosniff\r\nX-Load-Balancing-Endpoint-Weight: 2\r\n\
         Content-Length: 94\r\nConnection: close\r\n\r\n\
         {\"service\":{\"namespace\":\"default\",\"name\":\"web\"},\
         \"localEndpoints\":2,\"serviceProxyHealthy\":true}";
    assert_eq!(text, wanted);
    let (status, text) = asked(&facts, 32_000, true, "HEAD /");
    assert!(status == 503 && text.contains("Endpoint-Weight: 0\r\n"), "{text}");
    assert!(text.ends_with("\r\n\r\n"), "{text}");
    let both = format!("{{\"lastUpdated\":\"{at}\",\"currentTime\":\"{at}\"");
    for (leaving, path, wanted, body) in [
        (false, "/healthz?verbose", 200, format!("{both},\"nodeEligible\":true}}")),
        (true, "/healthz", 503, format!("{both},\"nodeEligible\":false}}")),
        (true, "/livez", 200, format!("{both}}}")),
    ] {
        facts.leaving = leaving;
        let (status, text) = asked(&facts, 10_256, false, &format!("GET {path}"));
        assert!(status == wanted && text.ends_with(&body), "{text}");
    }
    assert_eq!(asked(&facts, 10_256, false, "GET /").0, 404);
    assert_eq!(asked(&facts, 10_256, false, "DELETE /healthz").0, 405);
    assert_eq!(asked(&facts, 31_000, false, "GET /healthz").0, 404, "gone since it was asked");
    facts.node_port = 0;
    assert!(facts.has(32_000) && !facts.has(10_256) && !facts.has(0));
}

#[test]
fn heads_are_read_to_a_limit() {
    assert_eq!(read(b""), Head::Partial);
    assert_eq!(read(b"GET / HTTP/1.1\r\nHost: x\r\n"), Head::Partial);
    assert_eq!(read(b"GET / HTTP/2.0\r\n\r\n"), Head::Bad(505));
    assert_eq!(read(b"\x16\x03\x01"), Head::Bad(400));
    let mut long = b"GET / HTTP/1.1\r\nX: ".to_vec();
    long.resize(HEAD_MAX, b'x');
    assert_eq!(read(&long), Head::Bad(431));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(33));
    assert_eq!(read(many.as_bytes()), Head::Bad(431));
}

const NODE: Ipv4Address = Ipv4Address::new(192, 0, 2, 10);
const CLIENT: Ipv4Address = Ipv4Address::new(198, 51, 100, 7);

/// The next frame that the host sends.
fn next(port: &mut dyn PortIo, pool: &mut Pool) -> Vec<u8> {
    loop {
        if let Some(frame) = port.receive(pool).unwrap() {
            return frame.bytes().to_vec();
        }
        let mut polled = [PollFd::new(port.descriptor(), PollFlags::POLLIN)];
        let ready = poll(&mut polled, PollTimeout::from(5_000_u16)).unwrap();
        assert_eq!(ready, 1, "the host is silent");
    }
}

#[test]
fn the_host_answers_whom_it_is_asked_by_and_no_one_else() {
    let shared = Arc::new(ArcSwap::from_pointee(facts()));
    let (mut port, mut pool) = (start(shared, 1_500).unwrap(), Pool::new());
    let link = Link { src: NodeConfig::GATEWAY_MAC, dst: HEALTH_MAC };
    let say = |port: &mut dyn PortIo, to: u16, flags, seq, ack, payload: &[u8]| {
        let bytes = link.ipv4(CLIENT, NODE).tcp((40_000, to), flags, seq, ack, payload);
        port.transmit(&mut Frame::from_bytes(&bytes)).unwrap();
    };
    // At a port of nobody's there is nobody.
    say(&mut *port, 31_000, flags::SYN, 1, 0, b"");
    say(&mut *port, 32_000, flags::SYN, 1, 0, b"");
    let number =
        |bytes: &[u8], at: usize| u32::from_be_bytes(*bytes[34 + at..].first_chunk().unwrap());
    let opened = next(&mut *port, &mut pool);
    assert_eq!(opened[..12], [NodeConfig::GATEWAY_MAC.0, HEALTH_MAC.0].concat());
    assert_eq!((opened[47], number(&opened, 8)), (flags::SYN | flags::ACK, 2));
    assert_eq!(opened[34..36], 32_000_u16.to_be_bytes());
    let ack = number(&opened, 4).wrapping_add(1);
    say(&mut *port, 32_000, flags::ACK, 2, ack, b"");
    // In two parts, as slow clients send.
    say(&mut *port, 32_000, flags::ACK, 2, ack, b"GET / HT");
    std::thread::sleep(Duration::from_millis(20));
    say(&mut *port, 32_000, flags::ACK, 10, ack, b"TP/1.1\r\n\r\n");
    let answer = loop {
        let bytes = next(&mut *port, &mut pool);
        if bytes.len() > 100 {
            break bytes;
        }
    };
    let text = String::from_utf8_lossy(&answer[54..]).into_owned();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
}
