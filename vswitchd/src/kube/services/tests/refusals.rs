//! What no Service may have, and that the others stay in force beside it.

use super::*;

/// A Service `default/other` in which there is no fault.
fn other() -> String {
    service("other", "clusterIP: 10.96.0.99, ports: [{port: 99}]")
}

/// What is left of `default/web` when it stands beside another, and its fault, without the object.
fn left(documents: &str) -> (Vec<ServiceConfig>, String) {
    let (mut services, fault) = faulty(&format!("{}{documents}", other()));
    assert_eq!(services.remove(0), good(&other())[0], "the other is in force");
    (services, fault.strip_prefix("Service default/web: ").unwrap_or(&fault).to_owned())
}

#[test]
fn no_backend_is_where_only_the_node_or_nobody_may_be() {
    for (family, address, what) in [
        ("IPv4", "127.0.0.1", "127.0.0.0/8, which is loopback"),
        ("IPv4", "169.254.169.254", "169.254.0.0/16, which is link-local"),
        ("IPv4", "0.0.0.0", "0.0.0.0/8, which means this network"),
        ("IPv4", "224.0.0.1", "224.0.0.0/4, which is multicast"),
        ("IPv4", "255.255.255.255", "240.0.0.0/4, which is reserved"),
        ("IPv6", "::1", "::/96, which holds loopback"),
        ("IPv6", "::", "::/96, which holds loopback"),
        ("IPv6", "fe80::1", "fe80::/10, which is link-local"),
        ("IPv6", "ff02::1", "ff00::/8, which is multicast"),
        ("IPv6", "::ffff:127.0.0.1", "::ffff:0:0/96, which is IPv4 in other words"),
    ] {
        let good = if family == "IPv4" { "10.244.2.9" } else { "fd00:10:244:2::9" };
        let endpoints = format!("{{addresses: ['{address}']}}, {{addresses: ['{good}']}}");
        let service = web("clusterIPs: [10.96.0.7, 'fd00:96::7']");
        let (services, fault) = faulty(&format!("{service}{}", of_family("a", family, &endpoints)));
        let service = &services[usize::from(family == "IPv6")];
        assert_eq!(addresses(service), [good], "{address}");
        assert_eq!(
            fault,
            format!(
                "EndpointSlice default/a: endpoints[0].addresses: {address} is of {what}: no \
                 backend may be there"
            )
        );
    }
}

#[test]
fn no_backend_is_a_service() {
    for (address, whose) in [
        ("10.96.0.99", "10.96.0.99 is the cluster address of Service default/other"),
        ("10.96.0.7", "10.96.0.7 is the cluster address of Service default/web"),
        ("10.96.7.7", "10.96.7.7 is of the Services' range 10.96.0.0/16"),
    ] {
        let endpoints = format!("{{addresses: [{address}]}}, {{addresses: [10.244.2.9]}}");
        let text = format!("{}{}", web("type: ClusterIP"), slice("a", &endpoints));
        let (services, fault) = left(&text);
        assert_eq!(addresses(&services[0]), ["10.244.2.9"]);
        assert!(fault.ends_with(&format!("{whose}: name the backends themselves")), "{fault}");
    }
}

#[test]
fn an_endpoint_that_is_none_is_left_out_alone() {
    for (family, endpoint, why) in [
        ("IPv4", "{addresses: ['fd00::9']}", "fd00::9 is not of the slice's addressType"),
        ("IPv6", "{addresses: [10.244.2.8]}", "10.244.2.8 is not of the slice's addressType"),
        ("IPv4", "{addresses: []}", "empty; give the endpoint an address"),
        ("IPv4", "{}", "empty; give the endpoint an address"),
        ("IPv4", "{addresses: [a.example.net]}", "`a.example.net` is no IP address"),
        (
            "IPv4",
            "{addresses: [010.244.2.8]}",
            "`010.244.2.8` has leading zeros, which some take for octal; write it without them",
        ),
    ] {
        let text = format!(
            "{}{}{}",
            web("clusterIPs: [10.96.0.7, 'fd00:96::7']"),
            of_family("a", family, endpoint),
            slice("b", "{addresses: [10.244.2.9]}"),
        );
        let (services, fault) = faulty(&text);
        assert_eq!((services.len(), addresses(&services[0])), (2, vec!["10.244.2.9".to_owned()]));
        assert_eq!(services[1].backends, []);
        assert_eq!(fault, format!("EndpointSlice default/a: endpoints[0].addresses: {why}"));
    }
}

#[test]
fn a_slice_has_its_bounds() {
    let many = |count: u16| {
        let endpoint = |n: u16| format!("{{addresses: [10.244.{}.{}]}}", 2 + n / 250, n % 250);
        let all: Vec<String> = (0..count).map(endpoint).collect();
        format!("{}{}", web("type: ClusterIP"), slice("a", &all.join(", ")))
    };
    assert_eq!(good(&many(1_000))[0].backends.len(), 1_000);
    let (services, fault) = faulty(&many(1_001));
    assert_eq!(services[0].backends, []);
    assert!(
        fault.contains("EndpointSlice default/a: endpoints: 1001 are more than 1000"),
        "{fault}"
    );
    let ports = |count: u16| {
        let port = |n: u16| format!("{{name: http, port: {}}}", 8_000 + n);
        let all: Vec<String> = (0..count).map(port).collect();
        let ports = format!("ports: [{}]", all.join(", "));
        let slice = slice("a", "{addresses: [10.244.2.9]}");
        let slice = slice.replace("ports: [{name: http, port: 8080, protocol: TCP}]", &ports);
        format!("{}{slice}", web("type: ClusterIP"))
    };
    assert_eq!(good(&ports(100))[0].backends.len(), 100);
    let (services, fault) = faulty(&ports(101));
    assert_eq!(services[0].backends, []);
    assert!(fault.contains("EndpointSlice default/a: ports: 101 are more than 100"), "{fault}");
    let every = slice("a", "{addresses: [10.244.2.9]}").replace("port: 8080", "port: null");
    let (services, fault) = faulty(&format!("{}{every}", web("type: ClusterIP")));
    assert_eq!(services[0].backends, []);
    assert!(fault.contains("EndpointSlice default/a: ports[0].port: missing"), "{fault}");
}

#[test]
fn no_cluster_address_is_a_nodes_a_pods_or_nobodys() {
    for (address, what) in [
        ("192.0.2.11", "an address of this node"),
        ("192.0.2.12", "an address of Node n2"),
        ("198.51.100.12", "an address of Node n2"),
        ("10.244.1.9", "of the pod range 10.244.1.0/24 of Node n1"),
        ("10.244.2.9", "of the pod range 10.244.2.0/24 of Node n2"),
        ("127.0.0.1", "of 127.0.0.0/8, which is loopback"),
        ("169.254.20.10", "of 169.254.0.0/16, which is link-local"),
        ("'fd00:10:244:2::9'", "of the pod range fd00:10:244:2::/64 of Node n2"),
        ("'ff02::1'", "of ff00::/8, which is multicast"),
    ] {
        let spec = format!("clusterIP: {address}, ports: [{{port: 80}}]");
        let (services, fault) = left(&service("web", &spec));
        assert_eq!(services, []);
        let address = address.trim_matches('\'');
        let begin = format!("spec.clusterIP: {address} is {what}");
        assert!(fault.starts_with(&begin) && fault.contains("use another"), "{fault}");
    }
    // Outside of the Services' ranges is no fault: other ranges may come.
    assert_eq!(good(&service("web", "clusterIP: 172.20.0.7, ports: [{port: 80}]")).len(), 1);
}

#[test]
fn cluster_addresses_are_one_a_family_and_as_said() {
    for (spec, said) in [
        ("ports: [{port: 80}]", "spec.clusterIP: missing, and nobody gives one"),
        ("clusterIP: '', ports: [{port: 80}]", "spec.clusterIP: missing"),
        ("clusterIP: web, ports: [{port: 80}]", "spec.clusterIP: `web` is no IP address"),
        ("clusterIP: 10.096.0.7, ports: [{port: 80}]", "spec.clusterIP: `10.096.0.7` has leading"),
        (
            "clusterIPs: [10.96.0.7, 10.96.0.8], ports: [{port: 80}]",
            "spec.clusterIPs[1]: 10.96.0.8 is of the family of 10.96.0.7",
        ),
        (
            "clusterIP: 10.96.0.8, clusterIPs: [10.96.0.7], ports: [{port: 80}]",
            "spec.clusterIPs: `10.96.0.7` comes first, and spec.clusterIP is `10.96.0.8`",
        ),
        (
            "clusterIPs: [10.96.0.7], ipFamilies: [IPv6], ports: [{port: 80}]",
            "spec.clusterIPs[0]: 10.96.0.7 is not IPv6, which spec.ipFamilies[0] says",
        ),
        ("clusterIP: 10.96.0.7", "spec.ports: empty; give it a port"),
    ] {
        let (services, fault) = left(&service("web", spec));
        assert_eq!(services, [], "{spec}");
        assert!(fault.starts_with(said), "{spec}: {fault}");
    }
}

#[test]
fn no_outer_address_belongs_to_another() {
    let status = |ip: &str| format!("status: {{loadBalancer: {{ingress: [{{ip: {ip}}}]}}}}\n---\n");
    for (address, what) in [
        ("192.0.2.11", "an address of this node, whose own processes answer there"),
        ("192.0.2.12", "an address of Node n2, whose own processes answer there"),
        ("10.244.2.9", "of the pod range 10.244.2.0/24 of Node n2"),
        ("10.96.0.99", "the cluster address of Service default/other"),
        ("127.0.0.1", "of 127.0.0.0/8, which is loopback"),
        ("0.0.0.0", "of 0.0.0.0/8, which means this network"),
        ("169.254.169.254", "of 169.254.0.0/16, which is link-local"),
        ("255.255.255.255", "of 240.0.0.0/4, which is reserved"),
        ("'fd00:99::1'", "of a family in which the Service has no cluster address"),
    ] {
        let external = web(&format!("externalIPs: [{address}, 203.0.113.9]"));
        let balanced = web("type: LoadBalancer, externalIPs: [203.0.113.9]");
        let balanced = balanced.replace("---\n", &status(address));
        let shown = address.trim_matches('\'');
        for (text, field) in
            [(external, "spec.externalIPs[0]"), (balanced, "status.loadBalancer.ingress[0].ip")]
        {
            let (services, fault) = left(&text);
            let found = frontends(&services[0]);
            assert_eq!(found, ["ClusterIp 10.96.0.7 80", "ExternalIp 203.0.113.9 80"]);
            let begin = format!("{field}: {shown} is {what}");
            assert!(fault.starts_with(&begin), "{fault}");
        }
    }
}

#[test]
fn the_uplinks_addresses_are_the_nodes() {
    let mut objects = Objects::default();
    parse("nodes.yaml", NODES, &mut objects).unwrap();
    parse("a.yaml", &web("externalIPs: [192.0.2.200]"), &mut objects).unwrap();
    let uplink = ["192.0.2.200".parse().unwrap()];
    let found = desired(&objects, &Known { uplink: &uplink, ..Known::alone("n1") }).unwrap();
    assert_eq!(frontends(&found.services[0]), ["ClusterIp 10.96.0.7 80"]);
    assert!(found.faults[0].why.contains("192.0.2.200 is an address of this node"));
}

#[test]
fn a_frontend_is_the_first_services_by_name() {
    let spec = |address: &str| {
        format!(
            "type: NodePort, clusterIP: {address}, externalIPs: [203.0.113.9], \
             ports: [{{name: x, port: 80, nodePort: 30080}}]"
        )
    };
    let (one, two) = (service("a", &spec("10.96.0.1")), service("b", &spec("10.96.0.2")));
    for documents in [format!("{one}{two}"), format!("{two}{one}")] {
        let found = read(&documents);
        assert_eq!(found.services.len(), 2);
        assert_eq!(found.services[0], good(&one)[0]);
        assert_eq!(frontends(&found.services[1]), ["ClusterIp 10.96.0.2 80"]);
        let faults: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            faults,
            [
                "Service default/b: spec.externalIPs[0]: 203.0.113.9 port 80 belongs to Service \
                 default/a:x, which comes first by name; use another",
                "Service default/b: spec.ports[0].nodePort: node port 30080 belongs to Service \
                 default/a:x, which comes first by name; use another",
            ]
        );
    }
    let (services, fault) =
        faulty(&format!("{one}{}", service("b", "clusterIP: 10.96.0.1, ports: [{port: 80}]")));
    assert_eq!(services, good(&one), "without its cluster address nothing is left of a port");
    assert!(fault.contains("10.96.0.1 port 80 belongs to Service default/a:x"), "{fault}");
    let udp = service("b", "clusterIP: 10.96.0.1, ports: [{port: 80, protocol: UDP}]");
    assert_eq!(good(&format!("{one}{udp}")).len(), 2, "of another protocol it is another");
}

#[test]
fn a_node_port_is_of_its_range() {
    for (port, range) in [(29_999, "30000 to 32767"), (32_768, "30000 to 32767")] {
        let ports = format!("ports: [{{port: 80, nodePort: {port}}}]");
        let spec = format!("type: NodePort, clusterIPs: [10.96.0.7, 'fd00:96::7'], {ports}");
        let (services, fault) = left(&service("web", &spec));
        assert_eq!(services.len(), 2);
        assert_eq!(frontends(&services[0]), ["ClusterIp 10.96.0.7 80"]);
        let said = format!("spec.ports[0].nodePort: {port} is no port of {range}; choose another");
        assert!(fault.starts_with(&said) && fault.contains("node-port-range"), "{fault}");
    }
}
