//! Health checks: a host inside of the switch that answers at the node's addresses, by smoltcp.
//!
//! kube-proxy is the model (pkg/proxy/healthcheck), so that load balancers that ask it ask us. The
//! host has a thread of its own: whatever clients do to it, frames do not wait. The switch gives it
//! packets to health checks alone (`stack`'s `EndpointId::HEALTH`); what it says walks through the
//! switch as anybody's frames do.
//!
//! - [`answer`]: what is said. [`http`]: how. Both pure.
//! - [`cable`]: packets from the data thread to the host and back.
//! - [`host`]: the connections, and their bounds.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::event_loop;
use crate::kube::services::HealthCheck;
use crate::port::PortIo;

pub mod answer;
mod cable;
mod host;
mod http;
#[cfg(test)]
mod tests;

/// What is asked for, as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The port that tells of the node; 0 for none.
    pub node_port: u16,
    /// Whether load balancers shall lead nobody here any more.
    pub leaving: bool,
    /// Health checks of Services, each with a port of its own.
    pub checks: Vec<HealthCheck>,
}

/// The facts as shared: replaced whole by the control side.
pub type Shared = Arc<ArcSwap<Facts>>;

/// Starts the host. It ends when its port is dropped. `mtu` is the largest packet it sends.
///
/// # Errors
/// When eventfd, seeds or the thread cannot be had.
pub fn start(facts: Shared, mtu: u16) -> io::Result<Box<dyn PortIo>> {
    let (port, cable) = cable::lay()?;
    // Not one of those that a recording holds: who knows it can guess sequence numbers.
    let seed = event_loop::seeds()?.choice;
    std::thread::Builder::new()
        .name("health".to_owned())
        .spawn(move || host::Host::new(cable, facts, seed, mtu).run())?;
    Ok(Box::new(port))
}
