//! Hosts inside the switch.
