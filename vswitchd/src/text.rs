//! Addresses and L4 ports in files and messages, as text: smoltcp's types and the core's have no
//! serde.

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
