//! Services, as the API writes them, to what the switch gets.

use stack::{Backend, Frontend, FrontendKind, ServiceConfig};

use super::*;
use crate::kube::manifests::parse;
use crate::kube::objects::{Desired, desired};
use crate::kube::place::Known;

mod backends;
mod fields;
mod frontends;
mod laws;
mod refusals;

/// This node `n1`, in zone `a`, and another.
const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}
spec: {podCIDRs: [10.244.1.0/24, 'fd00:10:244:1::/64']}
status: {addresses: [{type: InternalIP, address: 192.0.2.11}, {type: Hostname, address: n1}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {topology.kubernetes.io/zone: b}}
spec: {podCIDRs: [10.244.2.0/24, 'fd00:10:244:2::/64']}
status:
  addresses:
  - {type: InternalIP, address: 192.0.2.12}
  - {type: ExternalIP, address: 198.51.100.12}
---
apiVersion: networking.k8s.io/v1
kind: ServiceCIDR
metadata: {name: kubernetes}
spec: {cidrs: [10.96.0.0/16, 'fd00:96::/112']}
---
";

/// What the documents mean on node `n1`, beside the nodes.
fn read(documents: &str) -> Desired {
    let mut objects = Objects::default();
    parse("nodes.yaml", NODES, &mut objects).unwrap();
    parse("a.yaml", documents, &mut objects).unwrap();
    desired(&objects, &Known::alone("n1")).unwrap()
}

/// The Services of documents in which there is no fault.
fn good(documents: &str) -> Vec<ServiceConfig> {
    let Desired { services, faults, .. } = read(documents);
    assert_eq!(faults, []);
    services
}

/// The Services of documents, and the one fault in them.
fn faulty(documents: &str) -> (Vec<ServiceConfig>, String) {
    let Desired { services, faults, .. } = read(documents);
    assert_eq!(faults.len(), 1, "{faults:?}");
    (services, faults[0].to_string())
}

/// A Service `default/web` with a port 80 named `http`, and this within its `spec`.
fn web(spec: &str) -> String {
    service("web", &format!("clusterIP: 10.96.0.7, ports: [{{name: http, port: 80}}], {spec}"))
}

/// A Service of that name and `spec`.
fn service(name: &str, spec: &str) -> String {
    format!("kind: Service\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\n---\n")
}

/// A slice of `default/web` with the port 8080 of the name `http`, and these endpoints.
fn slice(name: &str, endpoints: &str) -> String {
    of_family(name, "IPv4", endpoints)
}

fn of_family(name: &str, address_type: &str, endpoints: &str) -> String {
    format!(
        "kind: EndpointSlice\nmetadata:\n  name: {name}\n  labels: {{{SERVICE_NAME}: web}}\n\
         addressType: {address_type}\nports: [{{name: http, port: 8080, protocol: TCP}}]\n\
         endpoints: [{endpoints}]\n---\n"
    )
}

/// A frontend as kind, address and port: `ClusterIp 10.96.0.7 80`.
fn shown(frontend: &Frontend) -> String {
    let address = frontend.address.map_or_else(|| "*".to_owned(), |address| address.to_string());
    format!("{:?} {address} {}", frontend.kind, frontend.port)
}

fn frontends(service: &ServiceConfig) -> Vec<String> {
    service.frontends.iter().map(shown).collect()
}

/// Addresses of backends.
fn addresses(service: &ServiceConfig) -> Vec<String> {
    service.backends.iter().map(|backend| backend.address.to_string()).collect()
}

/// A backend that is ready, somewhere else, without hints.
fn backend(address: &str, port: u16) -> Backend {
    Backend::ready(address.parse().unwrap(), port)
}

#[test]
fn objects_as_the_api_writes_them() {
    let services = good(include_str!("as_the_api_writes.yaml"));
    let [v4, v6] = &services[..] else { panic!("{services:?}") };
    let expected = ServiceConfig {
        frontends: vec![
            Frontend {
                kind: FrontendKind::ClusterIp,
                address: Some("10.96.41.7".parse().unwrap()),
                port: 80,
            },
            Frontend { kind: FrontendKind::NodePort, address: None, port: 31_234 },
            Frontend {
                kind: FrontendKind::LoadBalancer,
                address: Some("203.0.113.9".parse().unwrap()),
                port: 80,
            },
        ],
        affinity: Some(Duration::from_secs(3_600)),
        external_local: true,
        source_ranges: vec!["198.51.100.0/24".parse().unwrap()],
        backends: vec![
            Backend {
                local: true,
                for_node: Some(true),
                for_zone: Some(true),
                ..backend("10.244.1.17", 8_080)
            },
            Backend {
                ready: false,
                terminating: true,
                for_node: None,
                for_zone: None,
                ..backend("10.244.2.9", 8_080)
            },
        ],
        ..ServiceConfig::new(ServiceId(0), "shop/web:http", stack::ServiceProtocol::Tcp)
    };
    assert_eq!(*v4, expected);
    assert_eq!(v6.name, v4.name);
    assert_eq!(frontends(v6), ["ClusterIp fd00:96::29c 80", "NodePort * 31234"]);
    assert_eq!(v6.backends, [], "of its family there are none");
}
