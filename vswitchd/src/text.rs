//! Addresses and L4 ports in files and messages, as text: smoltcp's types and the core's have no
//! serde, and smoltcp's parsers take leading zeros, which others read as octal (CVE-2021-29923).

use std::net::IpAddr;
use std::str::FromStr;

use smoltcp::wire::{IpAddress, IpCidr};

/// Parses an address.
///
/// # Errors
/// A clause that quotes it, and says what it should be.
pub(crate) fn address(text: &str) -> Result<IpAddress, String> {
    let padded = |part: &str| {
        part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit())
    };
    match IpAddr::from_str(text) {
        Ok(address) => Ok(address.into()),
        Err(_) if text.split('.').count() == 4 && text.split('.').any(padded) => Err(format!(
            "{} has leading zeros, which some take for octal; write it without them",
            quoted(text)
        )),
        Err(_) => Err(format!("{} is no IP address", quoted(text))),
    }
}

/// What somebody else wrote, in a sentence: without control characters, and of bounded length.
pub(crate) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(QUOTED_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(QUOTED_MAX).is_some() {
        shown.push_str("..");
    }
    format!("`{shown}`")
}

/// Characters of a quotation.
const QUOTED_MAX: usize = 64;

/// Parses a prefix and clears what lies behind it; a bare address is a prefix of one.
pub(crate) fn prefix(text: &str) -> Option<IpCidr> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (IpAddr::from_str(address).ok()?, Some(length(bits)?)),
        None => (IpAddr::from_str(text).ok()?, None),
    };
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.unwrap_or(width);
    if bits > width {
        return None;
    }
    let host = u32::from(width - bits);
    let masked = match address {
        IpAddr::V4(v4) => {
            IpAddr::V4((u32::from(v4) & u32::MAX.checked_shl(host).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            IpAddr::V6((u128::from(v6) & u128::MAX.checked_shl(host).unwrap_or(0)).into())
        }
    };
    Some(IpCidr::new(masked.into(), bits))
}

/// A prefix's length in bits, as plain digits.
fn length(text: &str) -> Option<u8> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| plain)
}

/// The prefix of one address.
pub(crate) fn single(address: IpAddress) -> IpCidr {
    match address {
        IpAddress::Ipv4(_) => IpCidr::new(address, 32),
        IpAddress::Ipv6(_) => IpCidr::new(address, 128),
    }
}

/// Whether two ranges have an address in common.
pub(crate) fn overlap(one: &IpCidr, other: &IpCidr) -> bool {
    one.contains_subnet(other) || other.contains_subnet(one)
}

/// A list of what can be written and read as text.
pub(crate) mod list {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a list of strings.
    ///
    /// # Errors
    /// The serialiser's.
    pub(crate) fn serialize<T: Display, S: Serializer>(
        list: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(ToString::to_string))
    }

    /// Reads a list of strings.
    ///
    /// # Errors
    /// When one of them is none.
    pub(crate) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        let read = |text: &String| {
            text.parse().map_err(|_none| D::Error::custom(format!("{text:?} is no address")))
        };
        Vec::<String>::deserialize(from)?.iter().map(read).collect()
    }
}

/// A MAC with colons.
pub(crate) mod mac {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use smoltcp::wire::EthernetAddress;

    /// Writes a MAC.
    ///
    /// # Errors
    /// The serialiser's.
    pub(crate) fn serialize<S: Serializer>(
        mac: &EthernetAddress,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&crate::cni::mac::text(*mac))
    }

    /// Reads a MAC.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<EthernetAddress, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|()| D::Error::custom(format!("{text:?} is no MAC")))
    }
}

/// Routes: a prefix each, and the gateway if it is not the family's own.
pub(crate) mod routes {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use smoltcp::wire::{IpAddress, IpCidr};

    type Route = (IpCidr, Option<IpAddress>);

    /// Writes pairs of strings.
    ///
    /// # Errors
    /// The serialiser's.
    pub(crate) fn serialize<S: Serializer>(routes: &[Route], to: S) -> Result<S::Ok, S::Error> {
        let text = |(to, by): &Route| (to.to_string(), by.map(|gateway| gateway.to_string()));
        to.collect_seq(routes.iter().map(text))
    }

    /// Reads pairs of strings.
    ///
    /// # Errors
    /// When one of them is no prefix or address.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Route>, D::Error> {
        let none = |text: &str| D::Error::custom(format!("{text:?} is no prefix or address"));
        let read = |(to, by): &(String, Option<String>)| {
            let gateway = by.as_deref().map(|by| by.parse().map_err(|()| none(by))).transpose()?;
            Ok((to.parse().map_err(|()| none(to))?, gateway))
        };
        Vec::<(String, Option<String>)>::deserialize(from)?.iter().map(read).collect()
    }
}

/// Ranges of L4 ports: `30000-32767` each.
pub(crate) mod l4_ports {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use stack::PortRange;

    /// Writes a list of strings.
    ///
    /// # Errors
    /// The serialiser's.
    pub(crate) fn serialize<S: Serializer>(ranges: &[PortRange], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(ranges.iter().map(|range| format!("{}-{}", range.first, range.last)))
    }

    /// Reads a list of strings.
    ///
    /// # Errors
    /// When one of them is no range.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<PortRange>, D::Error> {
        let read = |text: &String| {
            let range = text.split_once('-').and_then(|(first, last)| {
                Some(PortRange { first: first.parse().ok()?, last: last.parse().ok()? })
            });
            range.ok_or_else(|| D::Error::custom(format!("{text:?} is no range of ports")))
        };
        Vec::<String>::deserialize(from)?.iter().map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_one_way_to_be_read() {
        assert_eq!(address("10.0.0.1").unwrap(), IpAddress::v4(10, 0, 0, 1));
        assert_eq!(address("fd00::10").unwrap().to_string(), "fd00::10");
        for padded in ["010.0.0.1", "10.00.0.1", "10.0.0.01"] {
            assert!(address(padded).unwrap_err().contains("octal"), "{padded}");
        }
        for none in ["", "10.0.0", "10.0.0.256", "10.0.0.1/32", " 10.0.0.1", "fe80::1%eth0", "web"]
        {
            assert_eq!(address(none).unwrap_err(), format!("`{none}` is no IP address"));
        }
    }

    #[test]
    fn a_quotation_is_harmless_and_short() {
        assert_eq!(quoted("web"), "`web`");
        assert_eq!(quoted("a\u{1b}[31m\n"), "`a\\u{1b}[31m\\n`");
        assert_eq!(quoted(&"x".repeat(64)), format!("`{}`", "x".repeat(64)));
        assert_eq!(quoted(&"x".repeat(65)), format!("`{}..`", "x".repeat(64)));
    }

    #[test]
    fn a_prefix_is_cleared_behind_its_length() {
        for (text, shown) in [
            ("10.244.1.7/24", "10.244.1.0/24"),
            ("10.244.1.7", "10.244.1.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("fd00::1/64", "fd00::/64"),
            ("fd00::1", "fd00::1/128"),
        ] {
            assert_eq!(prefix(text).unwrap().to_string(), shown);
        }
        for none in ["", "10.0.0.0/33", "10.0.0.0/+8", "10.0.0.0/08", "10.0.0.0/", "10.0.00.0/8"] {
            assert_eq!(prefix(none), None, "{none}");
        }
    }
}
