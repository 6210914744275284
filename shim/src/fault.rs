//! The specification's errors (CNI 1.1, "Error"): JSON on standard output, and an exit status.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::proto::Response;

/// What is wrong, by the specification's numbers; from 100 on they are the plugin's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u16)]
pub enum Code {
    /// The configuration's version is not understood.
    IncompatibleVersion = 1,
    /// A field of the configuration is not supported; the message names key and value.
    UnsupportedField = 2,
    /// The container is unknown: the runtime need not clean up.
    UnknownContainer = 3,
    /// Variables of the environment are missing or wrong; the message names them.
    InvalidEnvironment = 4,
    /// Reading or writing failed.
    Io = 5,
    /// Something could not be decoded.
    Decoding = 6,
    /// The network's configuration is wrong.
    InvalidConfig = 7,
    /// The network namespace is none, or the node's own (`ErrInvalidNetNS` of the reference
    /// skeleton).
    InvalidNetns = 8,
    /// Try again later.
    TryAgain = 11,
    /// STATUS: an ADD would fail.
    NotAvailable = 50,
    /// The container has an attachment of this interface name already.
    AlreadyAttached = 100,
    /// CHECK found a difference.
    CheckFailed = 101,
    /// The namespace has an interface of this name already.
    InterfaceExists = 102,
    /// No address is left.
    AddressesExhausted = 103,
    /// The switch refused the port.
    PortRefused = 104,
    /// The kernel refused.
    Kernel = 105,
    /// GC could not remove everything.
    Incomplete = 106,
    /// A bug.
    Internal = 999,
}

/// An error without its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Its number.
    pub code: Code,
    /// One sentence that names the field.
    pub msg: String,
    /// More, or empty.
    pub details: String,
}

/// An error as printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Printed {
    /// Version of the request.
    #[serde(rename = "cniVersion")]
    pub cni_version: String,
    /// Number, see [`Code`].
    pub code: u16,
    /// One sentence.
    pub msg: String,
    /// More, or absent.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl Fault {
    /// An error without details.
    #[must_use]
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// The same with details.
    #[must_use]
    pub fn with_details(self, details: impl Into<String>) -> Self {
        Self { details: details.into(), ..self }
    }

    /// What the plugin prints for it, in the request's version.
    #[must_use]
    pub fn response(&self, cni_version: &str) -> Response {
        let printed = Printed {
            cni_version: cni_version.to_owned(),
            code: self.code as u16,
            msg: self.msg.clone(),
            details: self.details.clone(),
        };
        // Strings and numbers always serialise; the fallback is valid JSON all the same.
        let mut stdout = serde_json::to_string(&printed)
            .unwrap_or_else(|_never| r#"{"code":999,"msg":"unprintable"}"#.to_owned());
        stdout.push('\n');
        Response { stdout, stderr: String::new(), exit: 1 }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "code {}: {}", self.code as u16, self.msg)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, " ({})", self.details) }
    }
}

impl std::error::Error for Fault {}
