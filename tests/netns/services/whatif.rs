//! What if: recorded traffic of real pods beside other Services, by the binary.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lab::process::Output;
use serde_json::{Value, json};

use super::{World, addresses, at_vip, lead, page, servers, serving, to, vips, world};

/// Connections that clients make, of each family.
const CONNECTIONS: usize = 12;
/// The manifests as they were recorded with.
const SAME: &str = "same";

/// A copy of the node's manifests, to be changed.
fn copied(world: &World, name: &str) -> PathBuf {
    let copy = world.file(name);
    fs::create_dir_all(&copy).unwrap();
    for file in fs::read_dir(world.manifests()).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), copy.join(file.file_name())).unwrap();
    }
    copy
}

fn what_if(world: &World, file: &Path, with: &Path, more: &[&str]) -> Output {
    let (file, with) = (file.to_string_lossy(), with.to_string_lossy());
    let args = [&["replay", &file, "--with", &with], more].concat();
    world.hopctl_attempt(&args).unwrap()
}

fn object(world: &World, file: &Path, with: &Path) -> Value {
    let output = what_if(world, file, with, &["-o", "json"]);
    let object: Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(object["kind"], "WhatIf");
    assert_eq!(output.code, Some(i32::from(object["differ"] != 0)), "{output:?}");
    object
}

fn sources(items: &Value, chosen: impl Fn(&Value) -> bool) -> BTreeSet<String> {
    let items = items.as_array().unwrap().iter().filter(|item| chosen(item));
    items.map(|item| item["source"].as_str().unwrap().to_owned()).collect()
}

/// The traffic of one client with two backends, as a file; what there was in the table; and the
/// second backend's addresses.
fn recorded(world: &World) -> (PathBuf, Value, Vec<String>) {
    let [client, one, other] = world.pods(["client", "one", "other"]);
    let _servers = [servers(&one), servers(&other)];
    serving(world, 50, &[&one, &other], &json!({}));
    for (family, vip) in vips(50).iter().enumerate() {
        for _ in 0..CONNECTIONS {
            let own = client.addresses()[family];
            assert_eq!(page(&client, &to(vip, at_vip(0))), format!("hello, {own}"));
        }
        client.run("ping", &["-c", "1", "-W", "2", &one.addresses()[family].to_string()]).unwrap();
    }
    let table = world.hopctl_json(&["get", "conntrack", "--protocol", "tcp", "--port", "8080"]);
    let file = world.file("traffic.pcapng");
    world.hopctl(&["record", "-w", &file.to_string_lossy()]).unwrap();
    copied(world, SAME);
    // What becomes of the manifests is not what the recording has of them.
    lead(world, "web", &addresses(&[&one]), world.name());
    let lost = other.addresses().iter().map(ToString::to_string).collect();
    (file, table.unwrap()["items"].clone(), lost)
}

#[test]
fn a_recording_says_which_connections_other_services_would_change() {
    let world = world("tap");
    let (file, table, lost) = recorded(&world);
    let of_other = |item: &Value| {
        let backend = item["backend"].as_str().unwrap_or_default();
        lost.iter().any(|address| backend.starts_with(&*to(address, 8080)))
    };
    let expected = sources(&table, of_other);
    assert!(expected.len() > 4, "{table}");

    // The backend is gone from these already.
    let fewer = copied(&world, "fewer");
    let object_fewer = object(&world, &file, &fewer);
    let differences = &object_fewer["differences"];
    assert_eq!(sources(differences, |_| true), expected);
    assert_eq!(differences.as_array().unwrap().len(), expected.len(), "each once");
    assert_eq!(object_fewer["reasons"].as_array().unwrap().len(), 1);
    assert_eq!(object_fewer["reasons"][0]["kind"], "backend");
    let shown = what_if(&world, &file, &fewer, &[]);
    let head = format!("other backend: {} connections\n", expected.len());
    assert!(shown.stdout.starts_with(&head), "{shown:?}");
    assert!(expected.iter().all(|source| shown.stdout.contains(&**source)), "{shown:?}");

    // Those that it was recorded with.
    let none = what_if(&world, &file, &world.file(SAME), &[]);
    assert_eq!(none.code, Some(0), "{none:?}");
    assert!(none.stdout.ends_with(" connections, none differs\n"), "{none:?}");

    // Without the Service nobody gets anywhere.
    let without = copied(&world, "without");
    for file in fs::read_dir(&without).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("service-web") || name.starts_with("slice-web") {
            fs::remove_file(path).unwrap();
        }
    }
    let object_without = object(&world, &file, &without);
    assert_eq!(object_without["reasons"][0]["reason"], "ServiceAddressUnallocated");
    assert!(sources(&object_without["differences"], |_| true).is_superset(&expected));
    let http = |item: &Value| item["service"] == "default/web:web";
    let count = sources(&object_without["differences"], http).len();
    assert_eq!(count, 2 * CONNECTIONS, "{object_without}");
    limits(&world, &file, &without);
    world.settle(&[]);
}

/// What cannot be compared is said, and a file that was cut is compared as far as it goes.
fn limits(world: &World, file: &Path, with: &Path) {
    let bytes = fs::read(file).unwrap();
    let cut = world.file("cut.pcapng");
    fs::write(&cut, &bytes[..bytes.len() - bytes.len() / 8]).unwrap();
    let part = what_if(world, &cut, with, &[]);
    assert_eq!(part.code, Some(1), "{part:?}");
    assert!(part.stderr.contains("up to its last whole record"), "{part:?}");
    // Nothing has come in by then, so nothing could differ: no answer that a script may trust.
    let early = what_if(world, file, with, &["--until", "record=1"]);
    assert_eq!(early.code, Some(1), "{early:?}");
    assert_eq!(early.stdout, "0 connections, none known to differ: not all was compared\n");
    assert!(early.stderr.contains("nothing was replaced"), "{early:?}");
    let bad = copied(world, "bad");
    fs::write(bad.join("zz.yaml"), "kind: Node\nmetadata: {name: x}\nspec: {podCIDRs: 7}\n")
        .unwrap();
    let refused = what_if(world, file, &bad, &[]);
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
    assert!(refused.stderr.contains("zz.yaml: spec.podCIDRs"), "{refused:?}");
    let fault = "kind: Service\nmetadata: {name: y}\nspec: {ports: [{port: 0}]}\n";
    fs::write(bad.join("zz.yaml"), fault).unwrap();
    let told = what_if(world, file, &bad, &[]);
    let said = "left out of the manifests: Service default/y: spec.ports[0].port";
    assert!(told.stderr.contains(said), "{told:?}");
    for (with, more, part) in [
        (Path::new("/nonexistent"), &[][..], "/nonexistent"),
        (with, &["--break", "drop"], "do not go with it"),
        (with, &["--node-name", "nobody"], "Node nobody: metadata.name"),
    ] {
        let refused = what_if(world, file, with, more);
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
        assert!(refused.stderr.contains(part), "{refused:?}");
    }
}
