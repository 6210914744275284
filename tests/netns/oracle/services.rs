//! The Services of both worlds, as manifests for one and as rules for the other.

use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Value, json};

/// The addresses of nodes' pods, whom the cluster's own traffic is known by, and of Services.
pub(super) const PODS: [&str; 2] = ["10.244.1.0/24", "fd00:10:244:1::/64"];
pub(super) const ALL_PODS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/48"];
pub(super) const RANGES: [&str; 2] = ["10.96.0.0/16", "fd00:96::/112"];
/// What kube-proxy marks packets with whose source is to be masqueraded.
const MARK: &str = "0x4000";
/// The ports of every Service: name, protocol, number.
const PORTS: [(&str, &str, u16); 2] = [("web", "TCP", 80), ("echo", "UDP", 7)];
/// Where the servers of a backend listen, by TCP and by UDP.
pub(super) const TARGETS: [u16; 2] = [8080, 7007];

/// A Service of each family, with a port of TCP and one of UDP.
#[derive(Debug, Clone)]
pub(super) struct Service {
    pub(super) name: &'static str,
    /// The last part of its VIPs.
    pub(super) number: u8,
    pub(super) targets: [u16; 2],
    pub(super) node_ports: Option<[u16; 2]>,
    /// Whether the policies are Local, for the outside and inside of the cluster.
    pub(super) local: [bool; 2],
    pub(super) external: Option<[&'static str; 2]>,
    /// Addresses of a load balancer, and who may use them.
    pub(super) balanced: Option<([&'static str; 2], [&'static str; 2])>,
    /// Backends by family, and whether they are of this node.
    pub(super) backends: Vec<IpAddr>,
    pub(super) is_here: bool,
}

impl Service {
    pub(super) fn new(name: &'static str, number: u8, backends: &[IpAddr]) -> Self {
        Self {
            name,
            number,
            targets: TARGETS,
            node_ports: None,
            local: [false; 2],
            external: None,
            balanced: None,
            backends: backends.to_vec(),
            is_here: true,
        }
    }

    pub(super) fn vips(&self) -> [String; 2] {
        [format!("10.96.0.{}", self.number), format!("fd00:96::{:x}", self.number)]
    }

    fn of_family(&self, is_ipv6: bool) -> Vec<IpAddr> {
        self.backends.iter().copied().filter(|address| address.is_ipv6() == is_ipv6).collect()
    }

    /// The object Service.
    pub(super) fn object(&self) -> Value {
        let policy = |is_local| if is_local { "Local" } else { "Cluster" };
        let ports: Vec<Value> = (0..2)
            .map(|index| {
                let (name, protocol, port) = PORTS[index];
                let target = self.targets[index];
                let mut one =
                    json!({"name": name, "protocol": protocol, "port": port, "targetPort": target});
                if let Some(node_ports) = self.node_ports {
                    one["nodePort"] = json!(node_ports[index]);
                }
                one
            })
            .collect();
        let mut spec = json!({
            "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
            "clusterIP": self.vips()[0], "clusterIPs": self.vips(), "ports": ports,
            "internalTrafficPolicy": policy(self.local[1]),
        });
        if self.node_ports.is_some() {
            spec["type"] = json!("NodePort");
            spec["externalTrafficPolicy"] = json!(policy(self.local[0]));
        }
        if let Some(external) = self.external {
            spec["externalIPs"] = json!(external);
        }
        let mut object = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": self.name, "namespace": "default"},
        });
        if let Some((addresses, sources)) = self.balanced {
            spec["type"] = json!("LoadBalancer");
            spec["loadBalancerSourceRanges"] = json!(sources);
            let ingress = addresses.map(|ip| json!({"ip": ip}));
            object["status"] = json!({"loadBalancer": {"ingress": ingress}});
        }
        object["spec"] = spec;
        object
    }

    /// The objects EndpointSlice, with that node's name for what is of this one.
    pub(super) fn slices(&self, node: &str) -> [Value; 2] {
        let node = if self.is_here { node } else { "node2" };
        [("IPv4", false), ("IPv6", true)].map(|(family, is_ipv6)| {
            let endpoints: Vec<Value> = self
                .of_family(is_ipv6)
                .into_iter()
                .map(|address| {
                    json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": node})
                })
                .collect();
            let ports: Vec<Value> = PORTS
                .iter()
                .zip(self.targets)
                .map(|((name, protocol, _), target)| {
                    json!({"name": name, "protocol": protocol, "port": target})
                })
                .collect();
            json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{}-{}", self.name, family.to_lowercase()),
                    "namespace": "default",
                    "labels": {"kubernetes.io/service-name": self.name},
                },
                "addressType": family, "endpoints": endpoints, "ports": ports,
            })
        })
    }
}

/// All rules, as `nft -f` reads them: the tables are made anew.
pub(super) fn rules(services: &[Service], node: [&str; 2]) -> String {
    let mut text = String::new();
    for is_ipv6 in [false, true] {
        Rules::new(services, is_ipv6, node[usize::from(is_ipv6)]).write(&mut text);
    }
    text
}

/// The rules of one family: the shape that kube-proxy's mode `nftables` writes (conformance 3.4),
/// and beside them the masquerade of the CNI plugin `bridge`.
struct Rules<'a> {
    services: &'a [Service],
    is_ipv6: bool,
    node: &'a str,
    /// Chains, and what the maps hold.
    chains: String,
    service_ips: Vec<String>,
    service_node_ports: Vec<String>,
    empty_ips: Vec<String>,
    empty_node_ports: Vec<String>,
    firewall: Vec<String>,
}

impl<'a> Rules<'a> {
    fn new(services: &'a [Service], is_ipv6: bool, node: &'a str) -> Self {
        Self {
            services,
            is_ipv6,
            node,
            chains: String::new(),
            service_ips: Vec::new(),
            service_node_ports: Vec::new(),
            empty_ips: Vec::new(),
            empty_node_ports: Vec::new(),
            firewall: Vec::new(),
        }
    }

    const fn family(&self) -> &'static str {
        if self.is_ipv6 { "ip6" } else { "ip" }
    }

    fn pods(&self) -> &'static str {
        PODS[usize::from(self.is_ipv6)]
    }

    fn chain(&mut self, name: &str, rules: &[String]) {
        let body: String = rules.iter().map(|rule| format!("    {rule}\n")).collect();
        writeln!(self.chains, "  chain {name} {{\n{body}  }}").unwrap();
    }

    /// One of the backends, at random.
    fn choice(backends: &[IpAddr], chain: &str) -> String {
        let ways: Vec<String> = (0..backends.len())
            .map(|index| format!("{index} : goto endpoint-{chain}-{index}"))
            .collect();
        format!("numgen random mod {} vmap {{ {} }}", backends.len(), ways.join(", "))
    }

    /// The chains of one port of a Service, and its elements of the maps.
    fn port(&mut self, service: &Service, index: usize) {
        let (family, pods) = (self.family(), self.pods());
        let (protocol, l4_port) = (PORTS[index].1.to_lowercase(), PORTS[index].2);
        let chain = format!("{}-{protocol}", service.name);
        let backends = service.of_family(self.is_ipv6);
        let vip = &service.vips()[usize::from(self.is_ipv6)];
        for (number, backend) in backends.iter().enumerate() {
            let target = if self.is_ipv6 { format!("[{backend}]") } else { backend.to_string() };
            let rules = [
                format!("{family} saddr {backend} jump mark-for-masquerade"),
                format!("meta l4proto {protocol} dnat to {target}:{}", service.targets[index]),
            ];
            self.chain(&format!("endpoint-{chain}-{number}"), &rules);
        }
        let local = if service.is_here { &backends[..] } else { &[] };
        let key = |address: &str| format!("{address} . {protocol} . {l4_port}");
        let inner = if service.local[1] { local } else { &backends };
        if !inner.is_empty() {
            let mark =
                format!("{family} daddr {vip} {family} saddr != {pods} jump mark-for-masquerade");
            self.chain(&format!("service-{chain}"), &[mark, Self::choice(inner, &chain)]);
            self.service_ips.push(format!("{} : goto service-{chain}", key(vip)));
        }
        let nobody = if backends.is_empty() { "goto reject-chain" } else { "drop" };
        if inner.is_empty() {
            self.empty_ips.push(format!("{} : {nobody}", key(vip)));
        }
        let mut outer: Vec<&str> =
            service.external.iter().map(|both| both[usize::from(self.is_ipv6)]).collect();
        if let Some((addresses, sources)) = service.balanced {
            let (address, source) =
                (addresses[usize::from(self.is_ipv6)], sources[usize::from(self.is_ipv6)]);
            outer.push(address);
            let rules = [format!("{family} saddr != {{ {source} }} drop")];
            self.chain(&format!("firewall-{chain}"), &rules);
            self.firewall.push(format!("{} : goto firewall-{chain}", key(address)));
        }
        let node_port = service.node_ports.map(|ports| format!("{protocol} . {}", ports[index]));
        let reached = if service.local[0] { local } else { &backends };
        if reached.is_empty() {
            self.empty_ips.extend(outer.iter().map(|it| format!("{} : {nobody}", key(it))));
            self.empty_node_ports.extend(node_port.iter().map(|it| format!("{it} : {nobody}")));
        }
        let has_others = !outer.is_empty() || node_port.is_some();
        if !inner.is_empty() && has_others {
            self.external(service.local[0], &chain, reached);
            let way = format!("goto external-{chain}");
            self.service_ips.extend(outer.iter().map(|it| format!("{} : {way}", key(it))));
            self.service_node_ports.extend(node_port.iter().map(|it| format!("{it} : {way}")));
        }
    }

    /// The chain of what comes to a node port or to another address than the VIP.
    fn external(&mut self, is_local: bool, chain: &str, reached: &[IpAddr]) {
        let (family, pods) = (self.family(), self.pods());
        let mut rules = if is_local {
            vec![
                format!("{family} saddr {pods} goto service-{chain}"),
                "fib saddr type local jump mark-for-masquerade".to_owned(),
                format!("fib saddr type local goto service-{chain}"),
            ]
        } else {
            vec!["jump mark-for-masquerade".to_owned(), format!("goto service-{chain}")]
        };
        if is_local && !reached.is_empty() {
            rules.push(Self::choice(reached, chain));
        }
        self.chain(&format!("external-{chain}"), &rules);
    }

    fn write(mut self, text: &mut String) {
        for service in self.services {
            for index in 0..2 {
                self.port(service, index);
            }
        }
        let family = self.family();
        let vips: Vec<String> = self
            .services
            .iter()
            .map(|service| service.vips()[usize::from(self.is_ipv6)].clone())
            .collect();
        let address = if self.is_ipv6 { "ipv6_addr" } else { "ipv4_addr" };
        writeln!(text, "table {family} kube-proxy\ndelete table {family} kube-proxy").unwrap();
        writeln!(text, "table {family} kube-proxy {{").unwrap();
        let by_address = format!("{address} . inet_proto . inet_service : verdict");
        let by_port = "inet_proto . inet_service : verdict".to_owned();
        for (kind, name, of, elements) in [
            ("set", "cluster-ips", &address.to_owned(), &vips),
            ("set", "nodeport-ips", &address.to_owned(), &vec![self.node.to_owned()]),
            ("map", "service-ips", &by_address, &self.service_ips),
            ("map", "service-nodeports", &by_port, &self.service_node_ports),
            ("map", "no-endpoint-services", &by_address, &self.empty_ips),
            ("map", "no-endpoint-nodeports", &by_port, &self.empty_node_ports),
            ("map", "firewall-ips", &by_address, &self.firewall),
        ] {
            writeln!(text, "  {kind} {name} {{\n    type {of}").unwrap();
            if !elements.is_empty() {
                writeln!(text, "    elements = {{ {} }}", elements.join(", ")).unwrap();
            }
            writeln!(text, "  }}").unwrap();
        }
        let fixed = FIXED
            .replace("FAMILY", family)
            .replace("MARK", MARK)
            .replace("RANGE", RANGES[usize::from(self.is_ipv6)]);
        // A chain stands before those that lead to it.
        let (first, last) = fixed.split_once("CHAINS\n").unwrap();
        writeln!(text, "{first}{}{last}}}", self.chains).unwrap();
        let masquerade = MASQUERADE
            .replace("FAMILY", family)
            .replace("ALL", ALL_PODS[usize::from(self.is_ipv6)])
            .replace("PODS", self.pods());
        text.push_str(&masquerade);
    }
}

/// What does not depend on Services.
const FIXED: &str = "  chain mark-for-masquerade {
    mark set mark or MARK
  }
  chain reject-chain {
    reject
  }
CHAINS
  chain services {
    FAMILY daddr . meta l4proto . th dport vmap @service-ips
    FAMILY daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
  }
  chain cluster-ips-check {
    FAMILY daddr @cluster-ips reject
    FAMILY daddr { RANGE } drop
  }
  chain service-endpoints-check {
    FAMILY daddr . meta l4proto . th dport vmap @no-endpoint-services
  }
  chain nodeport-endpoints-check {
    FAMILY daddr @nodeport-ips meta l4proto . th dport vmap @no-endpoint-nodeports
  }
  chain firewall-check {
    FAMILY daddr . meta l4proto . th dport vmap @firewall-ips
  }
  chain masquerading {
    mark and MARK == 0 return
    mark set mark xor MARK
    masquerade fully-random
  }
  chain filter-prerouting-pre-dnat {
    type filter hook prerouting priority -110
    ct state new jump firewall-check
  }
  chain filter-output-pre-dnat {
    type filter hook output priority -110
    ct state new jump firewall-check
  }
  chain filter-forward {
    type filter hook forward priority 0
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain filter-input {
    type filter hook input priority 0
    ct state new jump nodeport-endpoints-check
    ct state new jump service-endpoints-check
  }
  chain filter-output {
    type filter hook output priority 0
    ct state new jump service-endpoints-check
    ct state new jump cluster-ips-check
  }
  chain nat-prerouting {
    type nat hook prerouting priority -100
    jump services
  }
  chain nat-output {
    type nat hook output priority -100
    jump services
  }
  chain nat-postrouting {
    type nat hook postrouting priority 100
    jump masquerading
  }
";

/// `ipMasq` of the CNI plugin `bridge`.
const MASQUERADE: &str = "table FAMILY cni-masquerade
delete table FAMILY cni-masquerade
table FAMILY cni-masquerade {
  chain postrouting {
    type nat hook postrouting priority 100
    FAMILY saddr PODS FAMILY daddr != ALL fib daddr type unicast masquerade
  }
}
";
