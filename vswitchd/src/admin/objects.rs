//! The objects of the admin API, shared by the daemon and `hopctl`. Their JSON is stable: fields
//! are added, never renamed or removed. Each carries `apiVersion` and `kind`; a list has its
//! entries under `items`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capture::{Points, cbpf};

/// Version of all objects here.
pub const API_VERSION: &str = "hopscope.dev/v1";

/// What an object is called.
pub trait Kind {
    /// The name of one.
    const KIND: &'static str;
}

/// One object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object<T> {
    /// [`API_VERSION`].
    pub api_version: String,
    /// [`Kind::KIND`].
    pub kind: String,
    /// Its fields.
    #[serde(flatten)]
    pub body: T,
}

/// A list of objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List<T> {
    /// [`API_VERSION`].
    pub api_version: String,
    /// [`Kind::KIND`] of the entries and `List`.
    pub kind: String,
    /// The entries.
    pub items: Vec<T>,
    /// Entries that were left out, because they were more than had been asked for.
    #[serde(default, skip_serializing_if = "is_none")]
    pub left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

impl<T: Kind> Object<T> {
    /// Wraps the fields.
    #[must_use]
    pub fn new(body: T) -> Self {
        Self { api_version: API_VERSION.to_owned(), kind: T::KIND.to_owned(), body }
    }
}

impl<T: Kind> List<T> {
    /// Wraps the entries.
    #[must_use]
    pub fn new(items: Vec<T>) -> Self {
        let kind = format!("{}List", T::KIND);
        Self { api_version: API_VERSION.to_owned(), kind, items, left_out: 0 }
    }
}

macro_rules! objects {
    ($($(#[$doc:meta])* $name:ident {
        $($(#[$field_doc:meta])* $field:ident: $type:ty,)+
    })+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
            #[serde(rename_all = "camelCase")]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type,)+
            }

            impl Kind for $name {
                const KIND: &'static str = stringify!($name);
            }
        )+
    };
}

objects! {
    /// What runs.
    Version {
        /// The program's version.
        version: String,
    }

    /// How the node is.
    Status {
        /// The node's name.
        node: String,
        /// The daemon's version.
        version: String,
        /// Whether pods can be wired.
        ready: bool,
        /// Why not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// Whether desired state was loaded whole.
        complete: bool,
        /// Seconds since the daemon started.
        uptime_seconds: u64,
        /// The process that works now, and those before it.
        #[serde(default)]
        worker: Worker,
        /// Ports of pods.
        pods: u64,
        /// All ports.
        ports: u64,
        /// Of those: up.
        ports_up: u64,
        /// What became of all frames, summed over the ports.
        traffic: Traffic,
        /// Ports whose counts contradict each other; empty unless there is a bug.
        imbalances: Vec<String>,
        /// What should be mended.
        problems: Vec<Problem>,
        /// Captures that run.
        captures: u64,
        /// Digest of the switch's state, hexadecimal.
        digest: String,
        /// The journal; absent when nothing is recorded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        journal: Option<Journal>,
        /// Recordings that rules keep.
        #[serde(default)]
        recordings: Recordings,
        /// What was put right on the node.
        #[serde(default)]
        upkeep: Upkeep,
    }

    /// What was put right on the node because somebody else had changed it.
    Upkeep {
        /// How often, since the daemon started.
        mended: u64,
        /// What was wrong the last time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<String>,
        /// Seconds since then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_seconds: Option<u64>,
        /// What is wrong and stays so for now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        wrong: Option<String>,
    }

    /// Recordings that rules keep, together.
    Recordings {
        /// Rules that watch.
        rules: u64,
        /// Recordings there are.
        count: u64,
        /// Bytes of them.
        size_bytes: u64,
        /// Bytes of them at most.
        budget_bytes: u64,
        /// Where they lie.
        directory: String,
    }

    /// The journal: what of the past can be replayed.
    Journal {
        /// Where it lies.
        directory: String,
        /// Bytes of the ring.
        size_bytes: u64,
        /// Records so far, those overwritten included.
        records: u64,
        /// The oldest moment that can be replayed, in UTC.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        horizon: Option<String>,
        /// How long ago that is.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        horizon_seconds: Option<u64>,
    }

    /// The process that carries frames and answers requests.
    Worker {
        /// Its process id.
        pid: u32,
        /// That of its parent, which holds ports and privileges.
        parent_pid: u32,
        /// How many workers there were before, since the daemon started.
        restarts: u64,
        /// How the last of them ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_end: Option<String>,
        /// How it took over from another vswitchd; absent when it did not.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        takeover: Option<Takeover>,
    }

    /// A hand-over, as the worker that took over saw it.
    Takeover {
        /// Process id of the vswitchd that handed over.
        from_pid: u32,
        /// For how many microseconds nobody read the ports.
        blind_us: u64,
    }

    /// received = forwarded + flooded + answered + delivered + dropped + held.
    Traffic {
        /// Frames that came in.
        received: u64,
        /// Went out by one port.
        forwarded: u64,
        /// Went out by several ports.
        flooded: u64,
        /// The switch replied itself.
        answered: u64,
        /// Given to a host inside the switch.
        delivered: u64,
        /// Dropped.
        dropped: u64,
        /// Fragments that wait for the first of their datagram.
        #[serde(default)]
        held: u64,
    }

    /// Something to mend.
    Problem {
        /// The object or file, with line and field where known.
        object: String,
        /// What is wrong with it.
        message: String,
    }

    /// A port.
    Port {
        /// Its name: `pod/NS/NAME`, `host`, `endpoint/NAME`.
        name: String,
        /// Its number.
        id: u32,
        /// `pod`, `host` or `endpoint`.
        r#type: String,
        /// `tap` or `veth`, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        link: Option<String>,
        /// Its MAC.
        mac: String,
        /// Its addresses.
        addresses: Vec<String>,
        /// Further prefixes it may send from.
        allowed: Vec<String>,
        /// Largest IP packet, in bytes.
        mtu: u16,
        /// Whether frames may enter and leave.
        up: bool,
        /// Frames that came in by it.
        received: u64,
        /// Frames that went out by it.
        transmitted: u64,
        /// Of those received: dropped.
        dropped: u64,
        /// The container, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container_id: Option<String>,
        /// The interface's name inside the pod, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        interface: Option<String>,
        /// Seconds since it was wired, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        age_seconds: Option<u64>,
    }

    /// Where a MAC is.
    FdbEntry {
        /// The MAC.
        mac: String,
        /// The port's name.
        port: String,
        /// `pod`, `host` or `endpoint`.
        r#type: String,
    }

    /// Where a prefix leads.
    Route {
        /// The destinations.
        prefix: String,
        /// `connected`, `port` or `blackhole`.
        r#type: String,
        /// The egress port, for type `port`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<String>,
    }

    /// Which MAC an address has.
    Neighbor {
        /// The address.
        address: String,
        /// Its MAC.
        mac: String,
        /// The port's name.
        port: String,
    }

    /// Which connections are wanted. Without a field: whatever it is.
    ConnectionQuery {
        /// Those of pods or Services of this namespace.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        namespace: Option<String>,
        /// Those that are with backends of this Service: `NS/NAME`, or `NS/NAME:PORT` by the port's
        /// name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// Those that this pod began or was asked for: `NS/POD`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pod: Option<String>,
        /// Those in which this address stands, before translation or behind it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<String>,
        /// `tcp`, `udp`, `sctp` or `icmp`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        protocol: Option<String>,
        /// Those that have come so far: a state's name, whatever the case.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        state: Option<String>,
        /// Those in which this port stands, before translation or behind it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<u16>,
        /// So many of them; 1,000 if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
        /// The first ones by this: `expiresSeconds`, the largest first. If absent by protocol,
        /// source and destination.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sort: Option<String>,
    }

    /// A connection, and what it is translated to.
    Connection {
        /// `tcp`, `udp`, `sctp`, `icmp`, or the protocol's number.
        protocol: String,
        /// How far it has come, in Linux's words: `ESTABLISHED`, `UNREPLIED`.
        state: String,
        /// Who began it: address and port, of an ICMP echo its identifier in place of a port.
        source: String,
        /// Whom it asked for.
        destination: String,
        /// Who it is with, if that is another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        backend: Option<String>,
        /// Who seems to have begun it there, if that is another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        translated_source: Option<String>,
        /// The Service whose backend that is: `demo/web:http`; `(gone)` when there is no such any
        /// more.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        service: Option<String>,
        /// Seconds until it is forgotten, if nothing is said any more.
        expires_seconds: u64,
        /// The name of the port behind which the originator is.
        from: String,
        /// The name of the port behind which the responder is.
        to: String,
        /// What the originator's packets bear.
        original: Flow,
        /// What the responder's packets bear.
        reply: Flow,
    }

    /// One direction of a connection.
    Flow {
        /// Source address.
        source: String,
        /// Source port, 0 without.
        source_port: u16,
        /// Destination address.
        destination: String,
        /// Destination port, 0 without.
        destination_port: u16,
    }

    /// A port of a Service in one family.
    Service {
        /// Namespace, name and port name: `demo/web:http`.
        name: String,
        /// The namespace.
        namespace: String,
        /// Its number on this node.
        id: u32,
        /// `tcp`, `udp` or `sctp`.
        protocol: String,
        /// Where it is asked for: `10.96.0.10:80`, `node:30080`.
        frontends: Vec<Frontend>,
        /// How a backend is chosen.
        method: String,
        /// How long a client keeps its backend; absent without session affinity.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        affinity_seconds: Option<u64>,
        /// Whether its cluster address leads to backends of this node only.
        internal_local: bool,
        /// Whether what comes from outside stays on this node.
        external_local: bool,
        /// Who may use the load balancer's addresses; empty is everybody.
        source_ranges: Vec<String>,
        /// Its backends.
        backends: u64,
        /// Of those: may be given new connections.
        usable: u64,
        /// Of those of this node: may be given new connections, under a Local policy.
        usable_local: u64,
        /// Connections that were refused.
        refused: u64,
        /// Of those: no backend could be used.
        refused_no_backends: u64,
        /// Of those: none of this node could, under a Local policy.
        refused_none_local: u64,
        /// Of those: the client is in no source range.
        refused_source: u64,
    }

    /// Where a Service is asked for.
    Frontend {
        /// `clusterIP`, `nodePort`, `loadBalancer`, `externalIP` or `hostPort`.
        r#type: String,
        /// Address and port; `node:PORT` where every address of the node is meant.
        address: String,
    }

    /// Who answers for a Service.
    Backend {
        /// The Service: `demo/web:http`.
        service: String,
        /// Its namespace.
        namespace: String,
        /// `tcp`, `udp` or `sctp`.
        protocol: String,
        /// Address and port.
        address: String,
        /// `local` on this node, else `remote`.
        r#where: String,
        /// `ready`; `serving`, which is leaving and still answers; `terminating`, which is leaving
        /// and does not; `unready`.
        state: String,
        /// Whether it may be given new connections, from this node or elsewhere.
        usable: bool,
        /// Its share beside others; 0 takes no new connections.
        weight: u16,
        /// Connections that are open.
        active: u32,
        /// Connections it was given so far.
        total: u64,
    }

    /// Frames dropped for one reason at one port.
    Drop {
        /// The ingress port's name; `(gone)` for ports that were removed.
        port: String,
        /// The reason's name.
        reason: String,
        /// Its stable number.
        code: u16,
        /// Whose doing it is.
        class: String,
        /// Frames.
        count: u64,
        /// What happened.
        text: String,
        /// What can be done about it.
        hint: String,
    }

    /// All counters of a port.
    Counter {
        /// The port's name; `(gone)` for what removed ports had counted.
        port: String,
        /// Frames that came in.
        received: u64,
        /// Bytes of those.
        received_bytes: u64,
        /// Of those received: went out by one port.
        forwarded: u64,
        /// Of those received: went out by several ports.
        flooded: u64,
        /// Of those received: the switch replied itself.
        answered: u64,
        /// Of those received: given to a host inside the switch.
        delivered: u64,
        /// Of those received: dropped.
        dropped: u64,
        /// Of those received: fragments that wait for the first of their datagram.
        #[serde(default)]
        held: u64,
        /// Frames handed to the port's driver.
        transmitted: u64,
        /// Bytes of those.
        transmitted_bytes: u64,
        /// Of those handed over: written.
        written: u64,
        /// Of those handed over: a write failed, by the error's name.
        failed: BTreeMap<String, u64>,
        /// Reads that failed, by the error's name.
        receive_failed: BTreeMap<String, u64>,
        /// Frames the kernel lost before the switch could read them.
        lost: u64,
        /// Of those handed over: by a daemon before this one. Whether the last of them were written
        /// is not known.
        #[serde(default)]
        earlier: u64,
    }

    /// An address given to a pod.
    Lease {
        /// The address.
        address: String,
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
        /// The container.
        container_id: String,
        /// The interface inside the pod.
        interface: String,
        /// Seconds since it was given, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        age_seconds: Option<u64>,
    }

    /// A recording of the seconds around an event.
    Recording {
        /// When the event was, in UTC.
        time: String,
        /// How long ago that is, by the daemon's clock.
        age_seconds: u64,
        /// The rule that asked for it; `quarantine` for what crashed the switch.
        rule: String,
        /// What happened.
        event: String,
        /// Milliseconds that it covers.
        covered_ms: u64,
        /// Milliseconds that the rule wanted before these and the journal no longer had.
        missing_ms: u64,
        /// Frames in it.
        packets: u64,
        /// Bytes of the file.
        size_bytes: u64,
        /// The file.
        path: String,
    }

    /// A rule that watches, and what it has seen since the worker began.
    Trigger {
        /// The rule.
        rule: String,
        /// Events that fired it.
        fired: u64,
        /// Events that came too soon behind one that did: counted, not recorded.
        suppressed: u64,
        /// Recordings made of those that fired.
        recorded: u64,
        /// Requests that were given up because too many waited for an answer.
        given_up: u64,
        /// How much of the time before an event is kept.
        before: String,
        /// How much of the time behind one is kept.
        after: String,
        /// At most one recording in so much time.
        every: String,
    }

    /// An interface that was wired.
    Attachment {
        /// The port's number.
        port: u32,
        /// `tap` or `veth`.
        link: String,
        /// The container.
        container_id: String,
        /// The interface inside the pod.
        interface: String,
        /// Seconds since it was wired, where known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        age_seconds: Option<u64>,
    }

    /// One thing the node was asked about.
    Check {
        /// What.
        name: String,
        /// Whether it is as it should be.
        ok: bool,
        /// How it is.
        message: String,
        /// The command or step that mends it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        mend: Option<String>,
    }

    /// All of them.
    CheckReport {
        /// Whether all are as they should be.
        passed: bool,
        /// Each.
        checks: Vec<Check>,
    }

    /// A packet to be imagined.
    TraceRequest {
        /// `NS/POD`, `node` or an address.
        from: String,
        /// `NS/POD`, `node` or an address.
        to: String,
        /// What it carries.
        #[serde(default)]
        protocol: Protocol,
        /// The destination's L4 port, of TCP and UDP.
        #[serde(default)]
        l4_port: u16,
        /// 4 or 6; the first that both have if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        family: Option<u8>,
        /// Its hop limit, or TTL; 64 if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hop_limit: Option<u8>,
        /// Bytes of the IP packet, as an MTU counts them; a small one if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<u16>,
        /// Whether routers may fragment it: DF is not set. Of IPv6 they never may.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        may_fragment: bool,
    }

    /// What the switch would do with it.
    TraceResult {
        /// Where it would come in.
        ingress: String,
        /// Source address.
        source: String,
        /// Destination address.
        destination: String,
        /// Whether it would get somewhere: forwarded, flooded, delivered, or answered as it wished.
        passed: bool,
        /// The end.
        verdict: Verdict,
        /// Each step.
        hops: Vec<Hop>,
    }

    /// A step of a walk.
    Hop {
        /// The stage's name.
        stage: String,
        /// What was decided.
        line: String,
    }

    /// The end of a walk.
    Verdict {
        /// `forward`, `flood`, `deliver`, `answer` or `drop`.
        r#type: String,
        /// The egress port of a forward.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<String>,
        /// Why it got no further: of a drop, or of an answer that says so.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        /// What can be done about that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hint: Option<String>,
    }

    /// A capture to be made.
    CaptureRequest {
        /// Where frames are shown.
        #[serde(default)]
        points: Points,
        /// Only walks that enter or leave by the port of this name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scope: Option<String>,
        /// Only walks that end in a drop.
        #[serde(default)]
        dropped_only: bool,
        /// The filter, compiled.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        program: Option<Vec<cbpf::Instruction>>,
        /// The filter as it was written.
        #[serde(default)]
        filter: String,
        /// Bytes of each frame to keep, 0 for all.
        #[serde(default)]
        snaplen: u32,
        /// Packets after which it ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        count: Option<u64>,
        /// Milliseconds after which it ends.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        duration_ms: Option<u64>,
    }

    /// Why a request failed.
    Error {
        /// What happened.
        message: String,
        /// What to do about it; empty if the message says so.
        #[serde(default)]
        hint: String,
    }
}

/// What a traced packet carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// An echo request of ICMP or ICMPv6.
    #[default]
    Icmp,
    /// A TCP SYN.
    Tcp,
    /// A UDP datagram.
    Udp,
}

impl Upkeep {
    /// What was put right, as a clause; `None` when nothing was.
    #[must_use]
    pub fn sentence(&self) -> Option<String> {
        let (last, seconds) = (self.last.as_ref()?, self.last_seconds.unwrap_or(0));
        let times = if self.mended == 1 { "time" } else { "times" };
        Some(format!("put right {} {times}, {seconds} s ago the last: {last}", self.mended))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_say_what_they_are() {
        let list = serde_json::to_string(&List::new(vec![Route {
            prefix: "10.0.0.0/24".into(),
            r#type: "connected".into(),
            port: None,
        }]));
        assert_eq!(
            list.unwrap(),
            concat!(
                r#"{"apiVersion":"hopscope.dev/v1","kind":"RouteList","#,
                r#""items":[{"prefix":"10.0.0.0/24","type":"connected"}]}"#
            )
        );
        let object = Object::new(Version { version: "1".into() });
        let text = serde_json::to_string(&object).unwrap();
        assert_eq!(text, r#"{"apiVersion":"hopscope.dev/v1","kind":"Version","version":"1"}"#);
        assert_eq!(serde_json::from_str::<Object<Version>>(&text).unwrap(), object);
    }

    #[test]
    fn a_capture_may_be_asked_for_in_few_words() {
        let request: CaptureRequest = serde_json::from_str(r#"{"points":"allHops"}"#).unwrap();
        assert_eq!(request.points, Points::AllHops);
        let request: CaptureRequest =
            serde_json::from_str(r#"{"points":{"hops":["l3"]},"count":1}"#).unwrap();
        assert_eq!(request.points, Points::Hops(vec!["l3".into()]));
    }
}
