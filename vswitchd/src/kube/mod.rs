//! Kubernetes objects to desired state: from a directory of manifests, later from the API server.
//!
//! [`objects`] is pure; [`manifests`] reads files, [`watch`] tells when to; [`last`] keeps what was
//! good.

pub mod last;
pub mod manifests;
pub mod objects;
pub mod watch;
