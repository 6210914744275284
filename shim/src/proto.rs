//! One request and one response a connection of `cni.sock`: each a length (u32, little endian,
//! bytes) and so many bytes of JSON.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Version of this protocol. A daemon answers every version it ever knew.
pub const VERSION: u32 = 1;
/// Bytes of a message at most (SEC-12).
pub const MESSAGE_MAX: u32 = 1 << 20;

/// What the runtime asked, as it asked it: nothing is interpreted here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// [`VERSION`].
    pub version: u32,
    /// Every `CNI_*` variable of the environment.
    pub environment: BTreeMap<String, String>,
    /// Standard input, whole: the plugin's configuration.
    pub stdin: String,
}

/// What the plugin shall print and how it shall exit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Response {
    /// For standard output, as is; empty for none.
    pub stdout: String,
    /// For standard error, as is; empty for none.
    pub stderr: String,
    /// Exit status.
    pub exit: u8,
}
