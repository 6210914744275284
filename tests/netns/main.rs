//! Real pods in network namespaces, against the built binaries: `make netns`, as root.
//!
//! Every test makes a node of its own, and ends with the law of conservation: [`World::settle`]
//! names the drop reasons that the test means to cause; any other fails it. A [`World`] that is
//! dropped while its daemon runs checks the laws once more, so that no test can forget them.

#[cfg(test)]
mod api;
#[cfg(test)]
mod captures;
#[cfg(test)]
mod cni;
#[cfg(test)]
mod conformance;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod extcap;
#[cfg(test)]
mod failed;
#[cfg(test)]
mod foretell;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod handover;
#[cfg(test)]
mod hopctl;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod lies;
#[cfg(test)]
mod load;
#[cfg(test)]
mod node;
#[cfg(test)]
mod oracle;
#[cfg(test)]
mod past;
#[cfg(test)]
mod pods;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod services;
#[cfg(test)]
mod state;
#[cfg(test)]
mod trace;
#[cfg(test)]
mod triggers;
#[cfg(test)]
mod tunnel;
#[cfg(test)]
mod worker;
#[cfg(test)]
mod world;

#[cfg(test)]
pub(crate) use world::{KINDS, World, turn};
