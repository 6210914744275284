//! The Hopscope daemon: moves bytes, time and desired state in and out of the core.
//!
//! - [`event_loop`]: the data thread; the only place that reads the clock.
//! - [`recorder`]: the journal, snapshots, recovery.
//! - [`port`]: drivers (TAP, AF_PACKET) and software offloads.
//! - [`node`]: what the kernel must know: namespaces, links, addresses, routes, rules.
//! - [`cni`]: the CNI verbs, address management, the store of attachments.
//! - [`kube`]: Kubernetes objects and manifests to desired state.
//! - [`capture`]: pcapng, filters, sessions; [`replay`]: recordings run again.
//! - [`triggers`]: rules that keep a recording of the seconds around an event.
//! - [`admin`]: the admin socket; [`cli`]: `hopctl`, which speaks to it.
//! - [`supervisor`]: the parent process, which owns privileges and ports; [`worker`]: how the other
//!   one begins.
//! - [`daemon`]: wiring and order of start and stop; [`gate`]: when clients are let in;
//!   [`settings`]: flags, environment, file.

pub mod admin;
pub mod capture;
pub mod cli;
pub mod cni;
pub mod daemon;
pub mod directories;
pub mod directory;
pub mod event_loop;
pub mod gate;
pub mod health;
pub mod kube;
pub mod node;
pub mod port;
pub mod recorder;
pub mod replay;
pub mod settings;
pub mod supervisor;
mod text;
pub mod triggers;
pub mod utc;
pub mod worker;
