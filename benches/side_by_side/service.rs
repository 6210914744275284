//! The Service of the paths through one: an address and port, for TCP and for UDP, whose only
//! backend is pod b; as rules of nftables and as Hopscope's configuration.

use std::net::Ipv4Addr;

use smoltcp::wire::{IpAddress, Ipv4Address};
use stack::{Backend, Frontend, FrontendKind, ServiceConfig, ServiceId, ServiceProtocol};

use crate::path::{Kind, POD_B};

/// Where clients ask for it.
pub(crate) const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// See [`VIP`].
pub(crate) const PORT: u16 = 80;
/// The port of its backend.
pub(crate) const TARGET: u16 = 8_080;

/// Services of a large cluster, those that are measured included.
const MANY: u32 = 30_000;
/// Backends of each that is not measured.
const BACKENDS: u32 = 5;

/// What kube-proxy makes of it: a chain for each Service that picks one of its endpoints, a chain
/// for each endpoint that rewrites, its masquerade for what comes back to its own sender, and what
/// leads to them: see [`map`] and [`chain`].
pub(crate) fn rules(kind: Kind) -> String {
    let of = |name: &str| {
        format!(
            "
    chain endpoint-{name} {{
        ip saddr {POD_B} meta mark set meta mark or 0x4000
        meta l4proto {name} dnat to {POD_B}:{TARGET}
    }}
    chain service-{name} {{
        numgen random mod 1 vmap {{ 0 : goto endpoint-{name} }}
    }}"
        )
    };
    let (tcp, udp) = (of("tcp"), of("udp"));
    let (lead, how) = if kind == Kind::KernelRules { chain() } else { map() };
    format!(
        "table ip services {{{tcp}{udp}{lead}
    chain nat-prerouting {{
        type nat hook prerouting priority dstnat; policy accept;
        {how}
    }}
    chain nat-postrouting {{
        type nat hook postrouting priority srcnat; policy accept;
        meta mark & 0x4000 == 0 return
        masquerade fully-random
    }}
}}
"
    )
}

/// How its nftables mode finds a Service: in a map of all. What there has to be, and the rule that
/// asks it.
fn map() -> (String, &'static str) {
    let map = format!(
        "
    map service-ips {{
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = {{
            {VIP} . tcp . {PORT} : goto service-tcp,
            {VIP} . udp . {PORT} : goto service-udp
        }}
    }}"
    );
    (map, "ip daddr . meta l4proto . th dport vmap @service-ips")
}

/// How its iptables mode finds one: by a chain with a rule for each, one after another. The one
/// that is measured is amid the others. The rules are those of nftables, as iptables makes them of
/// its own since it is `iptables-nft`; what the older one would cost is not measured.
fn chain() -> (String, &'static str) {
    let mut rules = String::new();
    for number in 2..MANY {
        if number == MANY / 2 {
            for name in ["tcp", "udp"] {
                let own = format!("\n        ip daddr {VIP} {name} dport {PORT} counter");
                rules.push_str(&format!("{own} goto service-{name}"));
            }
        }
        let vip = vip(number);
        rules.push_str(&format!("\n        ip daddr {vip} tcp dport {PORT} counter goto others"));
    }
    let chains = format!(
        "
    chain others {{
    }}
    chain all-services {{{rules}
    }}"
    );
    (chains, "jump all-services")
}

/// The address of a Service of others.
fn vip(number: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 97, 0, 0).to_bits() + number)
}

/// What Hopscope is told on a path: nothing, the Service, or the Service among many.
pub(crate) fn services(kind: Kind) -> Vec<ServiceConfig> {
    let pod = Backend { port: TARGET, ..backend(POD_B) };
    let own = [ServiceProtocol::Tcp, ServiceProtocol::Udp];
    let own = (0..)
        .zip(own)
        .map(|(number, protocol)| ServiceConfig { protocol, ..service(number, VIP, vec![pod]) });
    let others = if kind == Kind::HopscopeVips { 2..MANY } else { 0..0 };
    if kind.has_service() { own.chain(others.map(other)).collect() } else { Vec::new() }
}

/// A Service of others, on nodes of others.
fn other(number: u32) -> ServiceConfig {
    let first = Ipv4Addr::new(10, 128, 0, 0).to_bits() + number * BACKENDS;
    let backends = (first..first + BACKENDS).map(Ipv4Addr::from_bits).map(backend);
    service(number, vip(number), backends.collect())
}

fn service(number: u32, vip: Ipv4Address, backends: Vec<Backend>) -> ServiceConfig {
    let address = Some(IpAddress::Ipv4(vip));
    ServiceConfig {
        frontends: vec![Frontend { kind: FrontendKind::ClusterIp, address, port: PORT }],
        backends,
        ..ServiceConfig::new(
            ServiceId(number),
            format!("bench/service-{number}:measured"),
            ServiceProtocol::Tcp,
        )
    }
}

fn backend(address: Ipv4Address) -> Backend {
    Backend { local: address == POD_B, ..Backend::ready(address.into(), TARGET) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_service_has_a_rule_and_the_measured_one_is_amid_the_others() {
        let text = rules(Kind::KernelRules);
        let of = |word: &str| text.lines().filter(|line| line.contains(word)).count();
        assert_eq!((of("goto others"), of("vmap @")), (29_998, 0));
        let at = text.lines().position(|line| line.contains("goto service-tcp")).unwrap();
        assert!((14_000..16_000).contains(&at), "{at}");
        assert!(rules(Kind::KernelDnat).lines().count() < 40);
    }

    #[test]
    fn the_measured_service_is_the_same_alone_and_among_many() {
        let (one, many) = (services(Kind::HopscopeVip), services(Kind::HopscopeVips));
        assert_eq!((one.len(), many.len()), (2, 30_000));
        assert_eq!(many[..2], one);
        for service in &one {
            assert_eq!(service.backends.len(), 1);
            assert_eq!(service.backends[0].address, POD_B.into());
        }
        assert!(many[2..].iter().all(|service| service.backends.len() == 5));
        let all =
            many.iter().map(|s| (s.protocol, s.frontends[0].address)).collect::<BTreeSet<_>>();
        assert_eq!(all.len(), 30_000, "no two share an address");
        assert!(services(Kind::HopscopeTap).is_empty());
    }
}
