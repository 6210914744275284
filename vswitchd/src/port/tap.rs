//! See port/mod.rs.
