//! Where desired state comes from: a directory of manifests, or the API server.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::SettingsError;

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// A directory of manifests.
    Manifests(PathBuf),
    /// The API server that a kubeconfig names.
    Kubeconfig(PathBuf),
    /// The API server of the cluster whose pod this process is in: by its environment and the files
    /// of its service account.
    InCluster,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifests(path) | Self::Kubeconfig(path) => path.display().fmt(f),
            Self::InCluster => f.write_str("the API server"),
        }
    }
}

/// The source that was given; a pod's own API server is asked where none was.
pub(super) fn of(
    manifests: Option<PathBuf>,
    kubeconfig: Option<PathBuf>,
    in_cluster: bool,
) -> Result<Source, SettingsError> {
    match (manifests, kubeconfig) {
        (Some(directory), None) => Ok(Source::Manifests(directory)),
        (None, Some(file)) => Ok(Source::Kubeconfig(file)),
        (None, None) if in_cluster => Ok(Source::InCluster),
        (None, None) => Err(SettingsError::Missing {
            key: "kubeconfig",
            mend: "name the file that leads to the API server, or with `manifests` the directory \
                   that holds this node's Node object; in a pod of the cluster neither is needed",
        }),
        (Some(_), Some(_)) => Err(SettingsError::Value {
            key: "kubeconfig",
            why: "`manifests` is set as well, and desired state has one source: unset one of them"
                .to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_source() {
        let (manifests, kubeconfig) = (|| Some("/m".into()), || Some("/k".into()));
        assert_eq!(of(manifests(), None, true).unwrap(), Source::Manifests("/m".into()));
        assert_eq!(of(None, kubeconfig(), true).unwrap(), Source::Kubeconfig("/k".into()));
        assert_eq!(of(None, None, true).unwrap(), Source::InCluster);
        let none = of(None, None, false).unwrap_err().to_string();
        assert!(none.contains("`kubeconfig`") && none.contains("`manifests`"), "{none}");
        let both = of(manifests(), kubeconfig(), true).unwrap_err().to_string();
        assert!(both.starts_with("`kubeconfig`: `manifests` is set as well"), "{both}");
    }
}
