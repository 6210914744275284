//! Services in a topology: a line for each Service, then one for each of its backends.
//!
//! ```text
//! service 7 demo/web:http tcp round-robin affinity 10000000000 external-local
//!   cluster 10.96.0.10:80
//!   node-port 30080
//!   balancer 203.0.114.9:80
//!   range 198.51.100.0/24
//!   backend 10.244.1.3:8080 local
//!   backend 10.244.2.5:8080 weight 3 not-ready terminating
//! ```
//!
//! A number of a port alone means every address of the node. What is not said of a backend is what
//! it usually is: ready, serving, of weight 1, without hints.

use std::fmt::Write;
use std::net::SocketAddr;
use std::str::FromStr;

use smoltcp::wire::IpAddress;
use stack::Duration;
use stack::config::{
    Backend, Frontend, FrontendKind, Method, ServiceConfig, ServiceId, ServiceProtocol,
};

const METHODS: [Method; 6] = [
    Method::Random,
    Method::RoundRobin,
    Method::WeightedRoundRobin,
    Method::LeastConnections,
    Method::SourceHash,
    Method::Maglev,
];
const PROTOCOLS: [(&str, ServiceProtocol); 3] =
    [("tcp", ServiceProtocol::Tcp), ("udp", ServiceProtocol::Udp), ("sctp", ServiceProtocol::Sctp)];
const KINDS: [(&str, FrontendKind); 5] = [
    ("cluster", FrontendKind::ClusterIp),
    ("node-port", FrontendKind::NodePort),
    ("balancer", FrontendKind::LoadBalancer),
    ("external", FrontendKind::ExternalIp),
    ("host-port", FrontendKind::HostPort),
];

/// A line that begins a Service or is of the newest one. `None` where it makes no sense.
pub(crate) fn line(services: &mut Vec<ServiceConfig>, words: &[&str]) -> Option<()> {
    if let ["service", id, name, protocol, method, rest @ ..] = words {
        services.push(service(id, name, protocol, method, rest)?);
        return Some(());
    }
    let service = services.last_mut()?;
    match words {
        ["range", cidr] => service.source_ranges.push(one(cidr)?),
        ["backend", at, rest @ ..] => service.backends.push(backend(at, rest)?),
        [kind, at] => {
            let (_, kind) = *KINDS.iter().find(|(name, _)| name == kind)?;
            let (address, port) = match one::<u16>(at) {
                Some(port) => (None, port),
                None => one::<SocketAddr>(at).map(|at| (Some(at.ip().into()), at.port()))?,
            };
            service.frontends.push(Frontend { kind, address, port });
        }
        _ => return None,
    }
    Some(())
}

fn one<T: FromStr>(word: &str) -> Option<T> {
    word.parse().ok()
}

fn service(
    id: &str,
    name: &str,
    protocol: &str,
    method: &str,
    mut rest: &[&str],
) -> Option<ServiceConfig> {
    let mut service = ServiceConfig {
        method: *METHODS.iter().find(|known| known.name() == method)?,
        ..ServiceConfig::new(
            ServiceId(one(id)?),
            name,
            PROTOCOLS.iter().find(|(name, _)| *name == protocol)?.1,
        )
    };
    loop {
        rest = match rest {
            [] => return Some(service),
            ["affinity", nanoseconds, rest @ ..] => {
                service.affinity = Some(Duration(one(nanoseconds)?));
                rest
            }
            ["internal-local", rest @ ..] => {
                service.internal_local = true;
                rest
            }
            ["external-local", rest @ ..] => {
                service.external_local = true;
                rest
            }
            _ => return None,
        };
    }
}

fn backend(at: &str, mut rest: &[&str]) -> Option<Backend> {
    let at: SocketAddr = one(at)?;
    let mut backend = Backend::ready(at.ip().into(), at.port());
    loop {
        let [word, others @ ..] = rest else { return Some(backend) };
        rest = others;
        match *word {
            "local" => backend.local = true,
            "not-ready" => backend.ready = false,
            "not-serving" => backend.serving = false,
            "terminating" => backend.terminating = true,
            "weight" | "for-node" | "for-zone" => {
                let [value, others @ ..] = rest else { return None };
                rest = others;
                match *word {
                    "weight" => backend.weight = one(value)?,
                    "for-node" => backend.for_node = Some(one(value)?),
                    _ => backend.for_zone = Some(one(value)?),
                }
            }
            _ => return None,
        }
    }
}

/// The lines of a Service.
pub(crate) fn text(service: &ServiceConfig, text: &mut String) {
    let ServiceConfig { id, name, protocol, method, affinity, .. } = service;
    let protocol = PROTOCOLS.iter().find(|(_, known)| known == protocol).unwrap().0;
    write!(text, "service {} {name} {protocol} {}", id.0, method.name()).unwrap();
    if let Some(affinity) = affinity {
        write!(text, " affinity {}", affinity.0).unwrap();
    }
    for (word, on) in
        [("internal-local", service.internal_local), ("external-local", service.external_local)]
    {
        text.push_str(if on { " " } else { "" });
        text.push_str(if on { word } else { "" });
    }
    text.push('\n');
    for Frontend { kind, address, port } in &service.frontends {
        let kind = KINDS.iter().find(|(_, known)| known == kind).unwrap().0;
        match address {
            Some(address) => writeln!(text, "  {kind} {}", at(*address, *port)).unwrap(),
            None => writeln!(text, "  {kind} {port}").unwrap(),
        }
    }
    service.source_ranges.iter().for_each(|range| writeln!(text, "  range {range}").unwrap());
    for backend in &service.backends {
        write!(text, "  backend {}", at(backend.address, backend.port)).unwrap();
        if backend.weight != 1 {
            write!(text, " weight {}", backend.weight).unwrap();
        }
        let flags = [
            ("local", backend.local),
            ("not-ready", !backend.ready),
            ("not-serving", !backend.serving),
            ("terminating", backend.terminating),
        ];
        flags.iter().filter(|(_, on)| *on).for_each(|(flag, _)| write!(text, " {flag}").unwrap());
        for (word, hint) in [("for-node", backend.for_node), ("for-zone", backend.for_zone)] {
            hint.iter().for_each(|hint| write!(text, " {word} {hint}").unwrap());
        }
        text.push('\n');
    }
}

fn at(address: IpAddress, port: u16) -> SocketAddr {
    SocketAddr::new(address.into(), port)
}

#[test]
fn services_are_read_as_they_are_written() {
    let lines = "service 7 demo/web:http tcp round-robin affinity 10000000000 internal-local\n  \
        cluster 10.96.0.10:80\n  \
        node-port 30080\n  \
        node-port 192.0.2.10:30081\n  \
        balancer 203.0.114.9:80\n  \
        external 198.51.100.9:80\n  \
        range 198.51.100.0/24\n  \
        backend 10.244.1.3:8080 local\n  \
        backend 10.244.2.5:8080 weight 3 not-ready not-serving terminating for-node true\n\
        service 8 demo/dns udp maglev external-local\n  \
        cluster [fd00:96::a]:53\n  \
        host-port 53\n  \
        backend [fd00:1::3]:53 weight 0 for-zone false\n\
        service 9 demo/none sctp least-connections\n";
    let mut services = Vec::new();
    for words in lines.lines().map(|line| line.split_whitespace().collect::<Vec<&str>>()) {
        line(&mut services, &words).unwrap();
    }
    let mut again = String::new();
    services.iter().for_each(|service| text(service, &mut again));
    assert_eq!(again, lines);
    let [web, dns, none] = &services[..] else { panic!("{services:?}") };
    assert_eq!((web.id, dns.id, none.id), (ServiceId(7), ServiceId(8), ServiceId(9)));
    assert_eq!(web.affinity, Some(Duration::from_secs(10)));
    assert!(web.internal_local && !web.external_local && dns.external_local);
    let [first, second] = web.backends[..] else { panic!("{web:?}") };
    assert!(first.local && first.ready && first.serving && !first.terminating);
    assert_eq!((second.weight, second.for_node, second.for_zone), (3, Some(true), None));
    assert!(!second.local && !second.ready && !second.serving && second.terminating);
    assert_eq!(none.backends, []);
}

#[test]
fn a_line_that_makes_no_sense_is_none() {
    let mut services = Vec::new();
    for words in [
        &["backend", "10.244.1.3:8080"][..],
        &["service", "7", "web", "icmp", "random"],
        &["service", "7", "web", "tcp", "guess"],
        &["service", "7", "web", "tcp", "random", "sticky"],
    ] {
        assert_eq!(line(&mut services, words), None, "{words:?}");
    }
    line(&mut services, &["service", "7", "web", "tcp", "random"]).unwrap();
    for words in [
        &["backend", "10.244.1.3"][..],
        &["backend", "10.244.1.3:8080", "weight"],
        &["backend", "10.244.1.3:8080", "lame"],
        &["cluster", "10.96.0.10"],
        &["range", "10.96.0.10"],
        &["vip", "10.96.0.10:80"],
    ] {
        assert_eq!(line(&mut services, words), None, "{words:?}");
    }
    let [service] = &services[..] else { panic!("{services:?}") };
    assert_eq!((service.frontends.len(), service.backends.len()), (0, 0));
}
