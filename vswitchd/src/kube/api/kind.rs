//! The kinds of objects that are watched, and how each is asked for.

use std::fmt;

use ::kube::core::{ApiResource, GroupVersionKind};
use ::kube::runtime::watcher;

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// All Nodes: of this one its ranges and addresses, of others what no Service may have.
    Node,
    /// All Pods, but their metadata only: annotations are read, of backends on other nodes too.
    Pod,
    /// All Services, also those of other proxies: none may have another one's address.
    Service,
    /// EndpointSlices of Services that are served here.
    EndpointSlice,
    /// The ranges of Services. A server older than Kubernetes 1.33 has none.
    ServiceCidr,
}

/// EndpointSlices of Services without an address, or of another proxy, are none of our business.
const PROXIED: &str = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";

impl Kind {
    /// All of them.
    pub(super) const ALL: [Self; 5] =
        [Self::Node, Self::Pod, Self::Service, Self::EndpointSlice, Self::ServiceCidr];

    /// As the API calls it, and its plural, as rules of access do.
    pub(super) fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Node => ("Node", "nodes"),
            Self::Pod => ("Pod", "pods"),
            Self::Service => ("Service", "services"),
            Self::EndpointSlice => ("EndpointSlice", "endpointslices"),
            Self::ServiceCidr => ("ServiceCIDR", "servicecidrs"),
        }
    }

    /// Where the server has it.
    pub(super) fn resource(self) -> ApiResource {
        let group = match self {
            Self::Node | Self::Pod | Self::Service => "",
            Self::EndpointSlice => "discovery.k8s.io",
            Self::ServiceCidr => "networking.k8s.io",
        };
        let (name, plural) = self.names();
        let gvk = GroupVersionKind::gvk(group, "v1", name);
        ApiResource::from_gvk_with_plural(&gvk, plural)
    }

    /// Which of its objects are asked for.
    pub(super) fn selection(self) -> watcher::Config {
        let all = watcher::Config::default();
        match self {
            Self::EndpointSlice => all.labels(PROXIED),
            Self::Node | Self::Pod | Self::Service | Self::ServiceCidr => all,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.names().0)
    }
}
