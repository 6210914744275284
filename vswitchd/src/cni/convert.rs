//! Results in every version of the specification, 0.1.0 to 1.1.0, both ways.
//!
//! 0.1.0 and 0.2.0 know one address a family (`ip4`, `ip6`), 0.3.0 to 0.4.0 mark each address with
//! its family, 1.0.0 drops the mark, 1.1.0 adds what interfaces and routes carry beyond name, MAC,
//! destination and gateway.

use serde::Deserialize;
use serde_json::{Map, Value, json};
use shim::fault::{Code, Fault};
use shim::version;
use smoltcp::wire::IpCidr;

use super::types::{CniResult, Dns, Ip, Route};

/// Which of the forms a version has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// 0.1.0, 0.2.0.
    OneAddressAFamily,
    /// 0.3.0, 0.3.1, 0.4.0.
    MarkedAddresses,
    /// 1.0.0.
    Plain,
    /// 1.1.0.
    Full,
}

fn form(cni_version: &str) -> Result<Form, Fault> {
    match cni_version {
        "0.1.0" | "0.2.0" => Ok(Form::OneAddressAFamily),
        "0.3.0" | "0.3.1" | "0.4.0" => Ok(Form::MarkedAddresses),
        "1.0.0" => Ok(Form::Plain),
        "1.1.0" => Ok(Form::Full),
        other => Err(unsupported(other)),
    }
}

/// The error for a version that is not understood.
#[must_use]
pub fn unsupported(cni_version: &str) -> Fault {
    let supported = version::SUPPORTED.join(", ");
    Fault::new(Code::IncompatibleVersion, format!("cniVersion {cni_version:?} is not supported"))
        .with_details(format!("supported versions: {supported}"))
}

/// A result as the runtime asked for it, `cniVersion` included.
///
/// # Errors
/// Code 1 for an unknown version; for 0.1.0 and 0.2.0 also when there is no address at all.
pub fn to_version(result: &CniResult, cni_version: &str) -> Result<Value, Fault> {
    let form = form(cni_version)?;
    let mut object = Map::new();
    object.insert("cniVersion".into(), cni_version.into());
    if form == Form::OneAddressAFamily {
        for (key, v6) in [("ip4", false), ("ip6", true)] {
            if let Some(value) = one_family(result, v6) {
                object.insert(key.into(), value);
            }
        }
        if object.len() == 1 {
            let msg = format!("a result without addresses has no form in version {cni_version}");
            return Err(Fault::new(Code::IncompatibleVersion, msg));
        }
        if !result.dns.is_empty() {
            object.insert("dns".into(), value(&result.dns)?);
        }
        return Ok(object.into());
    }
    if let Value::Object(all) = value(&reduced(result, form))? {
        object.extend(all);
    }
    if form == Form::MarkedAddresses
        && let Some(Value::Array(ips)) = object.get_mut("ips")
    {
        for (to, from) in ips.iter_mut().zip(&result.ips) {
            if let Value::Object(ip) = to {
                ip.insert("version".into(), if from.is_v6() { "6" } else { "4" }.into());
            }
        }
    }
    Ok(object.into())
}

fn value(from: &impl serde::Serialize) -> Result<Value, Fault> {
    serde_json::to_value(from).map_err(|error| Fault::new(Code::Internal, error.to_string()))
}

/// Without what only 1.1.0 knows.
fn reduced(result: &CniResult, form: Form) -> CniResult {
    let mut result = result.clone();
    if form == Form::Full {
        return result;
    }
    for interface in &mut result.interfaces {
        interface.mtu = None;
        interface.socket_path.clear();
        interface.pci_id.clear();
    }
    for route in &mut result.routes {
        *route = Route { dst: route.dst.clone(), gw: route.gw.clone(), ..Route::default() };
    }
    result
}

fn one_family(result: &CniResult, v6: bool) -> Option<Value> {
    let ip = result.ips.iter().find(|ip| ip.is_v6() == v6)?;
    let mut object = Map::new();
    object.insert("ip".into(), ip.address.clone().into());
    if !ip.gateway.is_empty() {
        object.insert("gateway".into(), ip.gateway.clone().into());
    }
    let routes = result.routes.iter().filter(|route| route.is_v6() == v6);
    let routes: Vec<Value> = routes
        .map(|route| match route.gw.as_str() {
            "" => json!({ "dst": route.dst }),
            gw => json!({ "dst": route.dst, "gw": gw }),
        })
        .collect();
    if !routes.is_empty() {
        object.insert("routes".into(), routes.into());
    }
    Some(object.into())
}

#[derive(Deserialize)]
struct OldResult {
    ip4: Option<OldIp>,
    ip6: Option<OldIp>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Deserialize)]
struct OldIp {
    ip: String,
    #[serde(default)]
    gateway: String,
    #[serde(default)]
    routes: Vec<Route>,
}

/// A `prevResult`. Its own `cniVersion` counts, else the configuration's.
///
/// # Errors
/// Code 1 for an unknown version, 6 for what is no result of that version.
pub fn from_version(previous: &Value, config_version: &str) -> Result<CniResult, Fault> {
    let own = previous.get("cniVersion").and_then(Value::as_str).unwrap_or(config_version);
    let undecodable = |error: serde_json::Error| {
        Fault::new(Code::Decoding, format!("prevResult is no result of version {own}"))
            .with_details(error.to_string())
    };
    let result = if form(own)? == Form::OneAddressAFamily {
        let old = OldResult::deserialize(previous).map_err(undecodable)?;
        let mut result = CniResult { dns: old.dns, ..CniResult::default() };
        for old in [old.ip4, old.ip6].into_iter().flatten() {
            result.ips.push(Ip { address: old.ip, gateway: old.gateway, interface: None });
            result.routes.extend(old.routes);
        }
        result
    } else {
        CniResult::deserialize(previous).map_err(undecodable)?
    };
    check(&result)?;
    Ok(result)
}

fn check(result: &CniResult) -> Result<(), Fault> {
    for (at, ip) in result.ips.iter().enumerate() {
        let key = format!("prevResult.ips[{at}]");
        if ip.address.parse::<IpCidr>().is_err() {
            let msg = format!("{key}.address: {:?} is no address with prefix length", ip.address);
            return Err(Fault::new(Code::Decoding, msg));
        }
        if ip.interface.is_some_and(|index| index >= result.interfaces.len()) {
            let msg = format!("{key}.interface points at none of prevResult.interfaces");
            return Err(Fault::new(Code::Decoding, msg));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::types::Interface;

    fn full() -> CniResult {
        let ip = |address: &str, gateway: &str| Ip {
            address: address.into(),
            gateway: gateway.into(),
            interface: Some(0),
        };
        let route = |dst: &str, gw: &str| Route {
            dst: dst.into(),
            gw: gw.into(),
            mtu: Some(1400),
            priority: Some(7),
            ..Route::default()
        };
        CniResult {
            interfaces: vec![Interface {
                name: "eth0".into(),
                mac: "02:48:0a:01:00:02".into(),
                mtu: Some(1450),
                sandbox: "/run/netns/a".into(),
                ..Interface::default()
            }],
            ips: vec![ip("10.1.0.2/24", "10.1.0.1"), ip("fd00::2/64", "fd00::1")],
            routes: vec![route("0.0.0.0/0", "10.1.0.1"), route("::/0", "")],
            dns: Dns { nameservers: vec!["10.96.0.10".into()], ..Dns::default() },
        }
    }

    #[test]
    fn each_version_has_its_own_form() {
        let old = json!({
            "ip4": {"ip": "10.1.0.2/24", "gateway": "10.1.0.1",
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]},
            "ip6": {"ip": "fd00::2/64", "gateway": "fd00::1", "routes": [{"dst": "::/0"}]},
            "dns": {"nameservers": ["10.96.0.10"]}});
        let plain = json!({
            "interfaces": [
                {"name": "eth0", "mac": "02:48:0a:01:00:02", "sandbox": "/run/netns/a"}],
            "ips": [
                {"address": "10.1.0.2/24", "gateway": "10.1.0.1", "interface": 0},
                {"address": "fd00::2/64", "gateway": "fd00::1", "interface": 0}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}, {"dst": "::/0"}],
            "dns": {"nameservers": ["10.96.0.10"]}});
        let mut marked = plain.clone();
        marked["ips"][0]["version"] = "4".into();
        marked["ips"][1]["version"] = "6".into();
        let mut newest = plain.clone();
        newest["interfaces"][0]["mtu"] = 1450.into();
        for route in 0..2 {
            newest["routes"][route]["mtu"] = 1400.into();
            newest["routes"][route]["priority"] = 7.into();
        }
        for cni_version in version::SUPPORTED {
            let mut expected = match cni_version {
                "0.1.0" | "0.2.0" => old.clone(),
                "1.0.0" => plain.clone(),
                "1.1.0" => newest.clone(),
                _ => marked.clone(),
            };
            expected["cniVersion"] = cni_version.into();
            assert_eq!(to_version(&full(), cni_version).unwrap(), expected, "{cni_version}");
        }
    }

    #[test]
    fn there_and_back_loses_only_what_the_version_has_no_place_for() {
        for cni_version in version::SUPPORTED {
            let there = to_version(&full(), cni_version).unwrap();
            let back = from_version(&there, "9.9.9").unwrap();
            assert_eq!(to_version(&back, cni_version).unwrap(), there, "{cni_version}");
            assert_eq!(back.ips.len(), 2);
            assert_eq!(back.routes.len(), 2);
        }
        let newest = to_version(&full(), "1.1.0").unwrap();
        assert_eq!(from_version(&newest, "1.1.0").unwrap(), full());
    }

    #[test]
    fn what_is_no_result_is_told() {
        let code =
            |value: Value, cni_version: &str| from_version(&value, cni_version).unwrap_err().code;
        assert_eq!(code(json!({}), "2.0.0"), Code::IncompatibleVersion);
        assert_eq!(code(json!({"cniVersion": "0.9.0"}), "1.0.0"), Code::IncompatibleVersion);
        assert_eq!(code(json!({"ips": 7}), "1.0.0"), Code::Decoding);
        assert_eq!(code(json!({"ips": [{"address": "10.0.0.1"}]}), "1.0.0"), Code::Decoding);
        let dangling = json!({"ips": [{"address": "10.0.0.1/8", "interface": 0}]});
        assert_eq!(code(dangling, "1.0.0"), Code::Decoding);
        let negative = json!({"ips": [{"address": "10.0.0.1/8", "interface": -1}]});
        assert_eq!(code(negative, "1.0.0"), Code::Decoding);
        let unsupported = to_version(&full(), "0.5.0").unwrap_err();
        assert_eq!(unsupported.code, Code::IncompatibleVersion);
        assert!(unsupported.msg.contains("0.5.0") && unsupported.details.contains("0.3.1"));
    }
}
