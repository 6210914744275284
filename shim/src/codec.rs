//! How messages travel: a length (u32, little endian, bytes) and so many bytes of JSON.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::proto::MESSAGE_MAX;

/// Bytes of the length before each message.
pub const PREFIX: usize = 4;

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

/// A message as bytes, its length before it.
///
/// # Errors
/// InvalidData when it is longer than [`MESSAGE_MAX`].
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    let body = serde_json::to_vec(message).map_err(|error| invalid(error.to_string()))?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if length > MESSAGE_MAX {
        return Err(invalid(format!("message of {length} bytes, at most {MESSAGE_MAX} allowed")));
    }
    let mut bytes = length.to_le_bytes().to_vec();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

/// The length that a prefix announces, in bytes.
///
/// # Errors
/// InvalidData when it is more than [`MESSAGE_MAX`].
pub fn body_length(prefix: [u8; PREFIX]) -> io::Result<usize> {
    let length = u32::from_le_bytes(prefix);
    match usize::try_from(length) {
        Ok(bytes) if length <= MESSAGE_MAX => Ok(bytes),
        _ => Err(invalid(format!("message of {length} bytes, at most {MESSAGE_MAX} allowed"))),
    }
}

/// A message from the bytes behind its length.
///
/// # Errors
/// InvalidData when it is no such message.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> io::Result<T> {
    serde_json::from_slice(body).map_err(|error| invalid(error.to_string()))
}

/// Writes one message.
///
/// # Errors
/// The writer's, and those of [`encode`].
pub fn write<T: Serialize>(to: &mut impl Write, message: &T) -> io::Result<()> {
    to.write_all(&encode(message)?)?;
    to.flush()
}

/// Reads one message.
///
/// # Errors
/// The reader's, and those of [`body_length`] and [`decode`].
pub fn read<T: DeserializeOwned>(from: &mut impl Read) -> io::Result<T> {
    let mut prefix = [0_u8; PREFIX];
    from.read_exact(&mut prefix)?;
    let mut body = vec![0_u8; body_length(prefix)?];
    from.read_exact(&mut body)?;
    decode(&body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::Response;

    fn response(stdout: String) -> Response {
        Response { stdout, stderr: "notice".into(), exit: 3 }
    }

    #[test]
    fn a_message_survives_the_way() {
        let mut bytes = Vec::new();
        write(&mut bytes, &response("{}".into())).unwrap();
        assert_eq!(bytes.len(), PREFIX + body_length(bytes[..4].try_into().unwrap()).unwrap());
        assert_eq!(read::<Response>(&mut &bytes[..]).unwrap(), response("{}".into()));
    }

    #[test]
    fn too_long_is_refused_on_both_sides() {
        let long = response("x".repeat(usize::try_from(MESSAGE_MAX).unwrap()));
        assert!(encode(&long).unwrap_err().to_string().contains("at most 1048576"));
        let prefix = (MESSAGE_MAX + 1).to_le_bytes();
        assert!(read::<Response>(&mut &prefix[..]).unwrap_err().to_string().contains("1048577"));
    }

    #[test]
    fn every_cut_is_an_error() {
        let bytes = encode(&response("{}".into())).unwrap();
        for length in 0..bytes.len() {
            assert!(read::<Response>(&mut &bytes[..length]).is_err(), "cut at {length}");
        }
    }
}
