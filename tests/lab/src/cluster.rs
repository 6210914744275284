//! Nodes and pods from a directory of manifests: a Node becomes a namespace with a daemon, a Pod
//! becomes a namespace that is wired by the plugin and runs its command.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use crate::manifest::{Manifests, PodObject};
use crate::process::Process;
use crate::{Context, Error, Lan, Node, NodeSpec, Pod, Result, binaries};

/// What a directory of manifests describes, running.
#[derive(Debug)]
pub struct Cluster {
    /// Pods with their command, in the order of the manifests. They go before their nodes.
    pub pods: Vec<Running>,
    /// Nodes, in the order of the manifests.
    pub nodes: Vec<Node>,
}

/// A pod whose command runs.
#[derive(Debug)]
pub struct Running {
    /// Its command; none for a pod that only waits.
    pub process: Option<Process>,
    /// The pod.
    pub pod: Pod,
}

impl Cluster {
    /// Makes all nodes, then wires all pods and starts their commands.
    ///
    /// # Errors
    /// When the manifests cannot be read, or something cannot be made or started.
    pub fn new(dir: &Path) -> Result<Self> {
        let manifests = Manifests::read(dir)?;
        if manifests.nodes.is_empty() {
            return Err(Error::new(format!("{}: no Node among the manifests", dir.display())));
        }
        let lan = Lan::new(1500)?;
        let mut cluster = Self { pods: Vec::new(), nodes: Vec::new() };
        for (index, object) in manifests.nodes.into_iter().enumerate() {
            let spec = NodeSpec { object, manifests: Some(dir.to_owned()), ..NodeSpec::default() };
            cluster.nodes.push(Node::new(&Arc::clone(&lan), index, spec)?);
        }
        for object in manifests.pods {
            let running = cluster.run(&object)?;
            cluster.pods.push(running);
        }
        Ok(cluster)
    }

    fn run(&self, object: &PodObject) -> Result<Running> {
        let wanted = object.node.as_deref();
        let mut nodes = self.nodes.iter();
        let node = nodes.find(|node| wanted.is_none_or(|name| name == node.name()));
        let node = node.ok_or_else(|| {
            Error::new(format!("Pod {}: no Node {}", object.name, wanted.unwrap_or("at all")))
        })?;
        let pod = node.pod_with((&object.namespace, &object.name), &[].into())?;
        let process = match object.command.split_first() {
            Some((program, args)) => {
                // Inside of an image the lab's programs would lie on the path.
                let mut command = match program.as_str() {
                    "lab" => Command::new(binaries::lab()?),
                    other => Command::new(other),
                };
                command.args(args).stdin(Stdio::null());
                Some(pod.spawn(command).context(&object.name)?)
            }
            None => None,
        };
        Ok(Running { process, pod })
    }

    /// The pod `default/<name>`.
    ///
    /// # Errors
    /// When no manifest describes it.
    pub fn pod(&self, name: &str) -> Result<&Pod> {
        let reference = format!("default/{name}");
        let found = self.pods.iter().find(|running| running.pod.reference() == reference);
        found.map(|running| &running.pod).ok_or_else(|| Error::new(format!("no pod {reference}")))
    }
}
