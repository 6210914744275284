//! Manifests: the API's own objects. The daemon reads the directory; the lab reads from the same
//! files which nodes and pods it has to make.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Context, Error, Result};

/// What the lab needs of a Pod: a name, a place and a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodObject {
    /// Namespace, `default` when not given.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The node it runs on; the only one when not given.
    pub node: Option<String>,
    /// Command and arguments of its first container; none for a pod that only waits.
    pub command: Vec<String>,
}

/// What the lab needs of a Node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeObject {
    /// Name.
    pub name: String,
    /// Pod ranges, at most one a family.
    pub pod_cidrs: Vec<String>,
    /// Its own addresses.
    pub addresses: Vec<String>,
}

impl NodeObject {
    /// The object as the API would show it.
    pub fn to_json(&self) -> Value {
        let mut addresses: Vec<Value> = self
            .addresses
            .iter()
            .map(|address| json!({"type": "InternalIP", "address": address}))
            .collect();
        addresses.push(json!({"type": "Hostname", "address": self.name}));
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name},
            "spec": {"podCIDR": self.pod_cidrs.first(), "podCIDRs": self.pod_cidrs},
            "status": {"addresses": addresses},
        })
    }
}

/// The objects of a directory that the lab acts on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Manifests {
    /// Nodes, in the order of files.
    pub nodes: Vec<NodeObject>,
    /// Pods, in the order of files.
    pub pods: Vec<PodObject>,
}

impl Manifests {
    /// Reads every `.yaml`, `.yml` and `.json` of a directory, in the order of names.
    ///
    /// # Errors
    /// When a file cannot be read or does not parse, with its name.
    pub fn read(dir: &Path) -> Result<Self> {
        let mut paths: Vec<_> = fs::read_dir(dir)
            .context(dir.display())?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| {
                let extension = path.extension().and_then(|extension| extension.to_str());
                matches!(extension, Some("yaml" | "yml" | "json"))
            })
            .collect();
        paths.sort();
        let mut manifests = Self::default();
        for path in paths {
            let text = fs::read_to_string(&path).context(path.display())?;
            manifests.add(&text).context(path.display())?;
        }
        Ok(manifests)
    }

    /// Adds the documents of a text.
    ///
    /// # Errors
    /// When one does not parse.
    pub fn add(&mut self, text: &str) -> Result<()> {
        for document in serde_norway::Deserializer::from_str(text) {
            let value = Value::deserialize(document).context("YAML")?;
            match value.get("kind").and_then(Value::as_str) {
                Some("Node") => self.nodes.push(node(&value)?),
                Some("Pod") => self.pods.push(pod(&value)?),
                _ => {}
            }
        }
        Ok(())
    }
}

/// The string at a JSON pointer.
fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer)?.as_str().map(str::to_owned)
}

/// The strings of a list.
fn texts(value: Option<&Value>) -> Vec<String> {
    let list = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    list.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
}

fn node(value: &Value) -> Result<NodeObject> {
    let name =
        text(value, "/metadata/name").ok_or_else(|| Error::new("a Node without metadata.name"))?;
    let addresses = value.pointer("/status/addresses").and_then(Value::as_array);
    Ok(NodeObject {
        name,
        pod_cidrs: texts(value.pointer("/spec/podCIDRs")),
        addresses: addresses
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .filter(|address| text(address, "/type").as_deref() == Some("InternalIP"))
            .filter_map(|address| text(address, "/address"))
            .collect(),
    })
}

fn pod(value: &Value) -> Result<PodObject> {
    let name =
        text(value, "/metadata/name").ok_or_else(|| Error::new("a Pod without metadata.name"))?;
    let container = value.pointer("/spec/containers/0");
    let mut command = texts(container.and_then(|container| container.get("command")));
    command.extend(texts(container.and_then(|container| container.get("args"))));
    Ok(PodObject {
        namespace: text(value, "/metadata/namespace").unwrap_or_else(|| "default".to_owned()),
        name,
        node: text(value, "/spec/nodeName"),
        command,
    })
}

/// Writes an object into a directory of manifests, whole at once, so that a watcher never reads
/// half.
///
/// # Errors
/// When it cannot be written.
pub fn write(dir: &Path, name: &str, object: &impl Serialize) -> Result<()> {
    let text = serde_norway::to_string(object).context(name)?;
    let path = dir.join(format!("{name}.yaml"));
    let part = dir.join(format!(".{name}.part"));
    fs::write(&part, text).context(part.display())?;
    fs::rename(&part, &path).context(path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_and_pods_are_read_and_others_left_alone() {
        let mut manifests = Manifests::default();
        let node = NodeObject {
            name: "a".to_owned(),
            pod_cidrs: vec!["10.244.1.0/24".to_owned()],
            addresses: vec!["192.0.2.10".to_owned()],
        };
        manifests.add(&serde_norway::to_string(&node.to_json()).unwrap()).unwrap();
        manifests
            .add(
                "kind: Service\n---\nkind: Pod\nmetadata: {name: web, namespace: shop}\n\
                 spec: {nodeName: a, containers: [{command: [lab, http], args: ['80']}]}\n",
            )
            .unwrap();
        assert_eq!(manifests.nodes, [node]);
        let web = &manifests.pods[0];
        assert_eq!((web.namespace.as_str(), web.name.as_str()), ("shop", "web"));
        assert_eq!(web.command, ["lab", "http", "80"]);
        assert_eq!(web.node.as_deref(), Some("a"));
        manifests.add("kind: Pod\nmetadata: {}\n").unwrap_err();
    }
}
