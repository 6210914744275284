//! The command line, with its help.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use recording::breakpoint::Breakpoint;

use crate::settings::span::{self, Span};

/// Heading of the options that every command has.
const EVERYWHERE: &str = "Options of every command";

/// See every hop of the pod network on this node.
#[derive(Debug, Parser)]
#[command(
    name = "hopctl",
    version,
    max_term_width = 100,
    disable_help_subcommand = true,
    after_help = "Examples:
  hopctl status --wait                         until pods can be wired
  hopctl get ports                             what is attached
  hopctl trace demo/client demo/web --tcp 80   what would happen to this packet, hop by hop
  hopctl capture demo/web --hop all -w f.pcapng tcp port 80
  hopctl capture --since 30s --dropped-only    what got lost before anybody asked
  hopctl explain drop 4711                     why, with the tables as they were

Exit codes: 0 yes, 1 a negative answer (not ready, trace dropped, replay diverged, with
replay --with a connection differs or not all was compared, check failed, no such walk), 2 usage,
3 no daemon."
)]
pub struct Args {
    /// Directory of the daemon's sockets
    #[arg(
        long,
        global = true,
        help_heading = EVERYWHERE,
        value_name = "DIR",
        env = "HOPSCOPE_RUN_DIR",
        default_value = "/run/hopscope"
    )]
    pub run_dir: PathBuf,

    /// How to print
    #[arg(
        short,
        long,
        global = true,
        help_heading = EVERYWHERE,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub output: Format,

    /// Namespace of pods that are named without one; lists show its pods only
    #[arg(short, long, global = true, help_heading = EVERYWHERE, value_name = "NS")]
    pub namespace: Option<String>,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Columns for people
    #[default]
    Table,
    /// More columns
    Wide,
    /// JSON objects with apiVersion and kind
    Json,
    /// The same as YAML
    Yaml,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show how the node is; exit code 1 while it is not ready
    Status(Status),
    /// Compare the node with what the switch needs, and print what mends it
    #[command(after_help = "Examples:
  hopctl check
  hopctl check -o json | jq '.checks[] | select(.ok | not)'

Works without a daemon too: then it says why one could not start.")]
    Check,
    /// List ports, routes, connections, Services, drops and what else the node has
    Get(Get),
    /// Show what would happen to a packet, hop by hop; nothing is sent
    Trace(Trace),
    /// Capture packets, at the ports or after every hop
    Capture(Capture),
    /// Write what the switch has been doing into a file that replays anywhere
    Record(Record),
    /// Say why a packet was dropped or went where it went, with the tables as they were then
    Explain(Explain),
    /// Run a recording again, verify it, and look at any moment of it; needs no daemon
    Replay(Replay),
    /// Show pods and hops among Wireshark's own interfaces
    #[command(subcommand)]
    Extcap(ExtcapCommand),
    /// Work on the node itself
    #[command(subcommand)]
    Node(NodeCommand),
    /// Print the versions of hopctl and of the daemon
    #[command(after_help = "Examples:
  hopctl version
  hopctl version -o json")]
    Version,
}

/// `hopctl status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hopctl status
  hopctl status --wait --timeout 30s && echo ready
  hopctl status -o json | jq .traffic")]
pub struct Status {
    /// Wait until the node is ready, with or without a daemon yet
    #[arg(long)]
    pub wait: bool,

    /// How long to wait
    #[arg(
        long,
        value_name = "T",
        default_value = "60s",
        value_parser = duration,
        requires = "wait"
    )]
    pub timeout: Duration,
}

/// `hopctl get`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hopctl get ports -o wide
  hopctl get drops demo/web             only entries with this word in a field
  hopctl get counters --sort-by received
  hopctl -n demo get leases -o json
  hopctl get conntrack --service demo/web --protocol tcp
  hopctl get conntrack --pod demo/client --limit 20
  hopctl get conntrack --state syn_sent --port 80       who waits for an answer
  hopctl get conntrack --sort-by expiresSeconds --limit 20
  hopctl get conntrack --address 10.96.0.10 -o json
  hopctl -n demo get services
  hopctl get backends demo/web          who answers for it, and what they carry
  hopctl get recordings -o wide         what was kept around an event, and what happened")]
pub struct Get {
    /// What to list
    #[arg(value_enum, value_name = "WHAT")]
    pub what: What,

    /// Only entries with this word in one of their fields
    #[arg(value_name = "WORD")]
    pub word: Option<String>,

    /// Field to sort by, as JSON names it; numbers with the largest first
    #[arg(long, value_name = "FIELD")]
    pub sort_by: Option<String>,

    /// Which connections.
    #[command(flatten)]
    pub connections: Connections,
}

/// `hopctl get conntrack`.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Options of conntrack")]
pub struct Connections {
    /// Only connections to backends of this Service: NS/NAME, or NS/NAME:PORT by the port's name
    #[arg(long, value_name = "NS/NAME")]
    pub service: Option<String>,

    /// Only connections of this pod, whoever began them
    #[arg(long, value_name = "NS/POD")]
    pub pod: Option<String>,

    /// Only connections in which this address stands, before translation or behind it
    #[arg(long, value_name = "IP")]
    pub address: Option<IpAddr>,

    /// Only connections of this protocol
    #[arg(long, value_name = "tcp|udp|sctp|icmp", value_parser = ["tcp", "udp", "sctp", "icmp"])]
    #[arg(hide_possible_values = true)]
    pub protocol: Option<String>,

    /// Only connections in this state, such as established, syn_sent, unreplied
    #[arg(long, value_name = "STATE")]
    pub state: Option<String>,

    /// Only connections in which this port stands, before translation or behind it
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,

    /// The first so many, by protocol, source and destination, or by --sort-by expiresSeconds
    /// [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
}

/// What to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum What {
    /// Ports of pods and of the node
    #[value(aliases = ["port", "po"])]
    Ports,
    /// MACs and where they are
    Fdb,
    /// Prefixes and where they lead
    #[value(alias = "route")]
    Routes,
    /// Addresses and their MACs
    #[value(aliases = ["neighbor", "neigh"])]
    Neighbors,
    /// Dropped frames by port and reason
    #[value(alias = "drop")]
    Drops,
    /// What became of the frames, by port
    #[value(alias = "counter")]
    Counters,
    /// Connections, with what each is translated to
    #[value(aliases = ["connections", "connection", "ct"])]
    Conntrack,
    /// Services: where they are asked for, how a backend is chosen
    #[value(aliases = ["service", "svc"])]
    Services,
    /// Who answers for Services, and what they carry
    #[value(alias = "backend")]
    Backends,
    /// Addresses given to pods
    #[value(alias = "lease")]
    Leases,
    /// Recordings of the seconds around an event, the newest first
    #[value(aliases = ["recording", "rec"])]
    Recordings,
    /// Rules that keep recordings, and what they have seen
    #[value(aliases = ["trigger", "rules"])]
    Triggers,
}

/// `hopctl trace`.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("carries").args(["tcp", "udp", "icmp"]),
    group = clap::ArgGroup::new("family").args(["four", "six"]),
    after_help = "Examples:
  hopctl trace demo/client demo/web --tcp 80
  hopctl trace demo/client svc/demo/web --tcp 80
  hopctl trace demo/client 192.0.2.7 --udp 53
  hopctl -n demo trace client web -6           an echo request by IPv6
  hopctl trace node demo/web
  hopctl trace 198.51.100.9 demo/web --tcp 80  from outside of the node
  hopctl trace demo/client node --size 1501    would it fit, and who would say that it does not
  hopctl trace demo/client node --hop-limit 1  as traceroute asks

FROM and TO are NS/POD (or POD with -n), node, or an address; TO is svc/NS/NAME as well."
)]
pub struct Trace {
    /// Who sends
    pub from: String,

    /// Whom to
    pub to: String,

    /// A TCP SYN to this port
    #[arg(long, value_name = "PORT")]
    pub tcp: Option<u16>,

    /// A UDP datagram to this port
    #[arg(long, value_name = "PORT")]
    pub udp: Option<u16>,

    /// An echo request (the default)
    #[arg(long)]
    pub icmp: bool,

    /// By IPv4
    #[arg(short = '4', id = "four")]
    pub four: bool,

    /// By IPv6
    #[arg(short = '6', id = "six")]
    pub six: bool,

    /// Hop limit, or TTL [default: 64]
    #[arg(long, value_name = "N")]
    pub hop_limit: Option<u8>,

    /// Bytes of the IP packet, as an MTU counts them [default: a small one]
    #[arg(long, value_name = "BYTES")]
    pub size: Option<u16>,

    /// Without DF: a router may fragment it (IPv4)
    #[arg(long, conflicts_with = "six")]
    pub may_fragment: bool,
}

/// `hopctl capture`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hopctl capture                               a line for each packet on the node
  hopctl capture demo/web tcp port 80
  hopctl capture demo/web --hop all -w f.pcapng     every hop, for Wireshark
  hopctl capture node -w - icmp | tshark -r -
  sudo hopctl capture --wireshark demo/web     in a Wireshark that runs as who called sudo
  ssh root@NODE hopctl capture -w - demo/web | wireshark -k -i -     on another machine
  hopctl capture port/host -c 10 --duration 30s
  hopctl capture --dropped-only                what gets lost, and why
  hopctl capture --since 30s --dropped-only    what got lost before anybody asked
  hopctl capture --since 5m --duration 10s -w then.pcapng demo/web

A packet is kept with all its hops if its form at any hop matches the filter. Times are UTC.
With --since it ends at now, and frames hold what was recorded of them: 256 bytes of most.
Put -- before a filter that begins with a dash.")]
pub struct Capture {
    /// Where: NS/POD, node (all ports) or port/NAME; then a pcap filter, see pcap-filter(7)
    #[arg(value_name = "WHERE] [FILTER")]
    pub words: Vec<String>,

    /// Write pcapng to this file; - for stdout
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// Open Wireshark, or this program in its place, and show packets there as they come
    #[arg(
        long,
        value_name = "PROGRAM",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "wireshark",
        conflicts_with = "write"
    )]
    pub wireshark: Option<PathBuf>,

    /// End after so many packets
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,

    /// Show packets since so long ago, such as 30s, 5m, by a replay of the journal
    #[arg(long, value_name = "T", value_parser = duration)]
    pub since: Option<Duration>,

    /// End after this time, such as 500ms, 10s, 5m
    #[arg(long, value_name = "T", value_parser = duration)]
    pub duration: Option<Duration>,

    /// Keep so many bytes of each frame; 0 for all
    #[arg(short, long, value_name = "N", default_value_t = 0)]
    pub snaplen: u32,

    /// Show the frame after the hops of these stages, or after all of them
    #[arg(long, value_name = "NAME,..|all", value_delimiter = ',')]
    pub hop: Vec<String>,

    /// Only packets that were dropped
    #[arg(long)]
    pub dropped_only: bool,
}

/// `hopctl record`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hopctl record -w bug.pcapng                  all that can be replayed
  hopctl record -w bug.pcapng --since 1m       the last minute
  hopctl record -w bug.pcapng --redact         without what pods said

The switch has always been recording. The file opens in Wireshark; hopctl replay runs it again.")]
pub struct Record {
    /// The file; - for stdout
    #[arg(short, long, value_name = "FILE")]
    pub write: PathBuf,

    /// Begin so long ago, such as 30s, 5m; without it at the oldest moment that can be replayed
    #[arg(long, value_name = "T", value_parser = duration)]
    pub since: Option<Duration>,

    /// Zero what lies behind L4 headers, what the switch's own hosts received excepted
    #[arg(long)]
    pub redact: bool,
}

/// `hopctl explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hopctl explain drop                          the newest ten
  hopctl explain drop 4711                     why, and what the tables said
  hopctl explain packet 4711                   of any packet
  hopctl explain connection 10.244.1.5:43210 10.96.0.10:53/udp
  hopctl explain connection 4711               the one that this walk is of
  hopctl explain --file bug.pcapng drop 4711   out of a recording; needs no daemon

IDs are the numbers of walks, as captures print them: walk 4711. A connection is named by its ends
as well, those of hopctl get conntrack or what they become; ports and protocol may be left out.
The switch has always been recording, as far back as hopctl status says.
Exit code 1: no such walk or connection is held.")]
pub struct Explain {
    /// What the ID is of
    #[arg(value_enum, value_name = "drop|packet|connection", hide_possible_values = true)]
    pub subject: Subject,

    /// The walk's number, or a connection's two ends; without one the newest drops are listed
    #[arg(value_name = "ID")]
    pub id: Vec<String>,

    /// Look into this recording, not into the daemon's journal
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// What can be explained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Subject {
    /// A packet that was dropped
    #[value(alias = "drops")]
    Drop,
    /// Any packet
    #[value(alias = "walk")]
    Packet,
    /// A connection
    Connection,
}

/// `hopctl replay`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  hopctl replay bug.pcapng                     is it what happened? what was it?
  hopctl replay bug.pcapng --break drop        up to the first drop, with its hops
  hopctl replay bug.pcapng --break 'drop=NoRoute and port=pod/demo/web'
  hopctl replay bug.pcapng --until 12:30:05.25 get routes
  hopctl replay bug.pcapng -w hops.pcapng      every hop, for Wireshark
  hopctl replay bug.pcapng --with DIR          which connections differ with these Services
  hopctl replay dump.pcapng --with DIR         a plain capture through these manifests

Moments: 1.5s or 2m after the first record, 12:30:05.25 or 2026-01-31T12:30:05Z in UTC, record=17.
Breakpoints: drop, drop=REASON, hop=STAGE, address=IP, port=NAME, walk=N, record=N, and several of
them joined by and, or.
With --with the Services of a recording, and its own changes of them, give way to those of DIR;
ports, routes and connections that were open stay as recorded.
Exit code 1: this switch does not do what was recorded, or with --with a connection
differs or not all was compared.")]
pub struct Replay {
    /// The recording
    pub file: PathBuf,

    /// Stop behind what happened up to this moment
    #[arg(long, value_name = "T", value_parser = crate::replay::time::Until::read)]
    pub until: Option<crate::replay::time::Until>,

    /// Stop behind the first record for which this holds
    #[arg(long = "break", value_name = "EXPR", value_parser = Breakpoint::read)]
    pub breakpoint: Option<Breakpoint>,

    /// Write a capture of what was replayed to this file; - for stdout
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,

    /// What the capture shows: hops of these stages, of all, or the ports' own view
    #[arg(
        long,
        value_name = "NAME,..|all|ports",
        value_delimiter = ',',
        default_value = "all",
        requires = "write"
    )]
    pub hop: Vec<String>,

    /// Compare a recording with what these Services make of it; feed a plain capture through them
    #[arg(long, value_name = "DIR")]
    pub with: Option<PathBuf>,

    /// Which Node of the manifests it is [default: the only one; the recording's; this host's]
    #[arg(long, value_name = "NAME", requires = "with")]
    pub node_name: Option<String>,

    /// What to look at where it stops
    #[command(subcommand)]
    pub then: Option<Then>,
}

/// What to look at where a replay stops.
#[derive(Debug, Subcommand)]
pub enum Then {
    /// List what was there at that moment
    Get(Get),
}

/// `hopctl extcap`.
#[derive(Debug, Subcommand)]
pub enum ExtcapCommand {
    /// Link hopctl where your Wireshark looks for interfaces of other programs
    #[command(after_help = "Examples:
  hopctl extcap install
  hopctl extcap install --dir /usr/lib/x86_64-linux-gnu/wireshark/extcap     for all users
  tshark -D | grep hopscope
  tshark -i hopscope:demo/web -f 'tcp port 80'

To be undone by rm of what it has linked. Wireshark's user must be able to open the daemon's
socket; HOPSCOPE_RUN_DIR names a daemon's other run-dir to Wireshark as well.")]
    Install(ExtcapInstall),
}

/// `hopctl extcap install`.
#[derive(Debug, clap::Args)]
pub struct ExtcapInstall {
    /// The directory, in place of those of Wireshark's releases in your home
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// `hopctl node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Remove all that a daemon made on this node: interfaces, routes, rules, settings
    #[command(after_help = "Examples:
  hopctl node cleanup
  hopctl --run-dir /run/other node cleanup --state-dir /var/lib/other --host-port hop1

Name what the daemon was started with. Refused while a daemon runs. Pods lose their network.")]
    Cleanup(Cleanup),
}

/// `hopctl node cleanup`.
#[derive(Clone, Debug, clap::Args)]
pub struct Cleanup {
    /// The daemon's run-dir, from the option of all commands.
    #[arg(skip)]
    pub run_dir: PathBuf,

    /// Directory of the daemon's attachments and leases
    #[arg(
        long,
        value_name = "DIR",
        env = "HOPSCOPE_STATE_DIR",
        default_value = "/var/lib/hopscope"
    )]
    pub state_dir: PathBuf,

    /// Name of the node's own port
    #[arg(long, value_name = "NAME", env = "HOPSCOPE_HOST_PORT", default_value = "hop0")]
    pub host_port: String,
}

/// A time span that is not 0: a number with ms, s, m or h; seconds without.
///
/// # Errors
/// A clause that says how spans are written.
pub fn duration(text: &str) -> Result<Duration, String> {
    let Span(duration) = span::parse(text)?;
    if duration.is_zero() { Err("a time of 0 is none".to_owned()) } else { Ok(duration) }
}
