//! Ranges of L4 ports, as settings give them: `30000-32767`.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Serialize};
use stack::PortRange;

use super::SettingsError;

/// From the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports(pub PortRange);

/// The last port that may be in a range: Linux refuses 65535 in a rule (fib_rule_port_range_valid).
const LAST: u16 = 65_534;

/// The range that was given to a key, or the default.
///
/// # Errors
/// [`SettingsError::Value`] for what is no range.
pub(super) fn of(
    key: &'static str,
    given: Option<String>,
    default: PortRange,
) -> Result<Ports, SettingsError> {
    let parsed = given.map(|word| parse(&word)).transpose();
    let ports = parsed.map_err(|why| SettingsError::Value { key, why })?;
    Ok(ports.unwrap_or(Ports(default)))
}

fn parse(word: &str) -> Result<Ports, String> {
    let number = |text: &str| -> Option<u16> {
        text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit()))
    };
    let ends = word.split_once('-').and_then(|(first, last)| Some((number(first)?, number(last)?)));
    match ends {
        Some((first @ 1.., last @ ..=LAST)) if first <= last => {
            Ok(Ports(PortRange { first, last }))
        }
        Some(_) | None => {
            Err(format!("ports from 1 to {LAST}, the first and the last, not `{word}`"))
        }
    }
}

/// Whether what takes ports of the node's addresses leaves the others theirs.
///
/// # Errors
/// [`SettingsError::Value`] of the first that does not.
pub(super) fn check(snat: Ports, nodes: Ports, vxlan: u16) -> Result<(), SettingsError> {
    let refused = |key, why| Err(SettingsError::Value { key, why });
    if snat.0.first < 1_024 {
        let why = format!("{snat} holds ports of the node's own services; begin at 1024 or above");
        return refused("snat-ports", why);
    }
    if snat.0.first <= nodes.0.last && nodes.0.first <= snat.0.last {
        let why = format!("{nodes} overlaps snat-ports, which are {snat}; set one of them apart");
        return refused("node-port-range", why);
    }
    for (key, range) in [("snat-ports", snat), ("node-port-range", nodes)] {
        if range.0.contains(vxlan) {
            let why = format!("{range} holds vxlan-port, which is {vxlan}; set one of them apart");
            return refused(key, why);
        }
    }
    Ok(())
}

/// Whether the port for the node's health is nobody else's, and one the kernel can divert.
///
/// # Errors
/// [`SettingsError::Value`] when it is not.
pub(super) fn check_healthz(port: u16, snat: Ports, nodes: Ports) -> Result<(), SettingsError> {
    let refused = |why| Err(SettingsError::Value { key: "healthz-port", why });
    if port > LAST {
        return refused(format!("{port} is above {LAST}, the last port that rules can name"));
    }
    for (key, range) in [("snat-ports", snat), ("node-port-range", nodes)] {
        if range.0.contains(port) {
            return refused(format!("{port} is one of {key}, which are {range}; choose another"));
        }
    }
    Ok(())
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0.first, self.0.last)
    }
}

impl Serialize for Ports {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_two_ends() {
        for word in ["30000-32767", "1-65534", "80-80"] {
            assert_eq!(parse(word).unwrap().to_string(), word);
        }
        for word in ["", "80", "0-80", "80-79", "1-65535", "+1-2", "1-70000", "a-b", "1-2-3"] {
            assert!(parse(word).unwrap_err().contains("1 to 65534"), "{word}");
        }
    }

    #[test]
    fn ranges_are_apart() {
        let checked = |snat: &str, nodes: &str, vxlan| {
            let checked = check(parse(snat).unwrap(), parse(nodes).unwrap(), vxlan);
            checked.map_err(|error| error.to_string())
        };
        assert_eq!(checked("61000-65534", "30000-32767", 4_789), Ok(()));
        assert_eq!(checked("32768-40000", "30000-32767", 8_472), Ok(()));
        for (snat, nodes, vxlan, said) in [
            ("1023-2000", "30000-32767", 4_789, "`snat-ports`: 1023-2000 holds"),
            ("32767-40000", "30000-32767", 4_789, "`node-port-range`: 30000-32767 overlaps"),
            ("61000-65534", "1-61000", 65_535, "`node-port-range`: 1-61000 overlaps"),
            ("61000-65534", "4000-5000", 4_789, "`node-port-range`: 4000-5000 holds vxlan-port"),
            ("4000-5000", "30000-32767", 4_789, "`snat-ports`: 4000-5000 holds vxlan-port"),
        ] {
            let error = checked(snat, nodes, vxlan).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
