//! Ranges of addresses, as settings give them: `10.96.0.0/16`.

use serde::Deserialize;
use serde::de::Error;
use smoltcp::wire::IpCidr;

use crate::text;

/// A range; what lies behind its length is cleared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix(pub IpCidr);

/// Parses a range.
///
/// # Errors
/// A clause that says what may be.
pub fn parse(word: &str) -> Result<Prefix, String> {
    let range = text::prefix(word).map(Prefix);
    range.ok_or_else(|| format!("a range such as 10.96.0.0/16, not `{word}`"))
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parse(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_range_is_quoted() {
        assert_eq!(parse("10.96.1.0/12").unwrap().0.to_string(), "10.96.0.0/12");
        for word in ["", "10.96.0.0/33", "010.96.0.0/12", "services"] {
            assert!(parse(word).unwrap_err().ends_with(&format!("not `{word}`")), "{word}");
        }
    }
}
