//! Captures: pcapng with one interface a hop point, filters, live sessions.

pub mod session;
