//! Kubernetes objects to desired state: from a directory of manifests, later from the API server.
//!
//! [`objects`] is pure, as are its parts: [`services`], [`ranges`], and the types of [`service`]
//! and [`mod@slice`]; [`numbers`] remembers. [`manifests`] reads files, [`watch`] tells when to;
//! [`last`] keeps what was good.

mod faults;
pub mod last;
pub mod manifests;
pub mod numbers;
pub mod objects;
pub mod place;
pub mod ranges;
pub mod service;
pub mod services;
pub mod slice;
pub mod watch;
