//! Hosts inside the switch, on smoltcp's interface and sockets.
//!
//! A frame whose walk ends in Deliver leaves by the outbox and comes back whole by
//! [`crate::Input::Deliver`]. What an endpoint sends walks like any other frame, from the
//! endpoint's port.

mod device;
mod gateway;

pub(crate) use gateway::answer;
