//! Where a Service is asked for.

use super::*;

#[test]
fn families_are_apart() {
    let services = good(&web("clusterIPs: [10.96.0.7, 'fd00:96::7'], ipFamilies: [IPv4, IPv6]"));
    let found: Vec<_> =
        services.iter().map(|service| (&*service.name, frontends(service))).collect();
    assert_eq!(
        found,
        [
            ("default/web:http", vec!["ClusterIp 10.96.0.7 80".to_owned()]),
            ("default/web:http", vec!["ClusterIp fd00:96::7 80".to_owned()]),
        ]
    );
    let only_v6 = service("web", "clusterIP: 'fd00:96::7', ports: [{port: 80}]");
    assert_eq!(frontends(&good(&only_v6)[0]), ["ClusterIp fd00:96::7 80"]);
}

#[test]
fn node_ports_follow_from_the_type() {
    for (kind, port, found) in [
        ("NodePort", 30_000, true),
        ("LoadBalancer", 32_767, true),
        ("LoadBalancer", 0, false),
        ("ClusterIP", 30_000, false),
    ] {
        let ports = format!("ports: [{{port: 80, nodePort: {port}}}]");
        let spec = format!("type: {kind}, clusterIPs: [10.96.0.7, 'fd00:96::7'], {ports}");
        let services = good(&service("web", &spec));
        assert_eq!(services.len(), 2);
        for service in services {
            let last = frontends(&service).pop().unwrap();
            assert_eq!(last == format!("NodePort * {port}"), found, "{kind} {port}: {last}");
        }
    }
}

#[test]
fn a_load_balancers_addresses_are_its_vips() {
    let with = |kind: &str, ingress: &str| {
        let status = format!("status: {{loadBalancer: {{ingress: [{ingress}]}}}}\n---\n");
        let text = web(&format!("type: {kind}")).replace("---\n", &status);
        frontends(&good(&text)[0])
    };
    let cluster = "ClusterIp 10.96.0.7 80";
    let vip = "LoadBalancer 203.0.113.9 80";
    assert_eq!(with("LoadBalancer", "{ip: 203.0.113.9}"), [cluster, vip]);
    assert_eq!(with("LoadBalancer", "{ip: 203.0.113.9, ipMode: VIP}"), [cluster, vip]);
    assert_eq!(with("LoadBalancer", "{ip: 203.0.113.9, ipMode: Proxy}"), [cluster]);
    // Without an address it is not every address (CVE-2021-25736).
    assert_eq!(with("LoadBalancer", "{hostname: a.example.net}, {ip: ''}, {}"), [cluster]);
    assert_eq!(with("NodePort", "{ip: 203.0.113.9}"), [cluster]);
}

#[test]
fn an_address_of_two_fields_is_the_load_balancers() {
    let status = "status: {loadBalancer: {ingress: [{ip: 203.0.113.9}]}}\n---\n";
    let text = web("type: LoadBalancer, externalIPs: [203.0.113.10, 203.0.113.9]");
    let services = good(&text.replace("---\n", status));
    assert_eq!(
        frontends(&services[0]),
        ["ClusterIp 10.96.0.7 80", "LoadBalancer 203.0.113.9 80", "ExternalIp 203.0.113.10 80",],
        "ranges of sources hold there"
    );
}

#[test]
fn single_addresses_are_routed_and_ranges_hold_the_others() {
    let found = read(&format!(
        "{}{}",
        web("externalIPs: [203.0.113.9, 203.0.113.10]"),
        service("old", "clusterIPs: [172.20.0.7, 'fd00:97::7'], ports: [{port: 80}]"),
    ));
    let routed: Vec<String> = found.routed().iter().map(ToString::to_string).collect();
    assert_eq!(
        routed,
        [
            "10.96.0.0/16",
            "fd00:96::/112",
            "172.20.0.7/32",
            "203.0.113.9/32",
            "203.0.113.10/32",
            "fd00:97::7/128",
        ]
    );
}

#[test]
fn addresses_beyond_the_routes_are_told() {
    let external: Vec<String> =
        (0..4_097).map(|n| format!("203.{}.{}.7", n / 256, n % 256)).collect();
    let (services, fault) = faulty(&web(&format!("externalIPs: [{}]", external.join(", "))));
    assert_eq!(services[0].frontends.len(), 4_098);
    assert!(fault.contains("4097 addresses") && fault.contains("set service-cidrs"), "{fault}");
    let routed = read(&web(&format!("externalIPs: [{}]", external.join(", ")))).routed();
    assert_eq!(routed.len(), 2 + 4_096);
}
