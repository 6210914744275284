//! Names of ports, as people see them: `pod/NS/NAME`, `host`, `endpoint/NAME`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use smoltcp::wire::IpCidr;
use stack::config::{ServiceConfig, ServiceId};
use stack::table::service::Services;
use stack::trace::{Names, Numbered};
use stack::{EndpointId, PortId};

/// What a port is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// A pod's interface.
    Pod {
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        name: String,
    },
    /// The node's own port.
    Host,
    /// A host inside the switch.
    Endpoint(&'static str),
}

impl Label {
    /// That of a host inside the switch.
    #[must_use]
    pub fn of_endpoint(id: EndpointId) -> Self {
        Self::Endpoint(if id == EndpointId::HEALTH { "health" } else { "gateway" })
    }

    /// The label that is written so; `None` for what this build does not know.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        if text == "host" {
            return Some(Self::Host);
        }
        if let Some(name) = text.strip_prefix("endpoint/") {
            return ["gateway", "health"].into_iter().find(|its| *its == name).map(Self::Endpoint);
        }
        let (namespace, name) = text.strip_prefix("pod/")?.split_once('/')?;
        Some(Self::Pod { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod { namespace, name } => write!(f, "pod/{namespace}/{name}"),
            Self::Host => f.write_str("host"),
            Self::Endpoint(name) => write!(f, "endpoint/{name}"),
        }
    }
}

/// The names of all ports at one moment, and what the manifests say about pods by name.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// By number.
    pub ports: BTreeMap<PortId, Label>,
    /// Further prefixes that pods may send from, by namespace and name.
    pub allowed: BTreeMap<(String, String), Vec<IpCidr>>,
    /// Names of Services by number. Shared, for a change of pods copies the rest.
    pub services: Arc<BTreeMap<ServiceId, String>>,
}

/// The directory as shared: written by the control side, read by all.
pub type Shared = Arc<ArcSwap<Directory>>;

impl Directory {
    /// The port of that pod.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> Option<PortId> {
        let wanted = Label::Pod { namespace: namespace.to_owned(), name: name.to_owned() };
        self.ports.iter().find(|(_, label)| **label == wanted).map(|(port, _)| *port)
    }

    /// Further prefixes that the port of this label may send from.
    #[must_use]
    pub fn allowed(&self, label: &Label) -> Vec<IpCidr> {
        let Label::Pod { namespace, name } = label else { return Vec::new() };
        self.allowed.get(&(namespace.clone(), name.clone())).cloned().unwrap_or_default()
    }

    /// Whether these are the Services that have names here.
    #[must_use]
    pub fn has_services(&self, services: &[ServiceConfig]) -> bool {
        let known = |it: &ServiceConfig| self.services.get(&it.id) == Some(&it.name);
        services.len() == self.services.len() && services.iter().all(known)
    }

    /// The same with the names of these Services.
    #[must_use]
    pub fn with_services(&self, services: &[ServiceConfig]) -> Self {
        let names = services.iter().map(|it| (it.id, it.name.clone())).collect();
        Self { services: Arc::new(names), ..self.clone() }
    }

    /// The ports of that name as [`Label`] displays it: one at most while a daemon runs, in a
    /// recording those that had it one after another.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Vec<PortId> {
        let named = self.ports.iter().filter(|(_, label)| label.to_string() == name);
        named.map(|(port, _)| *port).collect()
    }
}

/// Names of ports, and of the Services that a switch has.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Ports.
    pub ports: &'a Directory,
    /// Services; without them they are called as the directory calls them.
    pub services: Option<&'a Services>,
}

impl Names for Named<'_> {
    fn port(&self, port: PortId, f: &mut dyn fmt::Write) -> fmt::Result {
        self.ports.port(port, f)
    }

    fn service(&self, service: ServiceId, f: &mut dyn fmt::Write) -> fmt::Result {
        match self.services.and_then(|services| services.by_id(service)) {
            Some(row) => f.write_str(&row.config.name),
            None => self.ports.service(service, f),
        }
    }
}

impl Names for Directory {
    fn port(&self, port: PortId, f: &mut dyn fmt::Write) -> fmt::Result {
        match self.ports.get(&port) {
            Some(label) => write!(f, "{label}"),
            None => write!(f, "port {}", port.0),
        }
    }

    fn service(&self, service: ServiceId, f: &mut dyn fmt::Write) -> fmt::Result {
        match self.services.get(&service) {
            Some(name) => f.write_str(name),
            None => Numbered.service(service, f),
        }
    }
}
