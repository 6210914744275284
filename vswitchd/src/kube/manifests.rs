//! A directory of manifests: every `*.yaml`, `*.yml` and `*.json` in it, several objects a file.
//!
//! A file that does not parse is reported by name, line and field, and the last good state stays.
//! So it is with a Node or a Pod that is none. A Service or what belongs to one is left out for
//! itself instead: the others are in force.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_norway::Value;

use super::objects::{Node, ObjectError, Objects, Pod, fault};

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
const KINDS_LATER: [&str; 1] = ["NetworkPolicy"];

/// Reads all manifests of a directory, in the order of the files' names.
///
/// # Errors
/// The first file that cannot be used, or the directory itself.
pub fn read(directory: &Path) -> Result<Objects, ManifestError> {
    let unusable = |file: &Path, message: String| ManifestError {
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
        let text = fs::read_to_string(file).map_err(|error| unusable(file, error.to_string()))?;
        let name = file.file_name().unwrap_or(file.as_os_str()).to_string_lossy();
        parse(&name, &text, &mut objects).map_err(|message| unusable(file, message))?;
    }
    Ok(objects)
}

#[derive(Deserialize)]
struct Typed {
    kind: Option<String>,
    #[serde(default)]
    metadata: Value,
}

impl Typed {
    fn field(&self, name: &str) -> &str {
        self.metadata.get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// Namespace and name.
    fn key(&self) -> (String, String) {
        (namespace(self.field("namespace")), self.field("name").to_owned())
    }
}

/// Adds the objects of one file.
pub(crate) fn parse(file: &str, text: &str, objects: &mut Objects) -> Result<(), String> {
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
                let namespace = namespace(&pod.metadata.namespace);
                if objects.pods.insert((namespace.clone(), name.clone()), pod).is_some() {
                    return Err(format!("Pod {namespace}/{name} is there twice; remove one"));
                }
            }
            Some("Service") => {
                let added = add(file, &typed, body, typed.key(), &mut objects.services);
                objects.faults.extend(added.err());
            }
            Some("EndpointSlice") => {
                let added = add(file, &typed, body, typed.key(), &mut objects.slices);
                objects.faults.extend(added.err());
            }
            Some("ServiceCIDR") => {
                let name = typed.field("name").to_owned();
                let added = add(file, &typed, body, name, &mut objects.service_cidrs);
                objects.faults.extend(added.err());
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

/// Adds an object that is left out for itself when it cannot be read. Of two with one name the
/// first stays.
fn add<K: Ord, T: DeserializeOwned>(
    file: &str,
    typed: &Typed,
    body: serde_norway::Deserializer<'_>,
    key: K,
    among: &mut BTreeMap<K, T>,
) -> Result<(), ObjectError> {
    let kind = typed.kind.as_deref().unwrap_or_default();
    let name = typed.field("name");
    if name.is_empty() {
        let why = "missing; give it one";
        return Err(fault(&format!("{kind} in {file}"), "metadata.name", why));
    }
    let object = match kind {
        "ServiceCIDR" => format!("{kind} {name}"),
        _ => format!("{kind} {}/{name}", namespace(typed.field("namespace"))),
    };
    let value = T::deserialize(body).map_err(|error| {
        let said = error.to_string();
        // The path of the field comes first, where there is one.
        let path = said.split_once(": ").filter(|(path, _)| !path.contains(' '));
        let (field, why) = path.unwrap_or(("object", &said));
        fault(&object, field, format!("{why} of {file}"))
    })?;
    match among.entry(key) {
        Entry::Vacant(free) => {
            free.insert(value);
            Ok(())
        }
        Entry::Occupied(_) => {
            Err(fault(&object, "metadata.name", format!("there twice, here in {file}; remove one")))
        }
    }
}

/// The namespace that is meant.
fn namespace(given: &str) -> String {
    if given.is_empty() { "default".to_owned() } else { given.to_owned() }
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
        parse("a.yaml", NODE, &mut objects).unwrap();
        assert!(objects.nodes.contains_key("n1"));
        assert!(objects.pods.contains_key(&("default".to_owned(), "a".to_owned())));
    }

    /// The faults of single objects in a file that can be used.
    fn alone(text: &str) -> Vec<String> {
        let mut objects = Objects::default();
        parse("a.yaml", text, &mut objects).unwrap();
        objects.faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn fields_of_a_service_that_cannot_be_are_its_own_fault() {
        let port = |port: &str| {
            format!("kind: Service\nmetadata: {{name: web}}\nspec:\n  ports:\n  - {{{port}}}\n")
        };
        assert_eq!(alone(&port("port: 65535, nodePort: 65535")), [] as [&str; 0]);
        for (text, said) in [
            (
                port("port: 0"),
                "spec.ports[0].port: invalid value: integer `0`, expected a nonzero u16 at line 5 \
                 column 12",
            ),
            (
                port("port: 65536"),
                "spec.ports[0].port: invalid value: integer `65536`, expected a nonzero u16 at \
                 line 5 column 12",
            ),
            (
                port("port: 80, nodePort: 65536"),
                "spec.ports[0].nodePort: invalid value: integer `65536`, expected u16 at line 5 \
                 column 26",
            ),
            (
                port("port: 80, protocol: ICMP"),
                "spec.ports[0].protocol: unknown variant `ICMP`, expected one of `TCP`, `UDP`, \
                 `SCTP` at line 5 column 26",
            ),
            (port("name: x"), "spec.ports[0]: missing field `port` at line 5 column 5"),
        ] {
            assert_eq!(alone(&text), [format!("Service default/web: {said} of a.yaml")]);
        }
    }

    #[test]
    fn an_object_that_cannot_be_read_does_not_hold_up_the_others() {
        let text = "
kind: Service
metadata: {name: bad, namespace: shop}
spec: {type: Magic}
---
kind: EndpointSlice
metadata: {name: bad}
addressType: IPv5
---
kind: EndpointSlice
metadata: {name: untyped}
---
kind: EndpointSlice
metadata: {name: far}
addressType: IPv4
ports: [{port: 70000}]
---
kind: ServiceCIDR
metadata: {name: bad}
spec: {cidrs: 10.96.0.0/16}
---
kind: Service
---
kind: Service
metadata: {name: [a]}
---
kind: Service
metadata: {name: web}
---
kind: Service
metadata: {name: web, namespace: default}
spec: {clusterIP: 10.96.0.1}
---
kind: ServiceCIDR
metadata: {name: kubernetes}
";
        let mut objects = Objects::default();
        parse("a.yaml", text, &mut objects).unwrap();
        let web = &objects.services[&("default".to_owned(), "web".to_owned())];
        assert_eq!(web.spec.cluster_ip, "", "the first of two stays");
        assert_eq!((objects.services.len(), objects.slices.len()), (1, 0));
        assert_eq!(objects.service_cidrs.keys().collect::<Vec<_>>(), ["kubernetes"]);
        let faults: Vec<String> = objects.faults.iter().map(ToString::to_string).collect();
        let parts = [
            "Service shop/bad: spec.type: unknown variant `Magic`, expected one of `ExternalName`",
            "EndpointSlice default/bad: addressType: unknown variant `IPv5`, expected one of",
            "EndpointSlice default/untyped: object: missing field `addressType`",
            "EndpointSlice default/far: ports[0].port: invalid value: integer `70000`",
            "ServiceCIDR bad: spec.cidrs: invalid type: string \"10.96.0.0/16\", expected a seq",
            "Service in a.yaml: metadata.name: missing; give it one",
            "Service in a.yaml: metadata.name: missing; give it one",
            "Service default/web: metadata.name: there twice, here in a.yaml; remove one",
        ];
        assert_eq!(faults.len(), parts.len(), "{faults:?}");
        for (fault, part) in faults.iter().zip(parts) {
            assert!(fault.starts_with(part), "{fault}");
        }
        // A file that is no YAML holds nothing that could be told apart.
        parse("a.yaml", &format!("{text}---\nkind: [\n"), &mut Objects::default()).unwrap_err();
    }

    #[test]
    fn faults_name_line_and_field() {
        let wrong = "kind: Node\nmetadata: {name: n1}\nspec:\n  podCIDRs: 10.0.0.0/24\n";
        let message = parse("a.yaml", wrong, &mut Objects::default()).unwrap_err();
        assert!(message.contains("podCIDRs") && message.contains("line 4"), "{message}");
        for (text, part) in [
            ("kind: Nod\n", "`Nod`"),
            ("metadata: {}\n", "kind"),
            ("kind: Node\n", "metadata.name"),
            ("kind: [\n", "line"),
        ] {
            let message = parse("a.yaml", text, &mut Objects::default()).unwrap_err();
            assert!(message.contains(part), "{text:?}: {message}");
        }
    }
}
