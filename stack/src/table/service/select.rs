//! Which backends may be given new connections: kube-proxy's rules (CategorizeEndpoints in its
//! `pkg/proxy/topology.go`), judged once, when a Service is set.
//!
//! - **Cluster path**: the ready backends, narrowed by hints where those can be used. If there are
//!   none, those that are terminating and still serve, wherever they are.
//! - **Local path**: the ready backends of this node, whatever their hints. If there are none,
//!   those of this node that are terminating and still serve.
//! - **Hints** can be used if each ready backend has them: the ones for nodes if they name this
//!   node anywhere, else the ones for zones if they name this node's zone anywhere.
//!
//! A backend of weight 0 is as if it were not there, so it counts for none of this: it keeps the
//! connections it has and gets no new ones (IPVS says quiesced). If all of them have weight 0, the
//! Service is one without backends.

use alloc::vec::Vec;

use crate::config::Backend;

/// Which backends of a Service are asked, by traffic policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Path {
    /// All of the cluster's.
    Cluster,
    /// Those of this node.
    Local,
}

impl Path {
    /// The place in arrays of two.
    #[must_use]
    pub const fn index(self) -> usize {
        match self {
            Self::Cluster => 0,
            Self::Local => 1,
        }
    }
}

/// What the rules come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selected {
    /// By [`Path::index`]: places in the list of backends, ascending.
    pub(super) places: [Vec<u16>; 2],
    /// Whether a backend can be used anywhere, from this node or not.
    pub(super) any: bool,
}

/// Which hints are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hints {
    None,
    Node,
    Zone,
}

/// Applies the rules.
pub(super) fn select(backends: &[Backend]) -> Selected {
    let places = |wanted: &dyn Fn(&Backend) -> bool| -> Vec<u16> {
        let each = (0..u16::MAX).zip(backends).filter(|(_, backend)| backend.weight > 0);
        each.filter(|(_, backend)| wanted(backend)).map(|(place, _)| place).collect()
    };
    let or_leaving = |ready: Vec<u16>, here: &dyn Fn(&Backend) -> bool| -> Vec<u16> {
        if ready.is_empty() { places(&|backend| leaving(backend) && here(backend)) } else { ready }
    };
    let hints = hints(backends);
    let cluster = places(&|backend| backend.ready && hinted(backend, hints));
    let cluster = or_leaving(cluster, &|_| true);
    let local = places(&|backend| backend.ready && backend.local);
    let local = or_leaving(local, &|backend| backend.local);
    // Where hints are used they name a ready backend: the cluster's path has one if any has.
    let any = !cluster.is_empty();
    Selected { places: [cluster, local], any }
}

/// Terminating, and still answering.
fn leaving(backend: &Backend) -> bool {
    backend.serving && backend.terminating
}

fn hints(backends: &[Backend]) -> Hints {
    let ready = || backends.iter().filter(|backend| backend.ready && backend.weight > 0);
    let usable = |hint: fn(&Backend) -> Option<bool>| {
        ready().all(|backend| hint(backend).is_some())
            && ready().any(|backend| hint(backend) == Some(true))
    };
    if usable(|backend| backend.for_node) {
        Hints::Node
    } else if usable(|backend| backend.for_zone) {
        Hints::Zone
    } else {
        Hints::None
    }
}

fn hinted(backend: &Backend, hints: Hints) -> bool {
    match hints {
        Hints::None => true,
        Hints::Node => backend.for_node == Some(true),
        Hints::Zone => backend.for_zone == Some(true),
    }
}

#[cfg(test)]
mod tests;
