//! One of the two worlds: who is in it, what it serves, and how what happens there is told, in
//! words that are the same in both.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lab::ask::{self, Answer};
use lab::{Namespace, Pod, manifest};

use super::kernel::Kernel;
use super::services::{RANGES, Service};
use crate::World;
use crate::services::{GATEWAYS, NODE, OUTSIDE};

/// Another address of the outside.
pub(super) const STRANGER: [&str; 2] = ["192.0.2.9", "2001:db8::9"];
/// Where load balancers and external addresses are from.
const ELSEWHERE: [&str; 2] = ["203.0.113.0/24", "2001:db8:9::/64"];
/// Silence is what lasts for so long: longer than the second after which a SYN is sent again.
pub(super) const PATIENCE: Duration = Duration::from_millis(2_500);
/// Time for manifests to be read.
const SERVED: Duration = Duration::from_secs(5);

/// What carries the packets.
pub(super) enum Switch {
    Kernel(Kernel),
    /// Pods are removed while the daemon is there.
    Hopscope(Vec<Pod>, Box<World>),
}

/// A world.
pub(super) struct Place {
    pub(super) switch: Switch,
    /// What addresses are called.
    names: BTreeMap<IpAddr, &'static str>,
}

/// The pods of both worlds.
pub(super) const PODS: [&str; 3] = ["client", "server", "other"];

impl Place {
    pub(super) fn kernel() -> Self {
        Self::of(Switch::Kernel(Kernel::new(&PODS)))
    }

    pub(super) fn hopscope() -> Self {
        let world = Box::new(crate::services::world("tap"));
        let far = lab::NodeSpec::numbered(2).object;
        manifest::write(&world.manifests(), "node-node2", &far.to_json()).unwrap();
        let pods = world.pods(PODS);
        Self::of(Switch::Hopscope(pods.into(), world))
    }

    fn of(switch: Switch) -> Self {
        let mut place = Self { switch, names: BTreeMap::new() };
        let mut names: Vec<(IpAddr, &'static str)> = Vec::new();
        for name in PODS {
            names.extend(place.addresses(name).into_iter().map(|address| (address, name)));
        }
        for (addresses, name) in
            [(GATEWAYS, "gateway"), (NODE, "node"), (OUTSIDE, "outside"), (STRANGER, "stranger")]
        {
            names.extend(addresses.map(|address| (address.parse().unwrap(), name)));
        }
        place.names = names.into_iter().collect();
        let outside = place.netns("outside");
        for family in 0..2 {
            // Deprecated, so that nobody is a stranger who has not said so.
            let stranger = format!("{}/{}", STRANGER[family], [24, 64][family]);
            let address = ["addr", "add", &stranger, "dev", "lan0", "preferred_lft", "0"];
            let nodad: &[&str] = if family == 1 { &["nodad"] } else { &[] };
            outside.ip(&[&address[..], nodad].concat()).unwrap();
            for range in [RANGES[family], ELSEWHERE[family]] {
                outside.ip(&["route", "add", range, "via", NODE[family]]).unwrap();
            }
        }
        for name in ["client", "server", "other", "node", "outside"] {
            // Limits of the kernels would hide answers: they are not compared.
            let netns = place.netns(name);
            for key in ["net/ipv4/icmp_ratelimit", "net/ipv6/icmp/ratelimit"] {
                netns.sysctl(key, "0").unwrap();
            }
            // Kernels that have one for the whole machine do not have it here.
            drop(netns.sysctl("net/ipv4/icmp_msgs_burst", "10000"));
        }
        place
    }

    /// Where somebody is.
    pub(super) fn netns(&self, name: &str) -> &Namespace {
        let pod = PODS.iter().position(|pod| *pod == name);
        match (&self.switch, pod) {
            (Switch::Kernel(kernel), Some(pod)) => &kernel.pods[pod].0,
            (Switch::Hopscope(pods, _), Some(pod)) => &pods[pod],
            (Switch::Kernel(kernel), None) if name == "node" => &kernel.node,
            (Switch::Hopscope(_, world), None) if name == "node" => &world.netns,
            (Switch::Kernel(kernel), None) => &kernel.lan.netns,
            (Switch::Hopscope(_, world), None) => &world.lan().netns,
        }
    }

    /// Somebody's addresses, IPv4 first.
    pub(super) fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let parsed = |both: [&str; 2]| both.map(|address| address.parse().unwrap()).to_vec();
        match (&self.switch, name) {
            (_, "node") => parsed(NODE),
            (_, "outside") => parsed(OUTSIDE),
            (_, "stranger") => parsed(STRANGER),
            (Switch::Kernel(kernel), pod) => {
                kernel.pods[PODS.iter().position(|name| *name == pod).unwrap()].1.clone()
            }
            (Switch::Hopscope(pods, _), pod) => {
                pods[PODS.iter().position(|name| *name == pod).unwrap()].addresses()
            }
        }
    }

    /// What an address is called: the target is what was asked.
    pub(super) fn name(&self, address: IpAddr, target: IpAddr) -> String {
        match self.names.get(&address) {
            Some(name) => (*name).to_owned(),
            None if address == target => "the target".to_owned(),
            None => address.to_string(),
        }
    }

    /// Serves these Services from now on.
    pub(super) fn serve(&self, services: &[Service]) {
        match &self.switch {
            Switch::Kernel(kernel) => kernel.serve(services),
            Switch::Hopscope(_, world) => {
                for service in services {
                    write(world, service);
                }
                for service in services {
                    wait(world, service);
                }
            }
        }
    }

    /// Serves all of these from now on, of which that one has lost backends.
    pub(super) fn change(&self, services: &[Service], changed: &Service, gone: &[IpAddr]) {
        match &self.switch {
            Switch::Kernel(kernel) => {
                kernel.serve(services);
                kernel.clean(changed, gone);
            }
            Switch::Hopscope(_, world) => {
                write(world, changed);
                wait(world, changed);
            }
        }
    }

    /// What an answer says, in words that are the same in both worlds.
    pub(super) fn tell(&self, answer: Answer, target: IpAddr, size: usize) -> String {
        match answer {
            Answer::Said { text, .. } if text.len() < size => format!("{} bytes", text.len()),
            Answer::Said { text, from } => {
                let words: Vec<&str> = text.split_whitespace().collect();
                let [name, address, l4_port] = words[..] else { panic!("{text:?}") };
                let seen = self.name(address.parse().unwrap(), target);
                let own = from.port().to_string() == l4_port;
                let port = if own { "its own port" } else { "another port" };
                format!("{name} answers, has seen {seen}, {port}")
            }
            Answer::Reset => "RST".to_owned(),
            Answer::Told(told) => {
                let by = self.name(told.by, target);
                match (target.is_ipv6(), told.icmp_type, told.code) {
                    (false, 3, 3) | (true, 1, 4) => format!("port unreachable by {by}"),
                    (false, 3, 4) | (true, 2, 0) => format!("too big for {}, by {by}", told.mtu),
                    (_, icmp_type, code) => format!("ICMP {icmp_type}/{code} by {by}"),
                }
            }
            Answer::Forbidden => "EPERM".to_owned(),
            Answer::Silence => "silence".to_owned(),
        }
    }

    /// Asks by TCP.
    pub(super) fn tcp(&self, client: &str, to: SocketAddr) -> String {
        let answer = ask::tcp(self.netns(client), self.source(client, to), to, PATIENCE).unwrap();
        self.tell(answer, to.ip(), 1)
    }

    /// Asks by a datagram of that size in bytes.
    pub(super) fn udp(&self, client: &str, to: SocketAddr, size: usize) -> String {
        let source = self.source(client, to);
        let answer = ask::udp(self.netns(client), source, to, size, PATIENCE).unwrap();
        self.tell(answer, to.ip(), size)
    }

    /// From where somebody asks. Only the stranger has to say it.
    fn source(&self, client: &str, to: SocketAddr) -> SocketAddr {
        if client != "stranger" {
            return ask::any(to);
        }
        SocketAddr::new(self.addresses(client)[usize::from(to.is_ipv6())], 0)
    }

    /// What is kept of the connection that a client has begun from there, and for how long.
    pub(super) fn kept(&self, protocol: &str, source: SocketAddr) -> String {
        let (state, seconds) = match &self.switch {
            Switch::Kernel(kernel) => {
                let path = "/proc/thread-self/net/nf_conntrack";
                let text = kernel.node.within(|| std::fs::read_to_string(path).unwrap()).unwrap();
                text.lines().find_map(|line| kept(line, protocol, source)).unwrap()
            }
            Switch::Hopscope(_, world) => {
                let (address, l4_port) = (source.ip().to_string(), source.port().to_string());
                let args = ["--address", &address, "--port", &l4_port, "--protocol", protocol];
                let args = [&["get", "conntrack"], &args[..]].concat();
                let list = world.hopctl_json(&args).unwrap();
                let [item] = &list["items"].as_array().unwrap()[..] else { panic!("{list}") };
                let left = item["expiresSeconds"].as_u64().unwrap();
                (item["state"].as_str().unwrap().to_owned(), whole(left))
            }
        };
        if protocol == "tcp" { format!("{state}, {seconds} s") } else { format!("{seconds} s") }
    }

    /// Asks by an echo request.
    pub(super) fn ping(&self, client: &str, to: IpAddr) -> String {
        let patience = PATIENCE.as_secs_f32().to_string();
        let args = ["-n", "-c", "1", "-W", &patience, &to.to_string()];
        let output = self.netns(client).attempt("ping", &args, 2 * PATIENCE).unwrap();
        if output.code == Some(0) {
            return "answered".to_owned();
        }
        assert_eq!(output.code, Some(1), "{output:?}");
        let said = output.stdout.lines().find_map(|line| {
            let (by, what) = line.strip_prefix("From ")?.split_once(" icmp_seq=1 ")?;
            let port = what.to_lowercase().ends_with("port unreachable");
            let what = if port { "port unreachable" } else { what };
            Some(format!("{what} by {}", self.name(by.parse().ok()?, to)))
        });
        said.unwrap_or_else(|| "silence".to_owned())
    }
}

/// Time-outs, in seconds.
const KEPT: [u64; 8] = [10, 30, 60, 120, 300, 3_600, 86_400, 432_000];

/// Seconds that pass at most before one asks how many are left.
const LATE: u64 = 8;

/// The time-out of which so many seconds are left.
fn whole(left: u64) -> u64 {
    let kept = KEPT.into_iter().find(|kept| *kept >= left).unwrap();
    assert!(kept - left <= LATE, "{left} s are left, of no known time-out");
    kept
}

/// The state of a TCP connection and the time-out, in seconds, of that line of conntrack, if it is
/// of the one that was begun from there.
fn kept(line: &str, protocol: &str, source: SocketAddr) -> Option<(String, u64)> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let value = |name: &str| words.iter().find_map(|word| word.strip_prefix(name));
    let own = SocketAddr::new(value("src=")?.parse().ok()?, value("sport=")?.parse().ok()?);
    let same = words.get(2) == Some(&protocol) && own == source;
    same.then(|| (words[5].to_owned(), whole(words[4].parse().unwrap())))
}

fn write(world: &World, service: &Service) {
    let name = service.name;
    manifest::write(&world.manifests(), &format!("service-{name}"), &service.object()).unwrap();
    for slice in service.slices(world.name()) {
        let name = slice["metadata"]["name"].as_str().unwrap();
        manifest::write(&world.manifests(), &format!("slice-{name}"), &slice).unwrap();
    }
}

/// Waits until both families of a Service are as they shall be.
fn wait(world: &World, service: &Service) {
    for (vip, is_ipv6) in service.vips().iter().zip([false, true]) {
        let backends = service.backends.iter().filter(|it| it.is_ipv6() == is_ipv6).count();
        let said = match backends {
            0 => "nobody to choose".to_owned(),
            _ if service.local[1] && !service.is_here => "ServiceNoneLocal".to_owned(),
            count => format!(", of {count}\n"),
        };
        let began = Instant::now();
        loop {
            let output = world.hopctl_attempt(&["trace", "node", vip, "--tcp", "80"]).unwrap();
            if output.stdout.contains(&said) {
                break;
            }
            assert!(began.elapsed() < SERVED, "{}: {said}: {output:?}", service.name);
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
