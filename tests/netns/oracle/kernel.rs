//! A node made of the kernel alone: pods on a bridge, rules as kube-proxy writes them.
//!
//! ```text
//!   lan ── up0 [ node: nftables, conntrack ] cni0 (bridge) ┬─ eth0 pod
//!   192.0.2.1         192.0.2.11            10.244.1.1     └─ eth0 pod
//! ```

use std::net::IpAddr;
use std::sync::Arc;

use lab::{Lan, Namespace};

use super::services::{Service, rules};
use crate::services::{GATEWAYS, NODE};

/// The node, its pods, and the world outside.
pub(super) struct Kernel {
    // Namespaces of pods go before the node's.
    pub(super) pods: Vec<(Namespace, Vec<IpAddr>)>,
    pub(super) node: Namespace,
    pub(super) lan: Arc<Lan>,
}

impl Kernel {
    pub(super) fn new(pods: &[&str]) -> Self {
        let lan = Lan::new(1500).unwrap();
        let run = lan.netns.owner();
        let node = Namespace::new(run, "kernel").unwrap();
        lan.attach(&node, 0, &NODE.map(str::to_owned)).unwrap();
        for (key, value) in [
            ("net/ipv4/ip_forward", "1"),
            ("net/ipv6/conf/all/forwarding", "1"),
            // As the CNI plugin `bridge` needs it, for answers from one pod to another.
            ("net/bridge/bridge-nf-call-iptables", "1"),
            ("net/bridge/bridge-nf-call-ip6tables", "1"),
        ] {
            node.sysctl(key, value).unwrap();
        }
        node.ip(&["link", "add", "cni0", "type", "bridge"]).unwrap();
        node.ip(&["link", "set", "cni0", "up"]).unwrap();
        for (gateway, length) in GATEWAYS.iter().zip([24, 64]) {
            node.address("cni0", &format!("{gateway}/{length}")).unwrap();
        }
        let pods = pods.iter().enumerate().map(|(index, name)| {
            let pod = Namespace::new(run, &format!("kernel-{name}")).unwrap();
            pod.without_dad().unwrap();
            let port = format!("veth{index}");
            pod.connect("eth0", &node, &port, 1500).unwrap();
            let link = ["link", "set", &port, "type", "bridge_slave", "hairpin", "on"];
            node.ip(&["link", "set", &port, "master", "cni0"]).unwrap();
            node.ip(&link).unwrap();
            let own = [format!("10.244.1.{}", index + 2), format!("fd00:10:244:1::{}", index + 2)];
            for (address, length) in own.iter().zip([24, 64]) {
                pod.address("eth0", &format!("{address}/{length}")).unwrap();
            }
            GATEWAYS.iter().for_each(|gateway| pod.default_route(gateway).unwrap());
            (pod, own.iter().map(|address| address.parse().unwrap()).collect())
        });
        Self { pods: pods.collect(), node, lan }
    }

    /// Serves these Services from now on, and no others. What kube-proxy sets once is set.
    pub(super) fn serve(&self, services: &[Service]) {
        let file = self.node.owner().fresh_path("rules.nft");
        std::fs::write(&file, rules(services, NODE)).unwrap();
        self.node.run("nft", &["-f", &file.to_string_lossy()]).unwrap();
        for (key, value) in [
            ("net/netfilter/nf_conntrack_tcp_timeout_established", "86400"),
            ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", "3600"),
        ] {
            self.node.sysctl(key, value).unwrap();
        }
    }

    /// Ends the UDP connections of a Service with backends that it no longer has, as kube-proxy
    /// does for one that has others (conformance 3.5).
    pub(super) fn clean(&self, service: &Service, gone: &[IpAddr]) {
        if service.backends.is_empty() {
            return;
        }
        for (vip, backend) in service.vips().iter().zip(gone) {
            let family = if backend.is_ipv6() { "ipv6" } else { "ipv4" };
            let backend = backend.to_string();
            let args = ["-D", "-f", family, "-p", "udp", "--orig-dst", vip, "--dst-nat", &backend];
            self.node.run("conntrack", &args).unwrap();
        }
    }
}
