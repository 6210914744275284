//! veth to veth.
