//! Addresses in files, as text.

/// A list of what can be written and read as text.
pub(super) mod list {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes a list of strings.
    ///
    /// # Errors
    /// The serialiser's.
    pub(in crate::cni) fn serialize<T: Display, S: Serializer>(
        list: &[T],
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(list.iter().map(ToString::to_string))
    }

    /// Reads a list of strings.
    ///
    /// # Errors
    /// When one of them is none.
    pub(in crate::cni) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Vec<T>, D::Error> {
        let read = |text: &String| {
            text.parse().map_err(|_none| D::Error::custom(format!("{text:?} is no address")))
        };
        Vec::<String>::deserialize(from)?.iter().map(read).collect()
    }
}

/// A MAC with colons.
pub(super) mod mac {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};
    use smoltcp::wire::EthernetAddress;

    /// Writes a MAC.
    ///
    /// # Errors
    /// The serialiser's.
    pub(in crate::cni) fn serialize<S: Serializer>(
        mac: &EthernetAddress,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(&crate::cni::mac::text(*mac))
    }

    /// Reads a MAC.
    ///
    /// # Errors
    /// When it is none.
    pub(in crate::cni) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<EthernetAddress, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map_err(|()| D::Error::custom(format!("{text:?} is no MAC")))
    }
}
