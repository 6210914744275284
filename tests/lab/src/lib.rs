//! The lab: nodes and pods made of network namespaces, run by the real binaries.
//!
//! | module | holds |
//! | --- | --- |
//! | [`ask`] | one question to a server, and how exactly it was answered or refused |
//! | [`run`] | what this process made, so that it goes away even after a kill |
//! | [`namespace`] | a network namespace and programs inside of it |
//! | [`process`] | running programs, their output and their time-outs |
//! | [`binaries`] | where the built programs are |
//! | [`lan`] | the outside: a kernel bridge that nodes are attached to |
//! | [`node`] | a node: uplink, manifests, `vswitchd` |
//! | [`pod`] | a pod, wired through the CNI plugin as a runtime does |
//! | [`cluster`] | all of that from a directory of manifests |
//! | [`cni`] | calls of the plugin, whatever their sense |
//! | [`manifest`] | the objects of a directory of manifests that the lab acts on |
//! | [`counters`] | the law of conservation, read from `hopctl` |
//! | [`tshark`] | Wireshark as the judge of captures |
//! | [`router`] | the kernel as a router: the oracle |
//! | [`program`] | clients and servers that run inside of pods |
//!
//! Nothing here touches the interfaces, routes or rules of the namespace it is started in.

pub mod ask;
pub mod binaries;
pub mod cluster;
pub mod cni;
pub mod counters;
pub mod error;
pub mod lan;
pub mod manifest;
pub mod namespace;
pub mod node;
pub mod pod;
pub mod process;
pub mod program;
pub mod router;
pub mod run;
pub mod tshark;

pub use cluster::Cluster;
pub use error::{Context, Error, Result};
pub use lan::Lan;
pub use namespace::Namespace;
pub use node::{Node, NodeSpec};
pub use pod::Pod;
