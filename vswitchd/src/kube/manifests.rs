//! A directory of manifests: every `*.yaml`, `*.yml` and `*.json` in it, several objects a file.
//!
//! A file that does not parse is reported by name, line and field, and the last good state stays.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::objects::{Node, Objects, Pod};

/// A file that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {message}")]
pub struct ManifestError {
    /// Its name within the directory.
    pub file: String,
    /// Line, field and what is wrong.
    pub message: String,
}

/// Kinds that a directory may hold and that nothing acts on yet: `status` says so.
const KINDS_LATER: [&str; 4] = ["Service", "EndpointSlice", "NetworkPolicy", "ServiceCIDR"];

/// Reads all manifests of a directory, in the order of the files' names.
///
/// # Errors
/// The first file that cannot be used, or the directory itself.
pub fn read(directory: &Path) -> Result<Objects, ManifestError> {
    let fault = |file: &Path, message: String| ManifestError {
        file: file.file_name().unwrap_or(file.as_os_str()).to_string_lossy().into_owned(),
        message,
    };
    let entries = fs::read_dir(directory).map_err(|error| ManifestError {
        file: directory.display().to_string(),
        message: format!("the directory cannot be read: {error}; name one that exists"),
    })?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let extension = path.extension().and_then(|extension| extension.to_str());
            matches!(extension, Some("yaml" | "yml" | "json"))
        })
        .collect();
    files.sort();
    let mut objects = Objects::default();
    for file in &files {
        let text = fs::read_to_string(file).map_err(|error| fault(file, error.to_string()))?;
        parse(&text, &mut objects).map_err(|message| fault(file, message))?;
    }
    Ok(objects)
}

#[derive(Deserialize)]
struct Typed {
    kind: Option<String>,
}

/// Adds the objects of one file.
fn parse(text: &str, objects: &mut Objects) -> Result<(), String> {
    // Two passes over each document: its kind, then the object, so that errors keep line and field.
    let kinds = serde_norway::Deserializer::from_str(text);
    let bodies = serde_norway::Deserializer::from_str(text);
    for (head, body) in kinds.zip(bodies) {
        let typed = Option::<Typed>::deserialize(head).map_err(|error| error.to_string())?;
        let Some(typed) = typed else { continue };
        match typed.kind.as_deref() {
            Some("Node") => {
                let node = Node::deserialize(body).map_err(|error| error.to_string())?;
                let name = named("Node", &node.metadata.name)?;
                if objects.nodes.insert(name.clone(), node).is_some() {
                    return Err(format!("Node {name} is there twice; remove one"));
                }
            }
            Some("Pod") => {
                let pod = Pod::deserialize(body).map_err(|error| error.to_string())?;
                let name = named("Pod", &pod.metadata.name)?;
                let namespace = match pod.metadata.namespace.as_str() {
                    "" => "default".to_owned(),
                    namespace => namespace.to_owned(),
                };
                if objects.pods.insert((namespace.clone(), name.clone()), pod).is_some() {
                    return Err(format!("Pod {namespace}/{name} is there twice; remove one"));
                }
            }
            Some("Namespace") => {}
            Some(kind) if KINDS_LATER.contains(&kind) => {
                objects.idle.insert(kind.to_owned());
            }
            Some(kind) => {
                return Err(format!("kind: `{kind}` means nothing here; remove the object"));
            }
            None => return Err("kind: missing; say what the object is".to_owned()),
        }
    }
    Ok(())
}

fn named(kind: &str, name: &str) -> Result<String, String> {
    if name.is_empty() {
        return Err(format!("metadata.name: missing in a {kind}"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: &str = "
kind: Node
apiVersion: v1
metadata: {name: n1}
spec: {podCIDRs: [10.244.1.0/24]}
---
kind: Pod
apiVersion: v1
metadata: {name: a, annotations: {hopscope.dev/allowed-addresses: 10.9.0.1}}
spec: {containers: [{name: c, image: x}]}
---
";

    #[test]
    fn several_objects_a_file() {
        let mut objects = Objects::default();
        parse(NODE, &mut objects).unwrap();
        assert!(objects.nodes.contains_key("n1"));
        assert!(objects.pods.contains_key(&("default".to_owned(), "a".to_owned())));
    }

    #[test]
    fn faults_name_line_and_field() {
        let wrong = "kind: Node\nmetadata: {name: n1}\nspec:\n  podCIDRs: 10.0.0.0/24\n";
        let message = parse(wrong, &mut Objects::default()).unwrap_err();
        assert!(message.contains("podCIDRs") && message.contains("line 4"), "{message}");
        for (text, part) in [
            ("kind: Nod\n", "`Nod`"),
            ("metadata: {}\n", "kind"),
            ("kind: Node\n", "metadata.name"),
            ("kind: [\n", "line"),
        ] {
            let message = parse(text, &mut Objects::default()).unwrap_err();
            assert!(message.contains(part), "{text:?}: {message}");
        }
    }
}
