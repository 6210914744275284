//! Spans of time, as settings and `hopctl` take them: `500ms`, `10s`, `5m`, `1h`, or a plain number
//! of seconds.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::word::word;

/// A span of time in whole milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

/// The units, the largest first: name and milliseconds.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Parses a span, which may be 0.
///
/// # Errors
/// A clause that says how spans are written.
pub fn parse(text: &str) -> Result<Span, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit = if unit.is_empty() { "s" } else { unit };
    let millis = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, millis)| *millis);
    let span = millis.zip(number.parse::<u64>().ok());
    match span.and_then(|(millis, number)| number.checked_mul(millis)) {
        Some(millis) => Ok(Span(Duration::from_millis(millis))),
        None => Err("a time is a number with ms, s, m or h, such as 500ms, 10s, 5m".to_owned()),
    }
}

impl Span {
    /// In nanoseconds; the largest number for what has more.
    #[must_use]
    pub fn nanos(self) -> u64 {
        u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Span {
    /// In the largest unit that it is a whole number of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let whole = |(_, unit): &&(&str, u64)| {
            millis.is_multiple_of(u128::from(*unit)) && millis >= u128::from(*unit)
        };
        let (name, unit) = UNITS.iter().find(whole).copied().unwrap_or(("s", 1_000));
        write!(f, "{}{name}", millis / u128::from(unit))
    }
}

impl Serialize for Span {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let word = word(from)?;
        parse(&word).map_err(|why| serde::de::Error::custom(format!("{why}, not `{word}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_as_they_are_shown() {
        for (text, millis) in
            [("0s", 0), ("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("25h", 90_000_000)]
        {
            let span = Span(Duration::from_millis(millis));
            assert_eq!((parse(text), span.to_string()), (Ok(span), text.to_owned()));
        }
        assert_eq!(parse("90").unwrap().to_string(), "90s");
        assert_eq!(parse("120s").unwrap().to_string(), "2m");
        for text in ["", "s", "1.5s", "-1s", "1d", "99999999999999999h"] {
            assert!(parse(text).unwrap_err().contains("such as 500ms"), "{text}");
        }
    }
}
