//! Where desired state comes from while the daemon runs: the manifests or the API server, which
//! both give objects, and both say when to look again.

use std::path::PathBuf;

use super::{DaemonError, io, plan};
use crate::admin::objects::Problem;
use crate::kube::api::Mirror;
use crate::kube::objects::{self, Desired, Objects};
use crate::kube::watch::Watcher;
use crate::kube::{last, manifests};
use crate::node::uplink::Uplink;
use crate::settings::Settings;
use crate::settings::source;

/// The source of objects.
pub(super) enum Source {
    /// A directory, and who watches it.
    Manifests(PathBuf, Watcher),
    /// A copy of what the API server has.
    Api(Box<Mirror>),
}

impl Source {
    /// Begins to watch, before anything is read: what changes in between is taken in right after
    /// the start.
    pub(super) async fn begin(settings: &Settings) -> Result<Self, DaemonError> {
        match &settings.source {
            source::Source::Manifests(directory) => {
                Ok(Self::Manifests(directory.clone(), Watcher::new(directory)?))
            }
            from @ (source::Source::Kubeconfig(_) | source::Source::InCluster) => {
                let mirror = match Mirror::begin(from).await {
                    // Who goes on with what was good last can wait for a file to be mended.
                    Err(_) if last::file(&settings.run_dir).exists() => Mirror::follow(from),
                    begun => begun?,
                };
                Ok(Self::Api(Box::new(mirror)))
            }
        }
    }

    /// Returns when there is something new. Whoever stops waiting loses nothing.
    pub(super) async fn changed(&mut self) -> Result<(), DaemonError> {
        match self {
            Self::Manifests(_, watcher) => {
                watcher.changed().await.map_err(io("cannot watch the manifests"))
            }
            Self::Api(mirror) => {
                mirror.changed().await;
                Ok(())
            }
        }
    }

    /// Whether what is missing or wrong may still come right by itself.
    pub(super) fn is_live(&self) -> bool {
        matches!(self, Self::Api(_))
    }

    /// Returns when all objects are there, or it is known that they cannot be had now.
    pub(super) async fn settled(&mut self) {
        if let Self::Api(mirror) = self {
            while mirror.objects().is_none() && mirror.troubles().is_empty() {
                mirror.changed().await;
            }
        }
    }

    /// What the objects mean for this node.
    pub(super) fn desired(
        &self,
        settings: &Settings,
        uplink: Option<&Uplink>,
    ) -> Result<Desired, DaemonError> {
        let read;
        let objects = match self {
            Self::Manifests(directory, _) => {
                read = manifests::read(directory)?;
                &read
            }
            Self::Api(mirror) => {
                let missing = || DaemonError::Unheard { missing: mirror.missing().join(", ") };
                mirror.objects().ok_or_else(missing)?
            }
        };
        Ok(objects::desired(objects, &plan::known(settings, uplink))?)
    }

    /// The objects that have been looked at, where an attachment has to wait for its own. They are
    /// in force, or the last good state is and `status` tells why.
    pub(super) fn in_force(&self) -> Option<&Objects> {
        match self {
            Self::Manifests(..) => None,
            Self::Api(mirror) => mirror.objects().filter(|_| mirror.is_told()),
        }
    }

    /// What is wrong with the source itself.
    pub(super) fn troubles(&self) -> Vec<Problem> {
        let troubles = match self {
            Self::Manifests(..) => Vec::new(),
            Self::Api(mirror) => mirror.troubles(),
        };
        let problem = |why: String| Problem {
            object: "the API server".to_owned(),
            message: format!("{why}; what it said last stays in force, and it is asked again"),
        };
        troubles.into_iter().map(problem).collect()
    }
}
