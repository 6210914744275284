//! Health checks of Services: at which port of every node a load balancer asks whether the node
//! has backends of its own (`spec.healthCheckNodePort`). Pure.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use smoltcp::wire::{IpAddress, IpVersion};
use stack::ServiceConfig;

use super::frontends::Claims;
use super::{ServiceType, Sound};
use crate::kube::faults::Faults;
use crate::kube::place::Place;
use crate::kube::service::TrafficPolicy;

/// Where the key stands.
const FIELD: &str = "spec.healthCheckNodePort";

/// A Service's health check on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealthCheck {
    /// Namespace of the Service.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The TCP port of the node's addresses.
    pub port: u16,
    /// How many endpoints of this node are ready: by IPv4, and by IPv6. Those that are leaving and
    /// still serve are not among them, so a load balancer goes before they do.
    pub local: [usize; 2],
}

impl Sound<'_> {
    /// The health check, if the Service is one that has any. `made` are its ports.
    pub(super) fn health_check(
        &self,
        (namespace, name): (&str, &str),
        made: &[(ServiceConfig, IpVersion)],
        place: &Place,
        claims: &mut Claims,
        faults: &mut Faults,
    ) -> Option<HealthCheck> {
        let (spec, port) = (self.spec, self.spec.health_check_node_port);
        let has = spec.kind == ServiceType::LoadBalancer
            && spec.external_traffic_policy == TrafficPolicy::Local;
        if !has || port == 0 {
            return None;
        }
        let range = place.node_ports;
        if !range.contains(port) {
            let (first, last) = (range.first, range.last);
            let why = format!("{port} is no port of {first} to {last}; choose another");
            faults.add(&self.object, FIELD, why);
            return None;
        }
        if let Err(owner) = claims.give_health(port, &self.name) {
            let why = format!(
                "node port {port} belongs to Service {owner}, which comes first by name; use \
                 another"
            );
            faults.add(&self.object, FIELD, why);
            return None;
        }
        let local = [IpVersion::Ipv4, IpVersion::Ipv6].map(|version| local(made, version));
        Some(HealthCheck { namespace: namespace.to_owned(), name: name.to_owned(), port, local })
    }
}

/// Endpoints of this node that are ready, each once however many ports it has.
fn local(made: &[(ServiceConfig, IpVersion)], version: IpVersion) -> usize {
    let of_family = made.iter().filter(|(_, its)| *its == version);
    let backends = of_family.flat_map(|(service, _)| &service.backends);
    let ready = backends.filter(|backend| backend.local && backend.ready);
    ready.map(|backend| backend.address).collect::<BTreeSet<IpAddress>>().len()
}

#[cfg(test)]
mod tests {
    use crate::kube::manifests;
    use crate::kube::objects::{Desired, Objects, desired};
    use crate::kube::place::Known;

    const OBJECTS: &str = "
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24, 'fd00:1::/64']}
---
kind: Service
metadata: {name: web}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: 32000
  clusterIPs: [10.96.0.7, 'fd00:96::7']
  ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30081}]
---
kind: EndpointSlice
metadata: {name: four, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: a, port: 8080}, {name: b, port: 8081}]
endpoints:
- {addresses: [10.244.1.2], nodeName: n1}
- {addresses: [10.244.1.3], nodeName: n1, conditions: {ready: true}}
- {addresses: [10.244.1.4], nodeName: n1, conditions: {ready: false, serving: true}}
- {addresses: [10.244.2.5], nodeName: n2}
";

    fn desired_of(text: &str) -> Desired {
        let mut objects = Objects::default();
        manifests::parse("a.yaml", text, &mut objects).unwrap();
        desired(&objects, &Known::alone("n1")).unwrap()
    }

    #[test]
    fn ready_endpoints_of_this_node_count_once_in_their_family() {
        let found = desired_of(OBJECTS);
        assert_eq!(found.faults, []);
        let [check] = &found.health_checks[..] else { panic!("{:?}", found.health_checks) };
        assert_eq!((check.namespace.as_str(), check.name.as_str()), ("default", "web"));
        assert_eq!((check.port, check.local), (32_000, [2, 0]));
    }

    #[test]
    fn only_load_balancers_of_local_traffic_have_one() {
        for (from, to) in [
            ("externalTrafficPolicy: Local", "externalTrafficPolicy: Cluster"),
            ("type: LoadBalancer", "type: NodePort"),
            ("healthCheckNodePort: 32000", "healthCheckNodePort: 0"),
        ] {
            let found = desired_of(&OBJECTS.replace(from, to));
            assert_eq!((found.faults, found.health_checks), (vec![], vec![]), "{to}");
        }
    }

    #[test]
    fn a_port_that_is_of_others_or_out_of_range_is_refused_alone() {
        for (port, why) in [
            ("40000", "40000 is no port of 30000 to 32767; choose another"),
            (
                "30081",
                "node port 30081 belongs to Service default/web:b, which comes first by name; \
                 use another",
            ),
        ] {
            let found = desired_of(&OBJECTS.replace("32000", port));
            assert_eq!((found.health_checks, found.services.len()), (vec![], 4));
            let [fault] = &found.faults[..] else { panic!("{:?}", found.faults) };
            assert_eq!(fault.field, "spec.healthCheckNodePort");
            assert_eq!(fault.why, why);
        }
        // Nor does another Service get its port.
        let other = "
---
kind: Service
metadata: {name: zzz}
spec: {type: NodePort, clusterIP: 10.96.0.8, ports: [{port: 80, nodePort: 32000}]}
";
        let found = desired_of(&format!("{OBJECTS}{other}"));
        assert_eq!(found.health_checks.len(), 1);
        assert!(found.faults[0].why.contains("default/web:healthCheck"), "{:?}", found.faults);
    }
}
