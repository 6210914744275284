//! What the two processes say to each other, as JSON: the worker's requests of [`Kernel`] and their
//! replies, and what is said about life and death.
//!
//! The worker may be in a stranger's hands. A request names what a method of [`Kernel`] needs and
//! nothing else; `bounds` looks at it again before it is done.
//!
//! [`Kernel`]: crate::node::Kernel

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::node::preflight::{Check, Wanted};
use crate::node::{HostLink, NodeError, PodLink, Problem, Uplink};
use crate::port::parts::Description;
use crate::settings::Settings;

/// A request: one method of `Kernel` each. A namespace comes as a descriptor; its path is for the
/// words of an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// `open_netns`.
    OpenNetns {
        /// Where.
        path: PathBuf,
    },
    /// `wire`, in the namespace that comes along.
    Wire {
        /// Where it was opened.
        path: PathBuf,
        /// The interface.
        link: PodLink,
    },
    /// `take_back`, in the namespace that comes along.
    TakeBack {
        /// Where it was opened.
        path: PathBuf,
        /// The interface.
        link: PodLink,
    },
    /// `unwire`, in the namespace that comes along if it is still there.
    Unwire {
        /// Where it was opened.
        path: Option<PathBuf>,
        /// The interface.
        link: PodLink,
    },
    /// `check`, in the namespace that comes along.
    Check {
        /// Where it was opened.
        path: PathBuf,
        /// The interface.
        link: PodLink,
    },
    /// `sweep`.
    Sweep {
        /// Names of the nodes' ends that stay.
        keep: BTreeSet<String>,
    },
    /// `may_wire_host`.
    MayWireHost {
        /// The node's port.
        link: HostLink,
    },
    /// `wire_host`.
    WireHost {
        /// The node's port.
        link: HostLink,
    },
    /// `adjust_host`.
    AdjustHost {
        /// The node's port.
        link: HostLink,
    },
    /// `check_host`.
    CheckHost {
        /// The node's port.
        link: HostLink,
    },
    /// `unwire_host`.
    UnwireHost {
        /// The node's port.
        link: HostLink,
    },
    /// `uplink`, as set for the parent.
    Uplink {
        /// The interface's name, if one is set.
        setting: Option<String>,
    },
    /// `preflight`.
    Preflight {
        /// What the network shall be.
        wanted: Wanted,
        /// The uplink's name, if one is set.
        uplink: Option<String>,
    },
}

/// A reply; which one belongs to a request is the method's own result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    /// A namespace, whose descriptor comes along.
    Netns {
        /// Its inode.
        inode: u64,
    },
    /// A device, whose descriptors come along.
    Port(Description),
    /// The node's port, whose descriptors come along, the device's own first.
    Host {
        /// Its device.
        device: Description,
        /// Those that are only read.
        sides: Vec<Description>,
    },
    /// It is done.
    Done,
    /// What is not as it shall be.
    Problems(Vec<Problem>),
    /// What was removed.
    Swept(Vec<String>),
    /// What leads out of the node.
    Uplink(Option<Uplink>),
    /// What a look at the node found.
    Checks(Vec<Check>),
    /// It went wrong.
    Failed(Failure),
}

/// A [`NodeError`] on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// [`NodeError::Netns`].
    Netns {
        /// The path as given.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// [`NodeError::Exists`].
    Exists {
        /// What.
        what: String,
    },
    /// [`NodeError::Setting`].
    Setting {
        /// The setting's key.
        field: String,
        /// What is wrong.
        why: String,
    },
    /// [`NodeError::Kernel`].
    Kernel {
        /// What was being done.
        doing: String,
        /// The kernel's number, if it was the kernel.
        errno: Option<i32>,
        /// [`io::ErrorKind`] by its name, where there is no number.
        kind: String,
        /// The sentence, where there is no number.
        text: String,
    },
}

/// Kinds of errors that keep their kind. Whoever makes another one gets `Other`, with its sentence.
const KINDS: [io::ErrorKind; 9] = [
    io::ErrorKind::NotFound,
    io::ErrorKind::PermissionDenied,
    io::ErrorKind::AlreadyExists,
    io::ErrorKind::ResourceBusy,
    io::ErrorKind::InvalidInput,
    io::ErrorKind::InvalidData,
    io::ErrorKind::Interrupted,
    io::ErrorKind::Unsupported,
    io::ErrorKind::WouldBlock,
];

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        let doing = error.to_string();
        match error {
            NodeError::Netns { path, why } => Self::Netns { path, why },
            NodeError::Exists { what } => Self::Exists { what },
            NodeError::Setting { field, why } => Self::Setting { field: field.into_owned(), why },
            // Whoever tells of it has answered.
            NodeError::Kernel { source, .. } | NodeError::Unanswered { source } => Self::Kernel {
                doing,
                errno: source.raw_os_error(),
                kind: format!("{:?}", source.kind()),
                text: source.to_string(),
            },
        }
    }
}

impl From<Failure> for NodeError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Netns { path, why } => Self::Netns { path, why },
            Failure::Exists { what } => Self::Exists { what },
            Failure::Setting { field, why } => Self::Setting { field: field.into(), why },
            Failure::Kernel { doing, errno: Some(errno), .. } => {
                Self::Kernel { doing, source: io::Error::from_raw_os_error(errno) }
            }
            Failure::Kernel { doing, errno: None, kind, text } => {
                let known = KINDS.into_iter().find(|known| format!("{known:?}") == kind);
                let kind = known.unwrap_or(io::ErrorKind::Other);
                Self::Kernel { doing, source: io::Error::new(kind, text) }
            }
        }
    }
}

/// What the parent put right on the node since it began, because somebody else had changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Upkeep {
    /// How often.
    pub mended: u64,
    /// What was wrong the last time.
    pub last: Option<String>,
    /// Milliseconds since then.
    pub last_ago_ms: Option<u64>,
    /// What is wrong and stays so for now.
    pub wrong: Option<String>,
}

/// What the parent says on the channel of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Word {
    /// The first word to a worker.
    Welcome(Box<Welcome>),
    /// End in good order; pods and flows stay.
    Stop,
    /// Another vswitchd is about to take over: let nobody in, and end what has begun.
    Quiet,
    /// It does not take over after all.
    Resume,
    /// How the node is kept; said when that has changed.
    Upkeep(Upkeep),
    /// Leave the ports to its worker, by the baton that comes along.
    Yield {
        /// Whether the state is to be left as well: the other build cannot follow the journal.
        with_state: bool,
    },
}

/// A worker that another one is to follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Predecessor {
    /// Its process id.
    pub worker: u32,
    /// That of its parent.
    pub parent: u32,
    /// Whether its journal can be followed: it is of this build.
    pub follow: bool,
}

/// All that a worker needs to begin. Its descriptors are in the order of [`Welcome::DESCRIPTORS`],
/// and behind them the baton, if there is a worker before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The settings, as the parent understood them once.
    pub settings: Settings,
    /// The parent's process id, by which the worker knows that it has not been orphaned yet.
    pub parent: u32,
    /// For how many milliseconds the parent has been there.
    pub uptime_ms: u64,
    /// How many workers were there before.
    pub restarts: u64,
    /// How the last one ended.
    pub last_end: Option<String>,
    /// The worker of another vswitchd that still reads the ports.
    pub predecessor: Option<Predecessor>,
}

impl Welcome {
    /// The channel of requests, `cni.sock`, `admin.sock`, and the lock that says that a worker is
    /// there.
    pub const DESCRIPTORS: usize = 4;
}

/// What the worker says on the channel of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Report {
    /// Pods can be wired and their frames are forwarded.
    Ready,
    /// Nobody is let in any more, and nothing is in work.
    Quiet,
    /// It cannot be quiet: a request does not end.
    Busy,
    /// All is done for taking over, up to the moment itself.
    Prepared,
    /// The ports are left to the next one.
    Yielded,
}

/// A message as bytes.
///
/// # Errors
/// When it holds a path that is no text.
pub fn encode<T: Serialize>(message: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(message).map_err(io::Error::other)
}

/// A message out of bytes.
///
/// # Errors
/// What is wrong with them.
pub fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(io::Error::other)
}

#[cfg(test)]
mod tests;
