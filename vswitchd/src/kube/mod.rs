//! Kubernetes objects to desired state: from a directory of manifests, later from the API server.
//!
//! [`objects`] is pure; [`manifests`] reads and watches files.

pub mod manifests;
pub mod objects;
