//! What a request says, checked: the network configuration, CNI_ARGS, capabilities (SEC-20 to
//! SEC-24).
//!
//! [`Call`] is what every verb needs; [`Wanted`] is what only ADD needs, so that a DEL is never
//! refused for a key it does not look at. Keys that are not known are the runtime's or a later
//! version's, and are ignored.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use shim::environment::{Environment, Verb, is_identifier};
use shim::fault::{Code, Fault};
use shim::proto::Request;
use shim::version;
use smoltcp::wire::IpAddress;

use super::attachment::{Key, Pod};
use super::convert;
use super::host_port::{self, HostPort};
use super::types::{CniResult, Dns, DnsCapability, ValidAttachment};
use crate::node::LinkKind;

type Object = Map<String, Value>;

/// A request, checked as far as every verb needs.
#[derive(Clone, Debug)]
pub struct Call {
    /// The environment.
    pub environment: Environment,
    /// Version of the configuration.
    pub cni_version: String,
    /// Name of the network.
    pub network: String,
    config: Object,
}

/// Where something was asked for, for errors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The key, such as `runtimeConfig.ips`.
    pub key: &'static str,
    /// The value as given.
    pub value: String,
    /// The error's code.
    pub code: Code,
}

impl Source {
    /// The refusal: key, value, and a clause that says why.
    #[must_use]
    pub fn refuse(&self, why: impl std::fmt::Display) -> Fault {
        Fault::new(self.code, format!("{}: {:?} {why}", self.key, self.value))
    }
}

/// An address somebody asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedAddress {
    /// The address.
    pub address: IpAddress,
    /// Prefix length, if one was given.
    pub prefix: Option<u8>,
    /// Where it comes from.
    pub source: Source,
}

/// What an ADD shall make.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// MTU in bytes, if not the daemon's.
    pub mtu: Option<u16>,
    /// TAP or veth, if not the daemon's.
    pub kind: Option<LinkKind>,
    /// Addresses, one a family at most.
    pub addresses: Vec<WantedAddress>,
    /// The MAC.
    pub mac: Option<Source>,
    /// The pod.
    pub pod: Option<Pod>,
    /// Ports of the node that shall lead to it.
    pub host_ports: Vec<HostPort>,
    /// Name resolution.
    pub dns: Dns,
    /// The result of the plugins before.
    pub previous: Option<CniResult>,
}

/// The version for an error about this request, however broken it is.
#[must_use]
pub fn error_version(stdin: &str) -> String {
    let config: Object = serde_json::from_str(stdin).unwrap_or_default();
    match config.get("cniVersion") {
        None if !config.is_empty() => version::UNSPECIFIED.to_owned(),
        Some(Value::String(text)) if version::is_supported(text) => text.clone(),
        None | Some(_) => version::LATEST.to_owned(),
    }
}

fn invalid(msg: impl Into<String>) -> Fault {
    Fault::new(Code::InvalidConfig, msg)
}

/// A key's value; absent and null are the same.
fn field<T: DeserializeOwned>(object: &Object, place: &str, key: &str) -> Result<Option<T>, Fault> {
    match object.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => T::deserialize(value)
            .map(Some)
            .map_err(|error| invalid(format!("{place}{key}: {value} is not valid: {error}"))),
    }
}

impl Call {
    /// Reads a request.
    ///
    /// # Errors
    /// Codes 1, 4, 6 and 7 of the specification.
    pub fn read(request: &Request) -> Result<Self, Fault> {
        let environment = Environment::read(&request.environment)?;
        let config: Object = serde_json::from_str(&request.stdin).map_err(|error| {
            Fault::new(Code::Decoding, "the network configuration is no JSON object")
                .with_details(error.to_string())
        })?;
        let cni_version = match config.get("cniVersion") {
            None => version::UNSPECIFIED.to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => {
                return Err(Fault::new(
                    Code::Decoding,
                    format!("cniVersion: {other} is no string"),
                ));
            }
        };
        if !version::is_supported(&cni_version) {
            return Err(convert::unsupported(&cni_version));
        }
        let since = match environment.verb {
            Verb::Check => "0.4.0",
            Verb::Gc | Verb::Status => "1.1.0",
            Verb::Add | Verb::Del | Verb::Version => version::UNSPECIFIED,
        };
        let rank = |wanted: &str| version::SUPPORTED.iter().position(|known| *known == wanted);
        if rank(&cni_version) < rank(since) {
            let verb = environment.verb.name();
            let msg = format!("{verb} exists since version {since}, cniVersion is {cni_version}");
            return Err(Fault::new(Code::IncompatibleVersion, msg));
        }
        let network = match config.get("name") {
            None | Some(Value::Null) => return Err(invalid("name: the network's name is missing")),
            Some(Value::String(name)) if is_identifier(name) => name.clone(),
            Some(other) => {
                return Err(invalid(format!(
                    "name: {other} is no network name; it begins with a letter or digit and goes \
                     on with letters, digits, '_', '.', '-'"
                )));
            }
        };
        Ok(Self { environment, cni_version, network, config })
    }

    /// The attachment it is about.
    #[must_use]
    pub fn key(&self) -> Key {
        let Environment { container_id, ifname, .. } = self.environment.clone();
        Key { container_id, ifname }
    }

    /// What ADD shall make.
    ///
    /// # Errors
    /// Codes 2, 4, 6 and 7.
    pub fn wanted(&self) -> Result<Wanted, Fault> {
        let args = Args::read(&self.environment.args)?;
        check_ipam(&self.config)?;
        let runtime: Object = field(&self.config, "", "runtimeConfig")?.unwrap_or_default();
        refuse_unsupported(&runtime)?;
        let nested: Object = field(&self.config, "", "args")?.unwrap_or_default();
        let cni: Object = field(&nested, "args.", "cni")?.unwrap_or_default();
        Ok(Wanted {
            mtu: field(&self.config, "", "mtu")?,
            kind: field(&self.config, "", "portKind")?,
            addresses: wanted_addresses(&runtime, &cni, &args)?,
            mac: wanted_mac(&runtime, &cni, &args)?,
            pod: args.pod()?,
            host_ports: host_port::read(
                field(&runtime, "runtimeConfig.", "portMappings")?.unwrap_or_default(),
            )?,
            dns: wanted_dns(&self.config, &runtime)?,
            previous: self.previous()?,
        })
    }

    /// The result of the plugins before, or of the ADD.
    ///
    /// # Errors
    /// Codes 1 and 6.
    pub fn previous(&self) -> Result<Option<CniResult>, Fault> {
        match self.config.get("prevResult") {
            None | Some(Value::Null) => Ok(None),
            Some(value) => convert::from_version(value, &self.cni_version).map(Some),
        }
    }

    /// The attachments GC shall keep; `None` when the runtime does not say (CNI-GC-2).
    ///
    /// # Errors
    /// Code 7 for a list that is none: then nothing may be removed.
    pub fn valid_attachments(&self) -> Result<Option<Vec<ValidAttachment>>, Fault> {
        match field(&self.config, "", "cni.dev/valid-attachments")? {
            Some(list) => Ok(Some(list)),
            // What libcni wrote before the key was settled, and still writes beside it.
            None => field(&self.config, "", "cni.dev/attachments"),
        }
    }
}

fn check_ipam(config: &Object) -> Result<(), Fault> {
    let Some(ipam) = field::<Object>(config, "", "ipam")? else { return Ok(()) };
    for (key, value) in &ipam {
        match (key.as_str(), value.as_str()) {
            ("type", Some("hopscope" | "")) => {}
            ("type", _) => {
                return Err(invalid(format!(
                    "ipam.type: {value} is not supported: vswitchd gives addresses itself, out of \
                     the Node's podCIDRs; remove the key ipam"
                )));
            }
            _ => {
                let msg = format!("ipam.{key}: {value} is not supported");
                return Err(Fault::new(Code::UnsupportedField, msg));
            }
        }
    }
    Ok(())
}

/// Capabilities that change what a pod may do must not be passed over in silence.
fn refuse_unsupported(runtime: &Object) -> Result<(), Fault> {
    for key in ["ipRanges", "bandwidth"] {
        let empty = match runtime.get(key) {
            None | Some(Value::Null) => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(object)) => object.is_empty(),
            Some(Value::Bool(_) | Value::Number(_) | Value::String(_)) => false,
        };
        if !empty {
            let value = runtime.get(key).unwrap_or(&Value::Null);
            let msg = format!("runtimeConfig.{key}: {value} is not supported");
            return Err(Fault::new(Code::UnsupportedField, msg));
        }
    }
    Ok(())
}

/// The first that names any counts: the capability, `args.cni`, CNI_ARGS.
fn wanted_addresses(
    runtime: &Object,
    cni: &Object,
    args: &Args,
) -> Result<Vec<WantedAddress>, Fault> {
    let capability: Vec<String> = field(runtime, "runtimeConfig.", "ips")?.unwrap_or_default();
    let nested: Vec<String> = field(cni, "args.cni.", "ips")?.unwrap_or_default();
    let given = args.get("IP").unwrap_or_default();
    let given = given.split(',').map(str::to_owned).filter(|text| !text.is_empty()).collect();
    let sources: [(&'static str, Code, Vec<String>); 3] = [
        ("runtimeConfig.ips", Code::InvalidConfig, capability),
        ("args.cni.ips", Code::InvalidConfig, nested),
        ("CNI_ARGS IP", Code::InvalidEnvironment, given),
    ];
    let Some((key, code, list)) = sources.into_iter().find(|(_, _, list)| !list.is_empty()) else {
        return Ok(Vec::new());
    };
    let mut wanted: Vec<WantedAddress> = Vec::new();
    for value in list {
        let source = Source { key, value, code };
        let (address, prefix) = parse_address(&source)?;
        if wanted.iter().any(|other| other.address.version() == address.version()) {
            return Err(source.refuse("is the second of its family; a pod has one"));
        }
        wanted.push(WantedAddress { address, prefix, source });
    }
    Ok(wanted)
}

fn parse_address(source: &Source) -> Result<(IpAddress, Option<u8>), Fault> {
    let (address, prefix) = match source.value.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (source.value.as_str(), None),
    };
    let address: std::net::IpAddr =
        address.parse().map_err(|_none| source.refuse("is no address such as 10.1.0.7"))?;
    let prefix = match prefix.map(str::parse::<u8>).transpose() {
        Ok(prefix) => prefix,
        Err(_none) => return Err(source.refuse("has no prefix length behind its '/'")),
    };
    Ok((address.into(), prefix))
}

fn wanted_mac(runtime: &Object, cni: &Object, args: &Args) -> Result<Option<Source>, Fault> {
    let capability: Option<String> = field(runtime, "runtimeConfig.", "mac")?;
    let nested: Option<String> = field(cni, "args.cni.", "mac")?;
    let sources = [
        ("runtimeConfig.mac", Code::InvalidConfig, capability),
        ("args.cni.mac", Code::InvalidConfig, nested),
        ("CNI_ARGS MAC", Code::InvalidEnvironment, args.get("MAC").map(str::to_owned)),
    ];
    Ok(sources.into_iter().find_map(|(key, code, value)| {
        let value = value.filter(|text| !text.is_empty())?;
        Some(Source { key, value, code })
    }))
}

/// The configuration's, where the capability says nothing else.
fn wanted_dns(config: &Object, runtime: &Object) -> Result<Dns, Fault> {
    let mut dns: Dns = field(config, "", "dns")?.unwrap_or_default();
    let capability: DnsCapability = field(runtime, "runtimeConfig.", "dns")?.unwrap_or_default();
    for (to, from) in [
        (&mut dns.nameservers, capability.servers),
        (&mut dns.search, capability.searches),
        (&mut dns.options, capability.options),
    ] {
        if !from.is_empty() {
            *to = from;
        }
    }
    Ok(dns)
}

/// CNI_ARGS: `KEY=VALUE;KEY=VALUE`.
#[derive(Clone, Debug, Default)]
struct Args(BTreeMap<String, String>);

const KNOWN: [&str; 7] = [
    "IgnoreUnknown",
    "IP",
    "MAC",
    "K8S_POD_NAMESPACE",
    "K8S_POD_NAME",
    "K8S_POD_UID",
    "K8S_POD_INFRA_CONTAINER_ID",
];

impl Args {
    fn read(text: &str) -> Result<Self, Fault> {
        let wrong = |msg: String| Fault::new(Code::InvalidEnvironment, msg);
        let mut pairs = BTreeMap::new();
        for pair in text.split(';').filter(|_pair| !text.is_empty()) {
            match pair.split_once('=') {
                Some((key, value)) if !value.contains('=') && !key.is_empty() => {
                    pairs.insert(key.to_owned(), value.to_owned());
                }
                _ => return Err(wrong(format!("CNI_ARGS: {pair:?} is no pair KEY=VALUE"))),
            }
        }
        let ignore = match pairs.get("IgnoreUnknown").map(|value| value.to_ascii_lowercase()) {
            None => false,
            Some(value) if value == "1" || value == "true" => true,
            Some(value) if value == "0" || value == "false" => false,
            Some(value) => {
                return Err(wrong(format!("CNI_ARGS IgnoreUnknown: {value:?} is neither 1 nor 0")));
            }
        };
        let unknown: Vec<&str> =
            pairs.keys().map(String::as_str).filter(|key| !KNOWN.contains(key)).collect();
        if !ignore && !unknown.is_empty() {
            let unknown = unknown.join(", ");
            let msg =
                format!("CNI_ARGS: unknown keys {unknown:?}; IgnoreUnknown=1 passes over them");
            return Err(wrong(msg));
        }
        Ok(Self(pairs))
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn pod(&self) -> Result<Option<Pod>, Fault> {
        let read = |key: &'static str, longest: usize| -> Result<String, Fault> {
            let text = self.get(key).unwrap_or_default();
            let safe = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
            if text.len() <= longest && text.chars().all(safe) && !text.starts_with(['-', '.']) {
                return Ok(text.to_owned());
            }
            let msg = format!("CNI_ARGS {key}: {text:?} is no name of a Kubernetes object");
            Err(Fault::new(Code::InvalidEnvironment, msg))
        };
        let pod = Pod {
            namespace: read("K8S_POD_NAMESPACE", 63)?,
            name: read("K8S_POD_NAME", 253)?,
            uid: read("K8S_POD_UID", 128)?,
        };
        let named = !pod.namespace.is_empty() && !pod.name.is_empty();
        Ok(named.then_some(pod))
    }
}
