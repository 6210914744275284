//! The CNI plugin `hopscope`.

fn main() {}
