//! What holds whatever the objects are.

use proptest::prelude::*;

use super::*;

/// Objects that touch one another: claims on one frontend, endpoints in several slices, faults.
fn documents() -> Vec<String> {
    let node_port = "ports: [{name: http, port: 80, nodePort: 30080}]";
    let mut documents = vec![
        web("type: ClusterIP"),
        service("a", &format!("type: NodePort, clusterIP: 10.96.0.1, {node_port}")),
        service("b", &format!("type: NodePort, clusterIP: 10.96.0.2, {node_port}")),
        service("c", "clusterIP: 10.96.0.2, ports: [{port: 80}]"),
        service("d", "clusterIP: 10.96.0.4, externalIPs: [10.96.0.7], ports: [{port: 80}]"),
        service("e", "clusterIP: 192.0.2.11, ports: [{port: 80}]"),
    ];
    let endpoints = |of: &[(u8, &str)]| {
        let each = of.iter().map(|(last, conditions)| {
            format!("{{addresses: [10.244.2.{last}], conditions: {conditions}}}")
        });
        each.collect::<Vec<_>>()
    };
    let of_slice = [
        endpoints(&[(1, "{}"), (2, "{ready: false}"), (3, "{ready: false, serving: false}")]),
        endpoints(&[(2, "{}"), (3, "{ready: false, terminating: true}"), (1, "{ready: false}")]),
        endpoints(&[(9, "{}"), (1, "{ready: false}")]),
    ];
    for (name, endpoints) in ["x", "y", "z"].iter().zip(of_slice) {
        documents.push(slice(name, &endpoints.join(", ")));
        let mut turned = endpoints;
        turned.reverse();
        documents.push(slice(&format!("{name}-turned"), &turned.join(", ")));
    }
    documents
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_order_of_objects_does_not_show(order in Just(documents()).prop_shuffle()) {
        let plain = read(&documents().concat());
        prop_assert_eq!((plain.services.len(), plain.faults.len()), (4, 4));
        let found = read(&order.concat());
        prop_assert_eq!(&found, &plain);
    }

    #[test]
    fn the_order_of_endpoints_does_not_show(
        order in Just((1..40_u8).collect::<Vec<u8>>()).prop_shuffle(),
        cut in 0..39_usize,
    ) {
        let all = |numbers: &[u8]| {
            // Some are there twice, and then one of them is not ready.
            let endpoint = |n: &u8| {
                let (last, ready) = (n % 30, n % 30 == *n);
                format!("{{addresses: [10.244.2.{last}], conditions: {{ready: {ready}}}}}")
            };
            numbers.iter().map(endpoint).collect::<Vec<_>>().join(", ")
        };
        let in_order: Vec<u8> = (1..40).collect();
        let plain = [web("type: ClusterIP"), slice("a", &all(&in_order))];
        let (one, other) = order.split_at(cut);
        let parts = [web("type: ClusterIP"), slice("a", &all(one)), slice("b", &all(other))];
        prop_assert_eq!(good(&parts.concat()), good(&plain.concat()));
    }
}
