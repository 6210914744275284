//! Kubernetes objects to desired state: from a directory of manifests, or from the API server.
//!
//! [`objects`] is pure, as are its parts: [`services`], [`ranges`], and the types of [`service`]
//! and [`mod@slice`]; [`numbers`] remembers. [`manifests`] reads files, [`watch`] tells when to;
//! [`api`] has a copy of the API server's objects; [`last`] keeps what was good.

pub mod api;
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
