//! The way to the API server: by a kubeconfig, or as a pod's service account.
//!
//! What leads there is read anew for each connection that is refused for who asks: certificates and
//! tokens are renewed by replacing files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ::kube::Client;
use ::kube::client::ClientBuilder;
use ::kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::settings::source::Source;

/// How long a connection may take to be there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the server may be silent. A quiet watch is, until the server ends it after 290 s.
const READ_TIMEOUT: Duration = Duration::from_secs(300);

/// The variable that a pod finds its API server by.
const SERVICE_HOST: &str = "KUBERNETES_SERVICE_HOST";
/// What a pod shows the server of itself.
const TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// Whether this process is in a pod that may ask its cluster's API server.
#[must_use]
pub fn in_cluster() -> bool {
    std::env::var_os(SERVICE_HOST).is_some() && Path::new(TOKEN).exists()
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig.
    #[error("kubeconfig: {file} cannot be used")]
    Kubeconfig {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: Box<KubeconfigError>,
    },
    /// The service account.
    #[error("the pod's service account cannot be used; mount its token, or set kubeconfig")]
    ServiceAccount(#[source] InClusterError),
    /// What they say cannot be done.
    #[error("{of}: no client can be made of it")]
    Client {
        /// The kubeconfig, or that there is none.
        of: String,
        /// Why not.
        source: Box<::kube::Error>,
    },
    /// Manifests, which nobody is asked for.
    #[error("{0} is a directory of manifests")]
    Manifests(PathBuf),
}

/// A client of the source's API server. `answered` is told of each request that the server did not
/// refuse. Nothing is sent yet.
///
/// # Errors
/// See [`ConnectError`].
pub(super) async fn client(
    source: &Source,
    answered: impl Fn() + Clone + Send + 'static,
) -> Result<Client, ConnectError> {
    let mut config = config(source).await?;
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    let unusable = |error| ConnectError::Client { of: source.to_string(), source: Box::new(error) };
    let builder = ClientBuilder::try_from(config).map_err(unusable)?;
    let listen = tower::util::MapResponseLayer::new(move |response: hyper::Response<_>| {
        if response.status().is_success() {
            answered();
        }
        response
    });
    Ok(builder.with_layer(&listen).build())
}

async fn config(source: &Source) -> Result<Config, ConnectError> {
    match source {
        Source::Kubeconfig(file) => {
            let unusable =
                |error| ConnectError::Kubeconfig { file: file.clone(), source: Box::new(error) };
            let read = Kubeconfig::read_from(file).map_err(unusable)?;
            let proxied = read.clusters.iter().any(|named| {
                named.cluster.as_ref().is_some_and(|cluster| cluster.proxy_url.is_some())
            });
            let options = KubeConfigOptions::default();
            let mut config =
                Config::from_custom_kubeconfig(read, &options).await.map_err(unusable)?;
            if !proxied {
                // HTTPS_PROXY of the environment is for the outside; a node's way to its own API
                // server leads by none.
                config.proxy_url = None;
            }
            Ok(config)
        }
        Source::InCluster => Config::incluster().map_err(ConnectError::ServiceAccount),
        Source::Manifests(directory) => Err(ConnectError::Manifests(directory.clone())),
    }
}
