//! Values that a file may give as a number or as a word, such as `1500` and `auto`.

use serde::{Deserialize, Deserializer};

/// The value as it would stand in a flag.
///
/// # Errors
/// When it is neither.
pub(super) fn word<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(u64),
        Word(String),
    }
    Ok(match Form::deserialize(from)? {
        Form::Number(number) => number.to_string(),
        Form::Word(word) => word,
    })
}
