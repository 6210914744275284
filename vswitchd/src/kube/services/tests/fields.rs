//! What else is said of a Service.

use super::*;

#[test]
fn external_names_and_headless_services_give_nothing() {
    for spec in [
        "type: ExternalName, externalName: example.net, ports: [{port: 80}]",
        "clusterIP: None, ports: [{port: 80}]",
        "clusterIP: None, clusterIPs: [None], ports: [{port: 80}]",
        "clusterIP: None",
    ] {
        assert_eq!(good(&service("web", spec)), [], "{spec}");
    }
}

#[test]
fn what_another_proxy_or_none_serves_gives_nothing() {
    for label in
        ["service.kubernetes.io/service-proxy-name: other", "service.kubernetes.io/headless: ''"]
    {
        let labelled = format!("metadata: {{name: web, labels: {{{label}}}}}");
        let text = web("type: ClusterIP").replace("metadata: {name: web}", &labelled);
        assert!(text.contains(label));
        assert_eq!(good(&text), [], "{label}");
    }
    assert_eq!(good(&web("type: ClusterIP")).len(), 1);
}

#[test]
fn a_port_without_a_name_is_the_services() {
    let services = good(&service("web", "clusterIP: 10.96.0.7, ports: [{port: 80}]"));
    assert_eq!(services[0].name, "default/web");
}

#[test]
fn protocols_of_one_number_are_apart() {
    let ports = "[{name: a, port: 53, protocol: UDP}, {name: b, port: 53}, \
                 {name: c, port: 53, protocol: SCTP}]";
    let services = good(&service("dns", &format!("clusterIP: 10.96.0.10, ports: {ports}")));
    let found: Vec<_> = services.iter().map(|s| (s.name.as_str(), s.protocol as u8)).collect();
    assert_eq!(found, [("default/dns:a", 17), ("default/dns:b", 6), ("default/dns:c", 132)]);
}

#[test]
fn affinity_has_a_default_and_bounds() {
    let of = |spec: &str| good(&web(spec))[0].affinity.map(|time| time.0 / 1_000_000_000);
    let timeout = |seconds| {
        let config = format!("{{clientIP: {{timeoutSeconds: {seconds}}}}}");
        format!("sessionAffinity: ClientIP, sessionAffinityConfig: {config}")
    };
    assert_eq!(of("sessionAffinity: None"), None);
    assert_eq!(of("sessionAffinity: ClientIP"), Some(10_800));
    assert_eq!(of("sessionAffinity: ClientIP, sessionAffinityConfig: null"), Some(10_800));
    assert_eq!(of(&timeout(1)), Some(1));
    assert_eq!(of(&timeout(86_400)), Some(86_400));
    for seconds in [0, 86_401] {
        let (services, fault) = faulty(&web(&timeout(seconds)));
        assert_eq!(services, []);
        assert_eq!(
            fault,
            format!(
                "Service default/web: spec.sessionAffinityConfig.clientIP.timeoutSeconds: \
                 {seconds} is not within 1 to 86400"
            )
        );
    }
}

#[test]
fn each_policy_is_its_own() {
    for (spec, internal, external) in [
        ("type: NodePort", false, false),
        ("internalTrafficPolicy: Local", true, false),
        ("externalTrafficPolicy: Local", false, true),
        ("internalTrafficPolicy: Cluster, externalTrafficPolicy: Cluster", false, false),
    ] {
        let service = &good(&web(spec))[0];
        assert_eq!((service.internal_local, service.external_local), (internal, external));
    }
}

#[test]
fn methods_are_named_by_an_annotation() {
    let annotated = |word: &str| {
        let text = web("type: ClusterIP");
        let metadata = format!("metadata: {{name: web, annotations: {{{METHOD}: '{word}'}}}}");
        text.replace("metadata: {name: web}", &metadata)
    };
    for (word, method) in METHODS {
        assert_eq!(good(&annotated(word))[0].method, method);
    }
    let (services, fault) = faulty(&annotated("fastest"));
    assert_eq!(services, good(&web("type: ClusterIP")), "the Service works by the default");
    assert_eq!(
        fault,
        "Service default/web: metadata.annotations[hopscope.dev/load-balancer]: `fastest` is none \
         of random, round-robin, weighted-round-robin, least-connections, source-hash, maglev; \
         taken as random"
    );
}

#[test]
fn ranges_of_sources_hold_in_both_families() {
    let spec = "type: LoadBalancer, clusterIPs: [10.96.0.7, 'fd00:96::7'], \
                loadBalancerSourceRanges: [' 192.0.2.7/24 ', 198.51.100.0/24, 192.0.2.0/24]";
    let services = good(&web(spec));
    assert_eq!(services.len(), 2);
    for service in services {
        let shown: Vec<String> = service.source_ranges.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["192.0.2.0/24", "198.51.100.0/24"]);
    }
    let bad = web("type: LoadBalancer, loadBalancerSourceRanges: [192.0.2.0/24, 010.0.0.0/8]");
    let (services, fault) = faulty(&bad);
    assert_eq!(services, [], "rather nobody than everybody");
    assert_eq!(
        fault,
        "Service default/web: spec.loadBalancerSourceRanges[1]: `010.0.0.0/8` is no range such as \
         192.0.2.0/24"
    );
}

#[test]
fn names_are_those_of_kubernetes() {
    let ports = "[{name: a, port: 80}, {name: a, port: 81}, {name: 'x:y', port: 82}]";
    let found = read(&service("web", &format!("clusterIP: 10.96.0.7, ports: {ports}")));
    assert_eq!(found.services.len(), 1);
    let faults: Vec<String> = found.faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "Service default/web: spec.ports[1].name: `a` is another port's name already; give it \
             one",
            "Service default/web: spec.ports[2].name: `x:y` is no name: 1 to 253 of a to z, 0 to \
             9, `-` and `.`",
        ]
    );
    for name in ["a/b", "A", "'a b'", &"x".repeat(254)] {
        let (services, fault) = faulty(&service(name, "clusterIP: 10.96.0.7, ports: [{port: 80}]"));
        assert_eq!(services, []);
        assert!(fault.contains("metadata.name: `") && fault.contains("is no name"), "{fault}");
    }
}
