//! Sizes in bytes, as settings give them: `256Mi`, `1Gi`, `65536Ki`, or a plain number.

use serde::Deserialize;

use super::word::word;

/// Bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

/// Parses a size.
///
/// # Errors
/// A clause that says what may be.
pub fn parse(word: &str) -> Result<Size, String> {
    let digits = word.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = word.get(digits.len()..).unwrap_or("");
    let shift = match unit {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        _ => return Err(form(word)),
    };
    let number: u64 = digits.parse().map_err(|_not_a_number| form(word))?;
    number.checked_mul(1 << shift).map(Size).ok_or_else(|| form(word))
}

fn form(word: &str) -> String {
    format!("a number of bytes with Ki, Mi or Gi, such as 256Mi, not `{word}`")
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parse(&word(from)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_two() {
        for (word, bytes) in
            [("0", 0), ("4096", 4_096), ("8Ki", 8 << 10), ("256Mi", 256 << 20), ("1Gi", 1 << 30)]
        {
            assert_eq!(parse(word), Ok(Size(bytes)));
        }
        for word in ["", "Mi", "12MB", "-1", "1.5Gi", "99999999999Gi", "1 Mi"] {
            assert!(parse(word).unwrap_err().contains("such as 256Mi"), "{word}");
        }
    }
}
