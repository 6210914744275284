//! The wire protocol between the CNI plugin and the daemon. The plugin's binary outlives upgrades of the
//! daemon, so the protocol belongs to it and the daemon adapts.

pub mod proto;
