//! The wire protocol between the CNI plugin and the daemon, and what both sides must agree on. The
//! plugin's binary outlives upgrades of the daemon, so all of it belongs to the plugin and the
//! daemon adapts.
//!
//! - [`proto`]: request and response; [`codec`]: how they travel.
//! - [`environment`]: the `CNI_*` variables, checked.
//! - [`fault`]: the specification's errors; [`version`]: its versions.
//! - [`deletion`]: a DEL written down while the daemon is away.
//! - [`client`]: one exchange with the daemon; [`plugin`]: the plugin's whole behaviour.

pub mod client;
pub mod codec;
pub mod deletion;
pub mod environment;
pub mod fault;
pub mod plugin;
pub mod proto;
pub mod version;
