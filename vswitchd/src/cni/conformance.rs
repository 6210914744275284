//! What the specification and the reference plugins ask of a CNI plugin, as a table of cases over a
//! closure that runs one. std and serde_json only: the unit tests run it against a fake node, and
//! the suite in namespaces includes this file by its path and runs it against the built plugin and
//! daemon.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Environment and standard input in; exit status, standard output, standard error out.
pub(crate) type Run<'a> = dyn Fn(&BTreeMap<String, String>, &str) -> (i32, String, String) + 'a;

/// Where the cases are played. The node's pod ranges are 10.1.2.0/24 and fd00:1:2::/64, its MTU is
/// 1450.
pub(crate) struct Stage<'a> {
    /// Runs the plugin.
    pub(crate) run: &'a Run<'a>,
    /// The configuration's `socket`.
    pub(crate) socket: String,
    /// A fresh network namespace's path.
    pub(crate) netns: &'a dyn Fn() -> String,
    /// Paths an ADD must refuse: nothing there, no namespace, the node's own.
    pub(crate) bad_netns: Vec<String>,
    /// All that is left of attachments: links, ports, leases, files. Empty after every case.
    pub(crate) left: &'a dyn Fn() -> Vec<String>,
}

/// A case: its name and what it does.
pub(crate) type Case = (&'static str, fn(&Stage<'_>));

/// All cases. Each removes what it made.
pub(crate) const CASES: [Case; 19] = [
    ("without a command the plugin introduces itself", about),
    ("VERSION needs no input", version),
    ("missing variables are named all at once", missing_variables),
    ("names that are none are refused", bad_names),
    ("configurations that are none are refused", bad_configurations),
    ("verbs are refused in versions that lack them", verbs_by_version),
    ("ADD, CHECK and DEL in every version", every_version),
    ("a second ADD is refused and harms nothing", add_twice),
    ("the results of earlier plugins are kept", chained),
    ("DEL always succeeds", del),
    ("another network's attachment is left alone", del_by_another_network),
    ("a path that is no network namespace is refused", bad_netns),
    ("addresses and MACs can be requested", requests),
    ("requests that cannot be met are refused", bad_requests),
    ("CNI_ARGS", cni_args),
    ("settings of the network", settings),
    ("ports of the node lead to one pod each", host_ports),
    ("CHECK compares", check),
    ("STATUS and GC", status_and_gc),
];

/// Plays all cases.
pub(crate) fn play(stage: &Stage<'_>) {
    for (name, case) in CASES {
        println!("case: {name}");
        case(stage);
        assert_eq!((stage.left)(), Vec::<String>::new(), "left behind by: {name}");
    }
}

/// One call under construction.
struct Call<'a> {
    stage: &'a Stage<'a>,
    environment: BTreeMap<String, String>,
    config: Value,
}

impl Stage<'_> {
    fn call(&self, verb: &str, container: &str, netns: &str) -> Call<'_> {
        let environment = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", "/opt/cni/bin"),
        ];
        let environment =
            environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = json!({"cniVersion": "1.1.0", "name": "hopscope", "type": "hopscope",
            "socket": self.socket});
        Call { stage: self, environment, config }
    }

    fn add(&self, container: &str) -> Call<'_> {
        self.call("ADD", container, &(self.netns)())
    }

    fn del(&self, container: &str) {
        self.call("DEL", container, "").succeeds();
    }
}

impl Call<'_> {
    fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.insert(key.into(), value.into());
        self
    }
    fn key(mut self, key: &str, value: Value) -> Self {
        self.config[key] = value;
        self
    }
    fn run(&self) -> (i32, String, String) {
        self.run_with(&self.config.to_string())
    }
    fn run_with(&self, stdin: &str) -> (i32, String, String) {
        (self.stage.run)(&self.environment, stdin)
    }
    fn succeeds(&self) -> String {
        let (exit, stdout, stderr) = self.run();
        assert_eq!(exit, 0, "{:?} {}: {stdout}{stderr}", self.environment, self.config);
        stdout
    }
    /// The result of an ADD.
    fn result(&self) -> Value {
        serde_json::from_str(&self.succeeds()).expect("a result")
    }
    /// Fails with this code; returns message and details.
    fn fails(&self, code: u64) -> String {
        self.fails_with(&self.config.to_string(), code)
    }
    fn fails_with(&self, stdin: &str, code: u64) -> String {
        let (exit, stdout, _) = self.run_with(stdin);
        let context = format!("{:?} {stdin}: {stdout}", self.environment);
        assert_ne!(exit, 0, "{context}");
        let error: Value = serde_json::from_str(&stdout).expect(&context);
        assert_eq!(error["code"], json!(code), "{context}");
        assert!(error["cniVersion"].is_string(), "{context}");
        let msg = error["msg"].as_str().expect(&context);
        assert!(!msg.is_empty(), "{context}");
        format!("{msg} {}", error["details"].as_str().unwrap_or_default())
    }
}

const ALL: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

fn about(stage: &Stage<'_>) {
    for call in [stage.add("a").env("CNI_COMMAND", ""), stage.add("a")] {
        let mut environment = call.environment.clone();
        environment.remove("CNI_COMMAND");
        let (exit, stdout, stderr) = (stage.run)(&environment, "");
        assert_eq!((exit, stdout.as_str()), (0, ""));
        assert!(stderr.contains("hopscope") && stderr.contains("1.1.0"), "{stderr}");
    }
}

fn version(stage: &Stage<'_>) {
    let call = stage.call("VERSION", "", "");
    for stdin in ["", "no JSON", "{\"cniVersion\":\"9.9.9\"}"] {
        let (exit, stdout, _) = call.run_with(stdin);
        assert_eq!(exit, 0);
        let answer: Value = serde_json::from_str(&stdout).expect("an answer");
        assert_eq!(answer, json!({"cniVersion": "1.1.0", "supportedVersions": ALL}));
    }
}

fn missing_variables(stage: &Stage<'_>) {
    let table: [(&str, &[&str]); 5] = [
        ("ADD", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        ("CHECK", &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_PATH"]),
        ("DEL", &["CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"]),
        ("GC", &["CNI_PATH"]),
        ("STATUS", &["CNI_PATH"]),
    ];
    for (verb, required) in table {
        let mut call = stage.call(verb, "", "").env("CNI_IFNAME", "").env("CNI_PATH", "");
        assert!(call.fails(4).contains(&required.join(", ")), "{verb}");
        call.environment.retain(|key, _| key == "CNI_COMMAND");
        assert!(call.fails(4).contains(&required.join(", ")), "{verb}");
        for one in required {
            let mut call = stage.call(verb, "a", "/run/netns/a");
            call.environment.remove(*one);
            let text = call.fails(4);
            assert!(required.iter().all(|name| text.contains(name) == (name == one)), "{text}");
        }
    }
    for unknown in ["LIST", "add", "ADD "] {
        assert!(stage.add("a").env("CNI_COMMAND", unknown).fails(4).contains("CNI_COMMAND"));
    }
}

fn bad_names(stage: &Stage<'_>) {
    for verb in ["ADD", "DEL", "CHECK"] {
        for id in ["../x", "-a", ".a", "a/b", "a b", "a\n", "ä"] {
            assert!(stage.call(verb, id, "/x").fails(4).contains("CNI_CONTAINERID"));
        }
        for name in ["0123456789abcdef", ".", "..", "a/b", "a:b", "a b", "a\tb", "eth%d"] {
            let call = stage.call(verb, "a", "/x").env("CNI_IFNAME", name);
            assert!(call.fails(4).contains("CNI_IFNAME"));
        }
    }
}

fn bad_configurations(stage: &Stage<'_>) {
    for verb in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
        let call = || stage.call(verb, "a", "/x");
        for stdin in ["", "{", "[]", "null", "7", "\u{0}"] {
            call().fails_with(stdin, 6);
        }
        call().key("cniVersion", json!(7)).fails(6);
        for unknown in ["", "0.0.1", "0.5.0", "1.2.0", "2.0.0", "x"] {
            let text = call().key("cniVersion", json!(unknown)).fails(1);
            assert!(text.contains(&format!("{unknown:?}")) && text.contains("0.3.1"), "{text}");
        }
        for name in [json!(null), json!(""), json!("a/b"), json!("-a"), json!(7), json!("a b")] {
            assert!(call().key("name", name).fails(7).contains("name"));
        }
    }
}

fn verbs_by_version(stage: &Stage<'_>) {
    for version in ALL {
        let call = |verb| stage.call(verb, "a", "/x").key("cniVersion", json!(version));
        if version < "0.4.0" {
            assert!(call("CHECK").fails(1).contains("0.4.0"));
        } else {
            assert!(call("CHECK").fails(7).contains("prevResult"));
        }
        for verb in ["GC", "STATUS"] {
            if version < "1.1.0" {
                assert!(call(verb).fails(1).contains("1.1.0"));
            } else {
                assert_eq!(call(verb).succeeds(), "");
            }
        }
    }
}

/// The addresses of a result in any version.
fn addresses(result: &Value) -> Vec<String> {
    let old = ["ip4", "ip6"].iter().filter_map(|key| result[*key]["ip"].as_str());
    let new = result["ips"].as_array().into_iter().flatten();
    let new = new.filter_map(|ip| ip["address"].as_str());
    old.chain(new).map(str::to_owned).collect()
}

fn every_version(stage: &Stage<'_>) {
    for version in ALL {
        let netns = (stage.netns)();
        let call = |verb| stage.call(verb, "each", &netns).key("cniVersion", json!(version));
        let result = call("ADD").result();
        assert_eq!(result["cniVersion"], json!(version));
        let found = addresses(&result);
        assert_eq!(found.len(), 2, "{result}");
        assert!(found[0].starts_with("10.1.2.") && found[0].ends_with("/24"), "{result}");
        assert!(found[1].starts_with("fd00:1:2::") && found[1].ends_with("/64"), "{result}");
        if version < "0.3.0" {
            let route = json!([{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}]);
            assert_eq!(result["ip4"]["routes"], route);
            assert_eq!(result["ip6"]["gateway"], "fd00:1:2::1");
            assert_eq!(result["interfaces"], Value::Null);
        } else {
            new_result(&result, version, &netns);
        }
        if version >= "0.4.0" {
            assert_eq!(call("CHECK").key("prevResult", result.clone()).succeeds(), "");
        }
        assert_eq!(call("DEL").key("prevResult", result).succeeds(), "");
    }
    let mut unversioned = stage.add("each");
    unversioned.config.as_object_mut().expect("an object").remove("cniVersion");
    assert_eq!(unversioned.result()["cniVersion"], "0.1.0");
    stage.del("each");
}

fn new_result(result: &Value, version: &str, netns: &str) {
    let interface = &result["interfaces"][0];
    assert_eq!(interface["name"], "eth0");
    assert_eq!(interface["sandbox"], netns);
    let mac = interface["mac"].as_str().expect("a MAC");
    assert!(mac.len() == 17 && mac.split(':').count() == 6, "{mac}");
    assert_eq!(interface["mtu"].is_number(), version == "1.1.0");
    for (ip, (family, gateway)) in [("4", "10.1.2.1"), ("6", "fd00:1:2::1")].iter().enumerate() {
        let ip = &result["ips"][ip];
        assert_eq!((&ip["interface"], &ip["gateway"]), (&json!(0), &json!(gateway)));
        let mark = if version < "1.0.0" { json!(family) } else { Value::Null };
        assert_eq!(ip["version"], mark);
    }
    let routes = json!([{"dst": "0.0.0.0/0", "gw": "10.1.2.1"},
        {"dst": "::/0", "gw": "fd00:1:2::1"}]);
    assert_eq!(result["routes"], routes);
}

fn add_twice(stage: &Stage<'_>) {
    let netns = (stage.netns)();
    let first = stage.call("ADD", "twice", &netns).result();
    assert!(stage.call("ADD", "twice", &netns).fails(100).contains("eth0 of container twice"));
    assert!(stage.add("twice").fails(100).contains("attached already"));
    // Another container's id, the same namespace: the interface is there already.
    stage.call("ADD", "thrice", &netns).fails(102);
    stage.call("CHECK", "twice", &netns).key("prevResult", first.clone()).succeeds();
    // A second interface is an attachment of its own.
    let second = stage.call("ADD", "twice", &netns).env("CNI_IFNAME", "eth1").result();
    assert!(addresses(&second).iter().all(|address| !addresses(&first).contains(address)));
    stage.call("DEL", "twice", &netns).env("CNI_IFNAME", "eth1").succeeds();
    stage.call("CHECK", "twice", &netns).key("prevResult", first).succeeds();
    stage.del("twice");
}

fn chained(stage: &Stage<'_>) {
    let previous = json!({"cniVersion": "1.1.0",
        "interfaces": [{"name": "dummy0", "mtu": 1400}, {"name": "net1", "sandbox": "/x"}],
        "ips": [{"address": "192.0.2.7/24", "interface": 1}],
        "routes": [{"dst": "198.51.100.0/24", "priority": 5}],
        "dns": {"domain": "example"}});
    let result = stage.add("chain").key("prevResult", previous.clone()).result();
    for key in ["interfaces", "ips", "routes"] {
        let (before, after) = (previous[key].as_array(), result[key].as_array());
        let (before, after) = (before.expect("a list"), after.expect("a list"));
        assert_eq!(after[..before.len()], before[..], "{key}");
    }
    assert_eq!(result["interfaces"][2]["name"], "eth0");
    assert_eq!(result["ips"][1]["interface"], 2);
    assert_eq!(result["dns"], previous["dns"]);
    stage.del("chain");
    // An old one, and no place for its interfaces.
    let old = json!({"cniVersion": "0.2.0", "ip4": {"ip": "192.0.2.7/24"}});
    let call = stage.add("chain").key("cniVersion", json!("0.2.0")).key("prevResult", old);
    assert_eq!(call.result()["ip4"]["ip"], "192.0.2.7/24");
    stage.del("chain");
    for bad in [json!(7), json!({"ips": 7}), json!({"ips": [{"address": "x"}]})] {
        stage.add("chain").key("prevResult", bad).fails(6);
    }
    stage.add("chain").key("prevResult", json!({"cniVersion": "3.0.0"})).fails(1);
}

fn del(stage: &Stage<'_>) {
    let del = |container, netns: &str| stage.call("DEL", container, netns);
    for netns in ["", "/nonexistent", "/dev/null"] {
        for _again in 0..2 {
            assert_eq!(del("unknown", netns).succeeds(), "");
        }
    }
    for netns in stage.bad_netns.iter().map(String::as_str).chain([""]) {
        stage.add("gone").succeeds();
        assert_eq!(del("gone", netns).succeeds(), "");
        assert_eq!(del("gone", netns).succeeds(), "");
    }
    // After a failed ADD, and with what only an ADD would look at.
    stage.add("failed").key("ipam", json!({"type": "dhcp"})).fails(7);
    del("failed", "").key("ipam", json!({"type": "dhcp"})).succeeds();
    del("failed", "").env("CNI_ARGS", "junk").key("mtu", json!("junk")).succeeds();
    del("failed", "").key("prevResult", json!("junk")).succeeds();
}

fn del_by_another_network(stage: &Stage<'_>) {
    let netns = (stage.netns)();
    let result = stage.call("ADD", "mine", &netns).result();
    stage.call("ADD", "mine", &netns).key("name", json!("other")).fails(100);
    stage.call("DEL", "mine", &netns).key("name", json!("other")).succeeds();
    stage.call("CHECK", "mine", &netns).key("prevResult", result.clone()).succeeds();
    let other = stage.call("CHECK", "mine", &netns).key("name", json!("other"));
    other.key("prevResult", result).fails(3);
    stage.del("mine");
}

fn bad_netns(stage: &Stage<'_>) {
    for path in &stage.bad_netns {
        assert!(stage.call("ADD", "bad", path).fails(8).contains(path.as_str()));
    }
}

fn requests(stage: &Stage<'_>) {
    let capability = json!({"ips": ["10.1.2.77/24", "fd00:1:2::77"], "mac": "02:00:00:00:00:77"});
    let nested = json!({"cni": {"ips": ["10.1.2.78"], "mac": "02:00:00:00:00:78"}});
    let args = "IP=10.1.2.79;MAC=02:00:00:00:00:79";
    let call = stage.add("wish").env("CNI_ARGS", args);
    let third = call.result();
    stage.del("wish");
    let second = stage.add("wish").env("CNI_ARGS", args).key("args", nested.clone()).result();
    stage.del("wish");
    let call = stage.add("wish").env("CNI_ARGS", args).key("args", nested);
    let first = call.key("runtimeConfig", capability).result();
    stage.del("wish");
    for (result, last) in [(&first, 77), (&second, 78), (&third, 79)] {
        assert_eq!(addresses(result)[0], format!("10.1.2.{last}/24"));
        assert_eq!(result["interfaces"][0]["mac"], format!("02:00:00:00:00:{last}"));
    }
    assert_eq!(addresses(&first)[1], "fd00:1:2::77/64");
    assert_ne!(addresses(&second)[1], "fd00:1:2::77/64", "only IPv4 was asked for");
}

fn bad_requests(stage: &Stage<'_>) {
    let ips = |list: Value| stage.add("wish").key("runtimeConfig", json!({ "ips": list }));
    for (wish, why) in [
        ("10.1.3.7/24", "outside"),
        ("10.1.2.0", "network address"),
        ("10.1.2.1/24", "gateway"),
        ("10.1.2.255", "broadcast"),
        ("fd00:1:2::1", "gateway"),
        ("fd00:1:3::7", "outside"),
        ("10.1.2.7/25", "prefix length"),
        ("10.1.2.7/", "prefix length"),
        ("10.1.2", "no address"),
        ("010.1.2.7", "no address"),
    ] {
        let text = ips(json!([wish])).fails(7);
        assert!(text.contains("runtimeConfig.ips") && text.contains(wish), "{text}");
        assert!(text.contains(why), "{text}");
        let text = stage.add("wish").env("CNI_ARGS", &format!("IP={wish}")).fails(4);
        assert!(text.contains("CNI_ARGS IP") && text.contains(wish), "{text}");
    }
    assert!(ips(json!(["10.1.2.7", "10.1.2.8"])).fails(7).contains("second of its family"));
    ips(json!("10.1.2.7")).fails(7);
    let mac = |mac: &str| stage.add("wish").key("runtimeConfig", json!({ "mac": mac }));
    for (wish, why) in [
        ("x", "no MAC"),
        ("01:00:5e:00:00:01", "multicast"),
        ("ff:ff:ff:ff:ff:ff", "multicast"),
        ("00:00:00:00:00:00", "zeros"),
        ("02:48:4f:50:00:01", "gateway"),
    ] {
        let text = mac(wish).fails(7);
        assert!(text.contains("runtimeConfig.mac") && text.contains(why), "{text}");
    }
    let taken = stage.add("first").result();
    let address = addresses(&taken)[0].clone();
    assert!(ips(json!([address])).fails(7).contains("in use"));
    let taken = taken["interfaces"][0]["mac"].as_str().expect("a MAC");
    assert!(mac(taken).fails(7).contains("in use"));
    stage.del("first");
}

fn cni_args(stage: &Stage<'_>) {
    let pod =
        "K8S_POD_NAME=web-0;K8S_POD_NAMESPACE=shop;K8S_POD_INFRA_CONTAINER_ID=c;K8S_POD_UID=u";
    for good in [
        String::new(),
        pod.to_owned(),
        format!("IgnoreUnknown=1;X=y;{pod}"),
        "X=;IgnoreUnknown=true".to_owned(),
        "IgnoreUnknown=True;X=y".to_owned(),
    ] {
        stage.add("args").env("CNI_ARGS", &good).succeeds();
        stage.del("args");
    }
    for (bad, why) in [
        ("X", "no pair"),
        ("X=y=z", "no pair"),
        ("IP=10.1.2.7;", "no pair"),
        ("=y", "no pair"),
        ("X=y", "unknown"),
        ("X=y;IgnoreUnknown=0", "unknown"),
        ("IgnoreUnknown=perhaps", "IgnoreUnknown"),
        ("K8S_POD_NAMESPACE=../x;K8S_POD_NAME=y", "K8S_POD_NAMESPACE"),
        ("K8S_POD_NAMESPACE=x;K8S_POD_NAME=a\u{1b}[31m", "K8S_POD_NAME"),
    ] {
        assert!(stage.add("args").env("CNI_ARGS", bad).fails(4).contains(why), "{bad}");
    }
}

fn settings(stage: &Stage<'_>) {
    let add = |key: &str, value: Value| stage.add("set").key(key, value);
    let mtu = |result: &Value| result["interfaces"][0]["mtu"].clone();
    assert_eq!(mtu(&stage.add("set").result()), 1450);
    stage.del("set");
    assert_eq!(mtu(&add("mtu", json!(9000)).result()), 9000);
    stage.del("set");
    for bad in [json!(1279), json!(65536), json!(-1), json!("1500"), json!(1.5)] {
        assert!(add("mtu", bad).fails(7).contains("mtu"));
    }
    let veth = add("portKind", json!("veth")).result();
    let interfaces = veth["interfaces"].as_array().expect("a list");
    assert!(interfaces.iter().all(|one| one["sandbox"].is_string()), "none is on the host: {veth}");
    assert_eq!(interfaces.len(), 1, "the switch's own end is nobody else's: {veth}");
    stage.del("set");
    assert!(add("portKind", json!("bridge")).fails(7).contains("portKind"));
    add("ipam", json!({"type": "hopscope"})).succeeds();
    stage.del("set");
    for ipam in [json!({"type": "host-local", "subnet": "10.1.2.0/24"}), json!({"type": "../x"})] {
        assert!(add("ipam", ipam).fails(7).contains("ipam.type"));
    }
    let text = add("ipam", json!({"type": "hopscope", "subnet": "10.0.0.0/8"})).fails(2);
    assert!(text.contains("subnet") && text.contains("10.0.0.0/8"), "{text}");
    let dns = json!({"nameservers": ["192.0.2.1"], "domain": "d", "search": ["s"]});
    assert_eq!(add("dns", dns.clone()).result()["dns"], dns);
    stage.del("set");
    let capability = json!({"dns": {"servers": ["192.0.2.2"], "options": ["ndots:5"]}});
    let result = add("dns", dns.clone()).key("runtimeConfig", capability).result();
    let both = json!({"nameservers": ["192.0.2.2"], "domain": "d", "search": ["s"],
        "options": ["ndots:5"]});
    assert_eq!(result["dns"], both);
    stage.del("set");
    // As containerd spells them.
    let capability =
        json!({"dns": {"Servers": ["192.0.2.2"], "Searches": null, "Options": ["ndots:5"]}});
    let result = add("dns", dns).key("runtimeConfig", capability).result();
    assert_eq!(result["dns"], both);
    stage.del("set");
    add("runtimeConfig", json!({"portMappings": [], "io.kubernetes.cri.pod-annotations": {}}))
        .key("cni.dev/unknown", json!({"any": 1}))
        .succeeds();
    stage.del("set");
    for key in ["ipRanges", "bandwidth"] {
        let text = add("runtimeConfig", json!({ key: [{"x": 42}] })).fails(2);
        assert!(text.contains(key) && text.contains("42"), "{text}");
    }
}

fn host_ports(stage: &Stage<'_>) {
    let add = |container: &str, mappings: Value| {
        let netns = (stage.netns)();
        stage.call("ADD", container, &netns).key("runtimeConfig", json!({"portMappings": mappings}))
    };
    let good = json!({"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "x": 1});
    add("first", json!([good.clone(), good.clone()])).succeeds();
    for (spoiled, said) in [
        (json!({"hostPort": 0}), "portMappings[1].hostPort: 0 is no port of 1 to 65534"),
        (json!({"hostPort": 65535}), "portMappings[1].hostPort: 65535"),
        (json!({"hostPort": -1}), "portMappings[1].hostPort: -1"),
        (json!({"hostPort": "80"}), "portMappings[1].hostPort: \"80\""),
        (json!({"containerPort": 0}), "portMappings[1].containerPort: 0"),
        (json!({"containerPort": null}), "portMappings[1].containerPort: null"),
        (json!({"protocol": "icmp"}), "portMappings[1].protocol"),
        (json!({"hostIP": "here"}), "portMappings[1].hostIP"),
        (json!({"containerPort": 81, "hostPort": 9000}), "portMappings[1].hostPort: 9000 is there"),
    ] {
        let mut wrong = json!({"hostPort": 9000, "containerPort": 80, "protocol": "udp"});
        let before = json!({"hostPort": 9000, "containerPort": 80, "protocol": "udp"});
        for (key, value) in spoiled.as_object().expect("an object") {
            wrong[key] = value.clone();
        }
        let text = add("second", json!([before, wrong])).fails(7);
        assert!(text.contains(said), "{text}");
    }
    add("second", json!([7])).fails(7);
    add("second", json!({"hostPort": 1})).fails(7);
    add("second", json!(vec![good.clone(); 65])).fails(7);
    // Another pod's, which has it until its DEL.
    let text = add("second", json!([good.clone()])).fails(7);
    let said = "portMappings[0].hostPort: 8080 of tcp is pod/-/first's on this node";
    assert!(text.contains(said), "{text}");
    let containerd =
        json!({"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""});
    let text = add("second", json!([containerd])).fails(7);
    assert!(text.contains(said), "{text}");
    let mut udp = good.clone();
    udp["protocol"] = "udp".into();
    add("second", json!([udp])).succeeds();
    stage.del("first");
    add("third", json!([good])).succeeds();
    stage.del("second");
    stage.del("third");
}

/// Spoils a result.
type Edit = fn(&mut Value);

fn check(stage: &Stage<'_>) {
    let netns = (stage.netns)();
    let call =
        |result: &Value| stage.call("CHECK", "check", &netns).key("prevResult", result.clone());
    let good = stage.call("ADD", "check", &netns).result();
    assert_eq!(call(&good).succeeds(), "");
    let mut more = good.clone();
    more["ips"].as_array_mut().expect("a list").push(json!({"address": "192.0.2.1/24"}));
    assert_eq!(call(&more).succeeds(), "", "a later plugin may add");
    let edits: [(&str, Edit); 5] = [
        ("no interface", |result| result["interfaces"] = json!([{"name": "eth0"}])),
        ("MAC", |result| result["interfaces"][0]["mac"] = "02:00:00:00:00:01".into()),
        ("MTU", |result| result["interfaces"][0]["mtu"] = 1300.into()),
        ("lacks", |result| result["ips"][0]["address"] = "10.1.2.250/24".into()),
        ("lacks", |result| {
            result["interfaces"].as_array_mut().expect("a list").push(json!({"name": "x"}));
            result["ips"][1]["interface"] = 1.into();
        }),
    ];
    for (why, edit) in edits {
        let mut wrong = good.clone();
        edit(&mut wrong);
        // An address may not point at an interface that is not there.
        assert!(call(&wrong).fails(101).contains(why), "{why}");
    }
    let elsewhere = stage.call("CHECK", "check", &(stage.netns)());
    assert!(elsewhere.key("prevResult", good.clone()).fails(101).contains("CNI_NETNS"));
    stage.call("CHECK", "nobody", &netns).key("prevResult", good.clone()).fails(3);
    stage.call("CHECK", "check", &netns).fails(7);
    call(&good).key("prevResult", Value::Null).fails(7);
    stage.del("check");
    call(&good).fails(3);
}

fn status_and_gc(stage: &Stage<'_>) {
    assert_eq!(stage.call("STATUS", "", "").succeeds(), "");
    let keep: Vec<String> = (0..3).map(|n| format!("keep{n}")).collect();
    for container in &keep {
        stage.add(container).succeeds();
    }
    stage.add("other").key("name", json!("other")).succeeds();
    let kept = |container: &str| stage.add(container).run().1.contains("\"code\":100");
    let gc = || stage.call("GC", "", "");
    let key = "cni.dev/valid-attachments";
    gc().succeeds();
    gc().key(key, Value::Null).succeeds();
    for wrong in [json!("all"), json!({}), json!([{"containerID": "keep0"}]), json!([7])] {
        gc().key(key, wrong).fails(7);
    }
    assert!(keep.iter().all(|container| kept(container)), "nothing said, nothing removed");
    let entry = |container: &str| json!({"containerID": container, "ifname": "eth0"});
    gc().key(key, json!([entry("keep0"), entry("keep1"), entry("unknown")])).succeeds();
    assert!(kept("keep0") && kept("keep1") && kept("other"));
    assert!(!kept("keep2"), "it was removed, so this is a new one");
    // The legacy key counts only without the other.
    let all: Vec<Value> = keep.iter().map(|container| entry(container)).collect();
    gc().key("cni.dev/attachments", json!([])).key(key, json!(all)).succeeds();
    assert!(keep.iter().all(|container| kept(container)));
    gc().key("cni.dev/attachments", json!([entry("keep1")])).succeeds();
    assert!(kept("keep1") && !kept("keep0"));
    for container in &keep {
        gc().key(key, json!([])).succeeds();
        assert!(!kept(container), "{container} was removed");
    }
    gc().key(key, json!([])).succeeds();
    gc().key(key, json!([])).key("name", json!("other")).succeeds();
}
