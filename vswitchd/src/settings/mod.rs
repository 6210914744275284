//! Settings: what was given (flag, environment, file), and what it means.
//!
//! [`Given`] is the one list: its fields are the flags, the `HOPSCOPE_*` variables and the keys of
//! the file. The flag wins over the environment, the environment over the file; an unknown key is
//! an error, in the environment too ([`environment`]).

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use smoltcp::wire::IpCidr;
use stack::NodeConfig;

use crate::node::LinkKind;
use crate::recorder::layout::{SIZE_MAX, SIZE_MIN};
use crate::text;
use crate::triggers::rule::{self, Rule};

pub mod ports;
pub mod prefix;
pub mod size;
pub mod source;
pub mod span;

use ports::Ports;
use prefix::Prefix;
use size::Size;
use source::Source;

pub mod environment;
mod word;

use word::word;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Settings as given. Every field may be absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, clap::Args)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Given {
    /// Name of this node, as in its Node object [default: the host's name]
    #[arg(long, env = "HOPSCOPE_NODE_NAME", value_name = "NAME")]
    pub node_name: Option<String>,
    /// Directory of manifests (YAML): desired state without an API server
    #[arg(long, env = "HOPSCOPE_MANIFESTS", value_name = "DIR")]
    pub manifests: Option<PathBuf>,
    /// File that leads to the API server: desired state is its objects [default: in a pod of the
    /// cluster, that pod's service account]
    #[arg(long, env = "HOPSCOPE_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Whether this process is in a pod, which knows its API server. Seen, not set.
    #[serde(skip)]
    #[arg(skip)]
    pub in_cluster: bool,
    /// Directory for sockets and the journal [default: /run/hopscope]
    #[arg(long, env = "HOPSCOPE_RUN_DIR", value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Directory for attachments and leases [default: /var/lib/hopscope]
    #[arg(long, env = "HOPSCOPE_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Interface that leads to the other nodes and the outside [default: auto, that of the default
    /// route]
    #[arg(long, env = "HOPSCOPE_UPLINK", value_name = "INTERFACE")]
    pub uplink: Option<String>,
    /// Name of the node's own port [default: hop0]
    #[arg(long, env = "HOPSCOPE_HOST_PORT", value_name = "INTERFACE")]
    pub host_port: Option<String>,
    /// What a pod's interface is [default: tap]
    #[arg(long, env = "HOPSCOPE_PORT_KIND", value_name = "KIND", value_parser = link_kind)]
    pub port_kind: Option<LinkKind>,
    /// Largest IP packet of pods in bytes [default: auto, that of the uplink]
    #[arg(long, env = "HOPSCOPE_MTU", value_name = "BYTES", value_parser = mtu)]
    pub mtu: Option<Mtu>,
    /// UDP port of the overlay [default: 4789]
    #[arg(long, env = "HOPSCOPE_VXLAN_PORT", value_name = "PORT")]
    pub vxlan_port: Option<u16>,
    /// The node's own addresses [default: auto, of its Node object, else of the uplink]
    #[arg(long, env = "HOPSCOPE_NODE_ADDRESSES", value_name = "ADDRESS", value_delimiter = ',')]
    pub node_addresses: Option<Vec<IpAddr>>,
    /// Ranges of Services beside those of ServiceCIDR objects: what is asked for there and does not
    /// exist is dropped [default: none]
    #[arg(long, env = "HOPSCOPE_SERVICE_CIDRS", value_name = "RANGE", value_delimiter = ',')]
    #[arg(value_parser = prefix::parse)]
    pub service_cidrs: Option<Vec<Prefix>>,
    /// Destinations that pods reach with their own addresses, beside the pods of all nodes
    /// [default: none]
    #[arg(long, env = "HOPSCOPE_NON_MASQUERADE_CIDRS", value_name = "RANGE")]
    #[arg(value_delimiter = ',', value_parser = prefix::parse)]
    pub non_masquerade_cidrs: Option<Vec<Prefix>>,
    /// Ports of the node's addresses that pods' connections leave by [default: 61000-65534]
    #[arg(long, env = "HOPSCOPE_SNAT_PORTS", value_name = "PORTS")]
    pub snat_ports: Option<String>,
    /// Ports of the node's addresses that NodePort Services may have [default: 30000-32767]
    #[arg(long, env = "HOPSCOPE_NODE_PORT_RANGE", value_name = "PORTS")]
    pub node_port_range: Option<String>,
    /// TCP port of the node's addresses that says whether the node serves Services; 0 for none, as
    /// beside kube-proxy [default: 10256]
    #[arg(long, env = "HOPSCOPE_HEALTHZ_PORT", value_name = "PORT")]
    pub healthz_port: Option<u16>,
    /// Bytes of the journal, with Ki, Mi or Gi; 0 records nothing, for benches only [default:
    /// 256Mi]
    #[arg(long, env = "HOPSCOPE_JOURNAL_SIZE", value_name = "SIZE", value_parser = size::parse)]
    pub journal_size: Option<Size>,
    /// Directory of the journal, on tmpfs [default: run-dir, or one of /dev/shm when that is on a
    /// disk]
    #[arg(long, env = "HOPSCOPE_JOURNAL_DIR", value_name = "DIR")]
    pub journal_dir: Option<PathBuf>,
    /// Record whole frames, not only their first 256 bytes [default: false]
    #[arg(long, env = "HOPSCOPE_JOURNAL_PAYLOAD", value_name = "BOOL")]
    pub journal_payload: Option<bool>,
    /// Rules that keep a recording of the seconds around an event. A list: of the file alone.
    #[arg(skip)]
    pub triggers: Option<Vec<Rule>>,
    /// Bytes of all recordings that rules keep, with Ki, Mi or Gi; the oldest go first [default:
    /// 256Mi]
    #[arg(
        long,
        env = "HOPSCOPE_RECORDINGS_BUDGET",
        value_name = "SIZE",
        value_parser = size::parse
    )]
    pub recordings_budget: Option<Size>,
    /// Refuse to start on the run-dir of a running vswitchd, instead of taking over from it
    /// [default: false]
    #[arg(long, env = "HOPSCOPE_NO_TAKEOVER", value_name = "BOOL", num_args = 0..=1)]
    #[arg(default_missing_value = "true")]
    pub no_takeover: Option<bool>,
    /// How log lines look [default: text]
    #[arg(long, env = "HOPSCOPE_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// An MTU, or that of the uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mtu {
    /// The uplink's.
    #[default]
    Auto,
    /// So many bytes.
    Bytes(u16),
}

/// Smallest MTU: what IPv6 asks of every link (RFC 8200 section 5).
pub const MTU_MIN: u16 = 1_280;
/// Largest MTU: what fits the largest IP packet with its Ethernet header into a TAP's frame.
pub const MTU_MAX: u16 = 65_521;

impl Serialize for Mtu {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Auto => to.serialize_str("auto"),
            Self::Bytes(bytes) => to.serialize_u16(*bytes),
        }
    }
}

impl<'de> Deserialize<'de> for Mtu {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = word(from)?;
        mtu(&word).map_err(|why| serde::de::Error::custom(format!("`mtu`: {why}")))
    }
}

fn mtu(word: &str) -> Result<Mtu, String> {
    if word == "auto" {
        return Ok(Mtu::Auto);
    }
    match word.parse::<u16>() {
        Ok(bytes) if (MTU_MIN..=MTU_MAX).contains(&bytes) => Ok(Mtu::Bytes(bytes)),
        _ => Err(format!("mtu is `auto` or {MTU_MIN} to {MTU_MAX} bytes, not `{word}`")),
    }
}

fn link_kind(word: &str) -> Result<LinkKind, String> {
    match word {
        "tap" => Ok(LinkKind::Tap),
        "veth" => Ok(LinkKind::Veth),
        _ => Err(format!("`tap` or `veth`, not `{word}`")),
    }
}

/// Settings as they hold; the parent hands them to its workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name of this node.
    pub node_name: String,
    /// Where objects come from.
    pub source: Source,
    /// Directory for sockets.
    pub run_dir: PathBuf,
    /// Directory for attachments and leases.
    pub state_dir: PathBuf,
    /// The uplink, if named.
    pub uplink: Option<String>,
    /// Name of the node's own port.
    pub host_port: String,
    /// What a pod's interface is.
    pub port_kind: LinkKind,
    /// Largest IP packet of pods.
    pub mtu: Mtu,
    /// UDP port of the overlay.
    pub vxlan_port: u16,
    /// The node's own addresses, if given.
    pub node_addresses: Option<Vec<IpAddr>>,
    /// Ranges of Services beside those of objects.
    #[serde(with = "text::list")]
    pub service_cidrs: Vec<IpCidr>,
    /// Destinations that pods reach with their own addresses, beside pods.
    #[serde(with = "text::list")]
    pub non_masquerade_cidrs: Vec<IpCidr>,
    /// Ports of the node's addresses that masquerade uses.
    pub snat_ports: Ports,
    /// Ports of the node's addresses that NodePort Services may have.
    pub node_port_range: Ports,
    /// TCP port of the node's addresses for the node's health; 0 for none.
    pub healthz_port: u16,
    /// Bytes of the journal, about; 0: nothing is recorded.
    pub journal_size: u64,
    /// Directory of the journal, if named.
    pub journal_dir: Option<PathBuf>,
    /// Whether whole frames are recorded.
    pub journal_payload: bool,
    /// Rules that keep recordings.
    pub triggers: Vec<Rule>,
    /// Bytes of all these recordings.
    pub recordings_budget: u64,
    /// Whether a start on the directories of a running vswitchd is refused.
    pub no_takeover: bool,
    /// How log lines look.
    pub log_format: LogFormat,
}

/// What is wrong with the settings: a sentence that names the key and the mend.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("--config {path}: cannot be read; name a file that exists")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file says something that is no setting.
    #[error("--config {path}: {message}")]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What and where, with line and column.
        message: String,
    },
    /// A setting that has no default is missing.
    #[error("`{key}` is not set: {mend}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What to do.
        mend: &'static str,
    },
    /// A variable looks like a setting and is none.
    #[error("{name} in the environment is no setting; unset it, or mend its name: {known}")]
    Variable {
        /// The variable.
        name: String,
        /// Those that are settings.
        known: String,
    },
    /// A value cannot be.
    #[error("`{key}`: {why}")]
    Value {
        /// The key.
        key: &'static str,
        /// Why not, and what may be.
        why: String,
    },
}

impl Given {
    /// Reads a file of settings.
    ///
    /// # Errors
    /// [`SettingsError::Unreadable`] and [`SettingsError::Invalid`].
    pub fn read(path: &Path) -> Result<Self, SettingsError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text)
            .map_err(|message| SettingsError::Invalid { path: path.to_owned(), message })
    }

    /// Parses the text of a file; an empty one gives no settings.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let given: Option<Self> =
            serde_norway::from_str(text).map_err(|error| error.to_string())?;
        Ok(given.unwrap_or_default())
    }

    /// These settings, and where they are silent, those of `file`.
    #[must_use]
    pub fn or(self, file: Self) -> Self {
        Self {
            node_name: self.node_name.or(file.node_name),
            manifests: self.manifests.or(file.manifests),
            kubeconfig: self.kubeconfig.or(file.kubeconfig),
            in_cluster: self.in_cluster || file.in_cluster,
            run_dir: self.run_dir.or(file.run_dir),
            state_dir: self.state_dir.or(file.state_dir),
            uplink: self.uplink.or(file.uplink),
            host_port: self.host_port.or(file.host_port),
            port_kind: self.port_kind.or(file.port_kind),
            mtu: self.mtu.or(file.mtu),
            vxlan_port: self.vxlan_port.or(file.vxlan_port),
            node_addresses: self.node_addresses.or(file.node_addresses),
            service_cidrs: self.service_cidrs.or(file.service_cidrs),
            non_masquerade_cidrs: self.non_masquerade_cidrs.or(file.non_masquerade_cidrs),
            snat_ports: self.snat_ports.or(file.snat_ports),
            node_port_range: self.node_port_range.or(file.node_port_range),
            healthz_port: self.healthz_port.or(file.healthz_port),
            journal_size: self.journal_size.or(file.journal_size),
            journal_dir: self.journal_dir.or(file.journal_dir),
            journal_payload: self.journal_payload.or(file.journal_payload),
            triggers: self.triggers.or(file.triggers),
            recordings_budget: self.recordings_budget.or(file.recordings_budget),
            no_takeover: self.no_takeover.or(file.no_takeover),
            log_format: self.log_format.or(file.log_format),
        }
    }

    /// Fills in the defaults and checks each value.
    ///
    /// # Errors
    /// [`SettingsError::Missing`] and [`SettingsError::Value`].
    pub fn resolve(self, host_name: &str) -> Result<Settings, SettingsError> {
        let source = source::of(self.manifests, self.kubeconfig, self.in_cluster)?;
        let host_port = self.host_port.unwrap_or_else(|| "hop0".to_owned());
        interface_name("host-port", &host_port)?;
        let uplink = self.uplink.filter(|name| name != "auto");
        if let Some(name) = &uplink {
            interface_name("uplink", name)?;
        }
        let journal_size = journal_size(self.journal_size)?;
        let triggers = triggers(self.triggers.unwrap_or_default(), journal_size)?;
        let default = NodeConfig::default();
        let vxlan_port = self.vxlan_port.unwrap_or(default.vxlan_port);
        let snat_ports = ports::of("snat-ports", self.snat_ports, default.snat_ports)?;
        let node_port_range =
            ports::of("node-port-range", self.node_port_range, default.node_ports)?;
        ports::check(snat_ports, node_port_range, vxlan_port)?;
        let healthz_port = self.healthz_port.unwrap_or(HEALTHZ_PORT);
        ports::check_healthz(healthz_port, snat_ports, node_port_range)?;
        Ok(Settings {
            node_name: self.node_name.unwrap_or_else(|| host_name.to_owned()),
            source,
            run_dir: self.run_dir.unwrap_or_else(|| PathBuf::from("/run/hopscope")),
            state_dir: self.state_dir.unwrap_or_else(|| PathBuf::from("/var/lib/hopscope")),
            uplink,
            host_port,
            port_kind: self.port_kind.unwrap_or_default(),
            mtu: self.mtu.unwrap_or_default(),
            vxlan_port,
            node_addresses: self.node_addresses,
            service_cidrs: ranges(self.service_cidrs),
            non_masquerade_cidrs: ranges(self.non_masquerade_cidrs),
            snat_ports,
            node_port_range,
            healthz_port,
            journal_size,
            journal_dir: self.journal_dir,
            journal_payload: self.journal_payload.unwrap_or(false),
            triggers,
            recordings_budget: self.recordings_budget.map_or(RECORDINGS_BUDGET, |size| size.0),
            no_takeover: self.no_takeover.unwrap_or(false),
            log_format: self.log_format.unwrap_or_default(),
        })
    }
}

fn ranges(given: Option<Vec<Prefix>>) -> Vec<IpCidr> {
    given.unwrap_or_default().into_iter().map(|Prefix(range)| range).collect()
}

fn journal_size(given: Option<Size>) -> Result<u64, SettingsError> {
    let size = given.map_or(JOURNAL_SIZE, |Size(bytes)| bytes);
    if size == 0 || (SIZE_MIN..=SIZE_MAX).contains(&size) {
        return Ok(size);
    }
    let why = format!("{}Mi to {}Gi, or 0 for none", SIZE_MIN >> 20, SIZE_MAX >> 30);
    Err(SettingsError::Value { key: "journal-size", why })
}

fn triggers(rules: Vec<Rule>, journal_size: u64) -> Result<Vec<Rule>, SettingsError> {
    let key = "triggers";
    rule::check(&rules).map_err(|why| SettingsError::Value { key, why })?;
    if !rules.is_empty() && journal_size == 0 {
        let why = "recordings are made of the journal, and journal-size is 0: give it a size, or \
                   leave the rules out"
            .to_owned();
        return Err(SettingsError::Value { key, why });
    }
    Ok(rules)
}

/// Where kube-proxy says how it is, so where load balancers ask.
const HEALTHZ_PORT: u16 = 10_256;
/// Bytes of recordings that rules keep.
const RECORDINGS_BUDGET: u64 = 256 << 20;
/// Bytes of a journal: some seconds of a busy node, minutes of another.
const JOURNAL_SIZE: u64 = 256 << 20;

/// Linux's rule for interface names (`dev_valid_name`), and no `%`: that is a pattern.
fn interface_name(key: &'static str, name: &str) -> Result<(), SettingsError> {
    let odd = |c: char| "/:%".contains(c) || c.is_whitespace();
    if name.is_empty() || name.len() > 15 || name == "." || name == ".." || name.contains(odd) {
        let why = format!(
            "`{name}` is no interface name: 1 to 15 bytes without `/`, `:`, `%` and blanks"
        );
        return Err(SettingsError::Value { key, why });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flag_wins_over_the_file() {
        let flags = Given { mtu: Some(Mtu::Bytes(1_400)), ..Given::default() };
        let file = Given::parse("mtu: 9000\nmanifests: /m\nport-kind: veth\n").unwrap();
        let settings = flags.or(file).resolve("n1").unwrap();
        assert_eq!(settings.mtu, Mtu::Bytes(1_400));
        assert_eq!(settings.port_kind, LinkKind::Veth);
        assert_eq!(settings.node_name, "n1");
        assert_eq!(settings.host_port, "hop0");
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        let message = Given::parse("mtu: 1500\nmanifest: /m\n").unwrap_err();
        assert!(message.contains("manifest") && message.contains("line 2"), "{message}");
    }

    #[test]
    fn bad_values_say_what_may_be() {
        for (text, part) in [("mtu: 9", "1280"), ("mtu: big", "auto"), ("port-kind: tun", "veth")] {
            let message = Given::parse(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
        let given = || Given { manifests: Some("/m".into()), ..Given::default() };
        let long = Given { uplink: Some("x".repeat(16)), ..given() };
        assert!(long.resolve("n").unwrap_err().to_string().contains("`uplink`"));
        let pattern = Given { host_port: Some("hop%d".into()), ..given() };
        assert!(pattern.resolve("n").unwrap_err().to_string().contains("`host-port`: `hop%d`"));
    }

    #[test]
    fn a_journal_has_a_size_or_there_is_none() {
        let resolved = |text: &str| {
            let given = Given::parse(&format!("manifests: /m\n{text}")).unwrap();
            given.resolve("n").map(|settings| settings.journal_size)
        };
        assert_eq!(resolved("").unwrap(), 256 << 20);
        assert_eq!(resolved("journal-size: 1Gi").unwrap(), 1 << 30);
        assert_eq!(resolved("journal-size: 0").unwrap(), 0);
        assert!(resolved("journal-size: 1Mi").unwrap_err().to_string().contains("4Mi to 64Gi"));
        assert!(Given::parse("journal-size: 1MB").unwrap_err().contains("256Mi"));
    }

    #[test]
    fn ranges_and_ports_are_read() {
        let resolved = |text: &str| {
            let given = Given::parse(&format!("manifests: /m\n{text}"))?;
            given.resolve("n").map_err(|error| error.to_string())
        };
        let none = resolved("").unwrap();
        assert_eq!((none.service_cidrs.len(), none.non_masquerade_cidrs.len()), (0, 0));
        assert_eq!(none.snat_ports.to_string(), "61000-65534");
        assert_eq!(none.node_port_range.to_string(), "30000-32767");
        assert_eq!(none.healthz_port, 10_256);
        assert_eq!(resolved("healthz-port: 0").unwrap().healthz_port, 0);
        let set = resolved(
            "service-cidrs: [10.96.0.0/12, 'fd00:96::/112']\nnon-masquerade-cidrs: [10.0.0.0/8]\n\
             snat-ports: 40000-50000\nnode-port-range: 20000-22767\n",
        );
        let set = set.unwrap();
        let shown: Vec<String> = set.service_cidrs.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["10.96.0.0/12", "fd00:96::/112"]);
        assert_eq!(set.non_masquerade_cidrs, ["10.0.0.0/8".parse().unwrap()]);
        assert_eq!((set.snat_ports.0.first, set.snat_ports.0.last), (40_000, 50_000));
        assert_eq!((set.node_port_range.0.first, set.node_port_range.0.last), (20_000, 22_767));
        let handed: Settings = serde_json::from_str(&serde_json::to_string(&set).unwrap()).unwrap();
        assert_eq!(handed, set);
        for (text, part) in [
            ("service-cidrs: [10.96.0.0/99]", "service-cidrs: a range such as 10.96.0.0/16"),
            ("snat-ports: 61000", "`snat-ports`: ports from 1 to 65534"),
            ("node-port-range: 0-1", "`node-port-range`: ports from 1 to 65534"),
            ("snat-ports: 30000-65534", "`node-port-range`: 30000-32767 overlaps snat-ports"),
            ("healthz-port: 30001", "`healthz-port`: 30001 is one of node-port-range, which are"),
            ("healthz-port: 61000", "`healthz-port`: 61000 is one of snat-ports"),
            ("healthz-port: 65535", "`healthz-port`: 65535 is above 65534"),
            ("vxlan-port: 30001", "`node-port-range`: 30000-32767 holds vxlan-port"),
        ] {
            let message = resolved(text).unwrap_err();
            assert!(message.contains(part), "{text}: {message}");
        }
    }

    #[test]
    fn rules_are_named_where_they_are_wrong() {
        let file = |text: &str| Given::parse(&format!("manifests: /m\n{text}"));
        let given = file("triggers:\n- on: rst\n  after: 3s\nrecordings-budget: 1Gi\n").unwrap();
        let settings = given.resolve("n").unwrap();
        let shown = settings.triggers[0].to_string();
        assert_eq!((shown.as_str(), settings.recordings_budget), ("rst", 1 << 30));
        let none = file("").unwrap().resolve("n").unwrap();
        assert_eq!((none.triggers.len(), none.recordings_budget), (0, 256 << 20));
        let message = file("triggers:\n- on: rst\n- on: drop raeson=Bug\n").unwrap_err();
        assert!(message.starts_with("triggers[1]: `on: drop raeson=Bug`: takes"), "{message}");
        assert!(message.contains("reason=, class=") && message.contains("line 4"), "{message}");
        let refused = |text: &str| file(text).unwrap().resolve("n").unwrap_err().to_string();
        let twice = refused("triggers:\n- on: rst\n- on: rst\n");
        assert!(twice.starts_with("`triggers`: rule `on: rst` stands there twice"), "{twice}");
        let unrecorded = refused("journal-size: 0\ntriggers:\n- on: rst\n");
        assert!(unrecorded.contains("journal-size is 0"), "{unrecorded}");
    }

    #[test]
    fn nothing_given_names_what_is_missing() {
        let error = Given::parse("").unwrap().resolve("n1").unwrap_err();
        assert!(error.to_string().contains("`manifests`"), "{error}");
    }
}
