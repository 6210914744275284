//! Who answers for a Service.

use super::*;

fn backends(documents: &str) -> Vec<Backend> {
    let services = good(&format!("{}{documents}", web("type: ClusterIP")));
    assert_eq!(services.len(), 1);
    services[0].backends.clone()
}

#[test]
fn the_port_is_the_slices_of_the_same_name_and_protocol() {
    let ports = "[{name: http, port: 8080}, {name: http, port: 8081, protocol: UDP}, \
                 {name: https, port: 8443}, {port: 9}]";
    let text = slice("a", "{addresses: [10.244.2.9]}")
        .replace("[{name: http, port: 8080, protocol: TCP}]", ports);
    assert!(text.contains(ports));
    assert_eq!(backends(&text), [backend("10.244.2.9", 8_080)]);
    let unnamed = service("web", "clusterIP: 10.96.0.7, ports: [{port: 80, targetPort: 8080}]");
    assert_eq!(good(&format!("{unnamed}{text}"))[0].backends, [backend("10.244.2.9", 9)]);
}

#[test]
fn slices_are_joined_in_the_order_of_address_and_port() {
    let other_port = slice("c", "{addresses: [10.244.1.9]}").replace("port: 8080", "port: 8090");
    let documents = format!(
        "{}{}{other_port}",
        slice("a", "{addresses: [10.244.2.9]}, {addresses: [10.244.1.10]}"),
        slice("b", "{addresses: [10.244.1.9]}"),
    );
    let expected = [
        backend("10.244.1.9", 8_080),
        backend("10.244.1.9", 8_090),
        backend("10.244.1.10", 8_080),
        backend("10.244.2.9", 8_080),
    ];
    assert_eq!(backends(&documents), expected);
}

#[test]
fn slices_of_others_are_not_joined() {
    let theirs = slice("a", "{addresses: [10.244.2.9]}");
    for (what, with) in [
        ("service-name: web", "service-name: other"),
        ("name: a\n", "name: a\n  namespace: other\n"),
        ("labels: {kubernetes.io/service-name: web}", "labels: {}"),
        ("service-name: web}", "service-name: web, service.kubernetes.io/headless: ''}"),
        ("addressType: IPv4", "addressType: FQDN"),
    ] {
        let text = theirs.replacen(what, with, 1);
        assert_ne!(text, theirs);
        assert_eq!(backends(&text), [], "{with}");
    }
}

#[test]
fn families_are_not_mixed() {
    let documents = format!(
        "{}{}{}",
        web("clusterIPs: [10.96.0.7, 'fd00:96::7']"),
        of_family("a", "IPv4", "{addresses: [10.244.2.9]}"),
        of_family("b", "IPv6", "{addresses: ['fd00:10:244:2::9']}"),
    );
    let services = good(&documents);
    assert_eq!(addresses(&services[0]), ["10.244.2.9"]);
    assert_eq!(addresses(&services[1]), ["fd00:10:244:2::9"]);
}

#[test]
fn the_first_address_of_an_endpoint_counts() {
    let found = backends(&slice("a", "{addresses: [10.244.2.9, 10.244.2.8]}"));
    assert_eq!(found, [backend("10.244.2.9", 8_080)]);
}

#[test]
fn conditions_that_are_not_given_are_good_ones() {
    for (conditions, ready, serving, terminating) in [
        ("{}", true, true, false),
        ("null", true, true, false),
        ("{ready: null, serving: null, terminating: null}", true, true, false),
        ("{ready: false}", false, true, false),
        ("{serving: false}", true, false, false),
        ("{ready: false, serving: false}", false, false, false),
        ("{ready: false, terminating: true}", false, true, true),
        ("{ready: false, serving: true, terminating: true}", false, true, true),
    ] {
        let endpoint = format!("{{addresses: [10.244.2.9], conditions: {conditions}}}");
        let expected = Backend { ready, serving, terminating, ..backend("10.244.2.9", 8_080) };
        assert_eq!(backends(&slice("a", &endpoint)), [expected], "{conditions}");
    }
}

#[test]
fn local_is_what_names_this_node() {
    for (node, local) in [("n1", true), ("n2", false), ("null", false)] {
        let endpoint = format!("{{addresses: [10.244.1.9], nodeName: {node}}}");
        assert_eq!(backends(&slice("a", &endpoint))[0].local, local, "{node}");
    }
    assert!(!backends(&slice("a", "{addresses: [10.244.1.9]}"))[0].local);
}

#[test]
fn hints_are_answered_for_this_node_and_its_zone() {
    let found = |hints: &str, nodes: &str| {
        let endpoint = format!("{{addresses: [10.244.2.9], hints: {hints}}}");
        let documents = format!("{}{}", web("type: ClusterIP"), slice("a", &endpoint));
        let mut objects = Objects::default();
        parse("nodes.yaml", nodes, &mut objects).unwrap();
        parse("a.yaml", &documents, &mut objects).unwrap();
        let found = desired(&objects, &Known::alone("n1")).unwrap().services[0].backends[0];
        (found.for_node, found.for_zone)
    };
    let unzoned = NODES.replace("topology.kubernetes.io/zone: a", "x: a");
    for (hints, expected, without_zone) in [
        ("null", (None, None), (None, None)),
        ("{}", (None, None), (None, None)),
        ("{forZones: [], forNodes: null}", (None, None), (None, None)),
        ("{forZones: [{name: b}, {name: a}]}", (None, Some(true)), (None, None)),
        ("{forZones: [{name: b}]}", (None, Some(false)), (None, None)),
        ("{forNodes: [{name: n1}]}", (Some(true), None), (Some(true), None)),
        (
            "{forNodes: [{name: n2}], forZones: [{name: a}]}",
            (Some(false), Some(true)),
            (Some(false), None),
        ),
    ] {
        assert_eq!(found(hints, NODES), expected, "{hints}");
        assert_eq!(found(hints, &unzoned), without_zone, "{hints}");
    }
}

#[test]
fn what_two_slices_have_is_there_once_and_the_more_available() {
    let at = |conditions: &str| format!("{{addresses: [10.244.2.9], conditions: {conditions}}}");
    let ladder = [
        "{ready: false, serving: false, terminating: true}",
        "{ready: false, serving: false}",
        "{ready: false, terminating: true}",
        "{ready: false}",
        "{ready: true}",
    ];
    for pair in ladder.windows(2) {
        let [less, more] = pair else { panic!() };
        let best = backends(&slice("a", &at(more)));
        assert_eq!(best.len(), 1);
        for (one, other) in [(less, more), (more, less)] {
            let documents = format!("{}{}", slice("a", &at(one)), slice("b", &at(other)));
            assert_eq!(backends(&documents), best, "{one} {other}");
            let together = format!("{}, {}", at(one), at(other));
            assert_eq!(backends(&slice("a", &together)), best, "within one slice");
        }
    }
}

const POD: &str = "kind: Pod\nmetadata: {name: p, annotations: {hopscope.dev/weight: 'W'}}\n---\n";
const WITH_POD: &str = "{addresses: [10.244.2.9], targetRef: {kind: Pod, name: p}}";

#[test]
fn weights_are_those_of_pods() {
    for (weight, expected) in [("0", 0), ("1", 1), ("007", 7), ("65535", 65_535)] {
        let pod = POD.replace('W', weight);
        let found = backends(&format!("{pod}{}", slice("a", WITH_POD)));
        assert_eq!(found, [Backend { weight: expected, ..backend("10.244.2.9", 8_080) }]);
    }
    let elsewhere = WITH_POD.replace("name: p", "name: p, namespace: other");
    let other_kind = WITH_POD.replace("kind: Pod", "kind: Node");
    for endpoint in [&elsewhere, &other_kind, "{addresses: [10.244.2.9]}"] {
        let found = backends(&format!("{}{}", POD.replace('W', "7"), slice("a", endpoint)));
        assert_eq!(found[0].weight, 1, "{endpoint}");
    }
}

#[test]
fn a_slices_weight_is_for_endpoints_without_a_known_pod() {
    let annotated = |endpoint: &str, weight: &str| {
        let annotation = format!("name: a\n  annotations: {{{WEIGHT}: '{weight}'}}");
        slice("a", endpoint).replacen("name: a", &annotation, 1)
    };
    assert_eq!(backends(&annotated(WITH_POD, "5"))[0].weight, 5);
    assert_eq!(backends(&annotated("{addresses: [10.244.2.9]}", "0"))[0].weight, 0);
    let pod = POD.replace('W', "7");
    assert_eq!(backends(&format!("{pod}{}", annotated(WITH_POD, "5")))[0].weight, 7);
    let plain = "kind: Pod\nmetadata: {name: p}\n---\n";
    assert_eq!(backends(&format!("{plain}{}", annotated(WITH_POD, "5")))[0].weight, 1);
}

#[test]
fn what_is_no_weight_is_one_and_told() {
    let field = "metadata.annotations[hopscope.dev/weight]";
    for weight in ["-1", "65536", "heavy", "+1", ""] {
        let why = format!("`{weight}` is no number of 0 to 65535; taken as 1");
        let pod = POD.replace('W', weight);
        let documents = format!("{}{pod}{}", web("type: ClusterIP"), slice("a", WITH_POD));
        let (services, fault) = faulty(&documents);
        assert_eq!(services[0].backends, [backend("10.244.2.9", 8_080)]);
        assert_eq!(fault, format!("Pod default/p: {field}: {why}"));
    }
}
