//! EndpointSlices (discovery.k8s.io/v1), as far as they are read here. Where a `null` or nothing
//! stands, the API's documentation of each field says what it means.

use std::num::NonZeroU16;

use serde::Deserialize;

use super::objects::{Metadata, or_default};
use super::service::Protocol;

/// Endpoints of a Service, of one family.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointSlice {
    /// Its metadata; a label names the Service.
    #[serde(default)]
    pub metadata: Metadata,
    /// What its addresses are.
    pub address_type: AddressType,
    /// The endpoints; `null` is what the API's server writes for none.
    #[serde(default, deserialize_with = "or_default")]
    pub endpoints: Vec<Endpoint>,
    /// The ports that all of them have.
    #[serde(default, deserialize_with = "or_default")]
    pub ports: Vec<EndpointPort>,
}

/// What the addresses of a slice are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum AddressType {
    /// IPv4 addresses.
    IPv4,
    /// IPv6 addresses.
    IPv6,
    /// Names in DNS: not ours.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// One endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Its addresses, all meaning the same: the first is used.
    #[serde(deserialize_with = "or_default")]
    pub addresses: Vec<String>,
    /// Whether it takes connections.
    #[serde(deserialize_with = "or_default")]
    pub conditions: Conditions,
    /// The node it runs on.
    pub node_name: Option<String>,
    /// Who should use it.
    #[serde(deserialize_with = "or_default")]
    pub hints: Hints,
    /// The object that stands behind it.
    pub target_ref: Option<TargetRef>,
}

/// Conditions of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Conditions {
    /// Takes connections; absent: it does.
    pub ready: Option<bool>,
    /// Still answers; absent: it does.
    pub serving: Option<bool>,
    /// Is being removed; absent: it is not.
    pub terminating: Option<bool>,
}

/// Who should use an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Hints {
    /// Zones whose nodes should.
    #[serde(deserialize_with = "or_default")]
    pub for_zones: Vec<Named>,
    /// Nodes that should.
    #[serde(deserialize_with = "or_default")]
    pub for_nodes: Vec<Named>,
}

/// A name within a list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Named {
    /// It.
    pub name: String,
}

/// The object behind an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TargetRef {
    /// `Pod`, mostly.
    pub kind: String,
    /// Its namespace; empty is the slice's.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// A port of all endpoints of a slice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointPort {
    /// The name of the Service's port that leads here.
    #[serde(deserialize_with = "or_default")]
    pub name: String,
    /// What it speaks.
    #[serde(deserialize_with = "or_default")]
    pub protocol: Protocol,
    /// Its number; absent means every port, which no Service can lead to.
    pub port: Option<NonZeroU16>,
}
