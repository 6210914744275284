//! `hopctl explain connection`: real pods' connections told from their first packet to their end.

use serde_json::{Value, json};

use super::{
    NODE, OUTSIDE, World, at_vip, page, publish, refused, servers, service, serving, socket, to,
    vips, world,
};

/// The only entry of the table that matches.
fn entry(world: &World, args: &[&str]) -> Value {
    let list = world.hopctl_json(&[&["get", "conntrack"], args].concat()).unwrap();
    let [item] = &list["items"].as_array().unwrap()[..] else { panic!("{args:?}: {list}") };
    item.clone()
}

/// What is told of a connection in a table, and as an object.
fn told(world: &World, ids: &[&str]) -> (String, Value) {
    let args = [&["explain", "connection"], ids].concat();
    let object = world.hopctl_json(&args).unwrap();
    assert_eq!(object["kind"], "ConnectionStory");
    (world.hopctl(&args).unwrap(), object)
}

fn ends(item: &Value) -> [String; 2] {
    let protocol = item["protocol"].as_str().unwrap();
    let destination = item["destination"].as_str().unwrap();
    [item["source"].as_str().unwrap().to_owned(), format!("{destination}/{protocol}")]
}

/// The value beside a name.
fn line<'a>(shown: &'a str, name: &str) -> &'a str {
    let line = shown.lines().find(|line| line.split("   ").next() == Some(name));
    line.unwrap_or_else(|| panic!("{name}: {shown}")).split_once("   ").unwrap().1.trim()
}

#[test]
fn a_connection_to_a_vip_is_told_with_its_backend_and_its_end() {
    for kind in crate::KINDS {
        let world = world(kind);
        let [client, server] = world.pods(["client", "server"]);
        let _backend = servers(&server);
        serving(&world, 60, &[&server], &json!({}));
        for (family, vip) in vips(60).iter().enumerate() {
            page(&client, &to(vip, at_vip(0)));
            let item =
                entry(&world, &["--address", vip, "--protocol", "tcp", "--pod", "default/client"]);
            // The newest of all has the most time left.
            let chosen = ["--state", "time_wait", "--port", "8080"];
            let newest = [&chosen[..], &["--sort-by", "expiresSeconds", "--limit", "1"]].concat();
            assert_eq!(entry(&world, &newest)["source"], item["source"]);
            let [source, destination] = ends(&item);
            let (shown, object) = told(&world, &[&source, &destination]);
            let head = format!("tcp {source} -> {}: ended, closed", to(vip, 80));
            assert!(shown.starts_with(&head), "{shown}");
            let backend = to(&server.addresses()[family].to_string(), 8080);
            assert_eq!(line(&shown, "backend"), format!("{backend} by random, of 1"));
            assert_eq!(line(&shown, "service"), "default/web:web");
            assert_eq!(line(&shown, "from"), "pod/default/client");
            assert_eq!(line(&shown, "to"), "pod/default/server");
            assert!(line(&shown, "there").contains(&format!("leaves as {source} -> {backend}")));
            assert!(line(&shown, "state").starts_with("TIME_WAIT, "), "{shown}");
            let states: Vec<&str> = object["walks"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|walk| walk["state"].as_str())
                .collect();
            assert_eq!(states[..3], ["SYN_SENT", "SYN_RECV", "ESTABLISHED"], "{shown}");
            assert!(states.ends_with(&["TIME_WAIT"]), "{shown}");
            // By a walk of it, by what the backend sees, and in a recording.
            let walk = object["began"]["walk"].to_string();
            assert_eq!(told(&world, &[&walk]).1["began"], object["began"]);
            assert_eq!(told(&world, &[&backend, &source]).1["began"], object["began"]);
            let file = world.file("told.pcapng").to_string_lossy().into_owned();
            world.hopctl(&["record", "-w", &file]).unwrap();
            let args = ["explain", "--file", &file, "connection", &source, &destination];
            assert_eq!(world.hopctl_json(&args).unwrap()["began"], object["began"]);
        }
        world.settle(&[]);
    }
}

#[test]
fn one_that_leaves_the_cluster_and_one_that_is_refused_say_why() {
    let world = world("tap");
    let [client] = world.pods(["client"]);
    publish(&world, &service("empty", 61, &json!({})));
    super::told(&world, 61, "nobody to choose");
    let outside = servers(&world.lan().netns);
    for (family, address) in OUTSIDE.into_iter().enumerate() {
        let udp = socket(&client, to(address, 7007).parse().unwrap());
        udp.send(b"question").unwrap();
        udp.recv(&mut [0; 16]).unwrap();
        let own = udp.local_addr().unwrap().to_string();
        let (shown, object) = told(&world, &[&own, &format!("{}/udp", to(address, 7007))]);
        assert_eq!(
            line(&shown, "masqueraded"),
            "it leaves the cluster, where the pod's address is not known"
        );
        let left = object["original"]["leftSource"].as_str().unwrap();
        assert!(left.starts_with(&to(NODE[family], 6)[..NODE[family].len()]), "{shown}");
        assert!(line(&shown, "back").contains(&format!("-> {left} leaves as")), "{shown}");
        assert!(line(&shown, "state").starts_with("REPLIED, "), "{shown}");
        assert_eq!((&object["service"], &object["reply"]["packets"]), (&Value::Null, &json!(1)));

        refused(&client, &vips(61)[family], at_vip);
        let from = client.addresses()[family].to_string();
        let asked = [from.as_str(), &format!("{}/tcp", to(&vips(61)[family], 80))];
        let output = [&["explain", "connection"], &asked[..]].concat();
        let output = world.hopctl_attempt(&output).unwrap().success().unwrap();
        assert!(output.stdout.contains(": refused, ServiceNoBackend: the service has no backend"));
        assert_eq!(line(&output.stdout, "service"), "default/empty:web");
        assert!(output.stdout.contains("reset: ServiceNoBackend"), "{output:?}");
        assert!(output.stderr.contains("hint: hopctl get backends"), "{output:?}");
    }
    drop(outside);
    for (ids, code, part) in [
        (&["10.244.1.9:1", "10.244.1.8:2/tcp"][..], 1, "no connection tcp 10.244.1.9:1 to"),
        (&["99999999"], 1, "there has been no walk 99999999"),
        (&["10.244.1.9:1"], 2, "one end only"),
        (&["demo/web", "10.244.1.8"], 2, "demo/web is no end of a connection"),
        (&[], 2, "needs an ID"),
        (&["--file", "/nonexistent", "7"], 2, "/nonexistent"),
    ] {
        let args = [&["explain", "connection"], ids].concat();
        let output = world.hopctl_attempt(&args).unwrap();
        assert_eq!((output.code, output.stdout.as_str()), (Some(code), ""), "{output:?}");
        assert!(output.stderr.contains(part), "{output:?}");
    }
    let output = world.hopctl_attempt(&["get", "conntrack", "--state", "open"]).unwrap();
    assert_eq!((output.code, output.stdout.as_str()), (Some(2), ""), "{output:?}");
    assert!(output.stderr.contains("ESTABLISHED, "), "{output:?}");
    world.settle(&["ServiceNoBackend"]);
}
