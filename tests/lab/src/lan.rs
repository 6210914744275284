//! The outside: a namespace with a kernel bridge that the uplinks of nodes are attached to.
//!
//! ```text
//!   node a: up0 ──┐
//!                 ├── lan0 (192.0.2.1/24, 2001:db8::1/64), the world beyond the nodes
//!   node b: up0 ──┘
//! ```

use std::sync::Arc;

use crate::run::Run;
use crate::{Namespace, Result};

/// Its IPv4 address on the bridge, of the range for documentation (RFC 5737).
pub const ADDRESS4: &str = "192.0.2.1";
/// Its IPv6 address on the bridge, of the range for documentation (RFC 3849).
pub const ADDRESS6: &str = "2001:db8::1";

/// The outside.
#[derive(Debug)]
pub struct Lan {
    /// The namespace: a host that nodes and pods can talk to.
    pub netns: Namespace,
    mtu: u16,
}

impl Lan {
    /// Makes it with that MTU on all links.
    ///
    /// # Errors
    /// When namespaces cannot be made.
    pub fn new(mtu: u16) -> Result<Arc<Self>> {
        let netns = Namespace::new(&Run::join()?, "lan")?;
        netns.without_dad()?;
        netns.ip(&["link", "add", "lan0", "mtu", &mtu.to_string(), "type", "bridge"])?;
        netns.ip(&["link", "set", "lan0", "up"])?;
        netns.address("lan0", &format!("{ADDRESS4}/24"))?;
        netns.address("lan0", &format!("{ADDRESS6}/64"))?;
        Ok(Arc::new(Self { netns, mtu }))
    }

    /// Attaches a namespace by an interface `up0` with those addresses, and default routes out of
    /// it.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn attach(&self, host: &Namespace, index: usize, addresses: &[String]) -> Result<()> {
        let port = format!("port{index}");
        host.without_dad()?;
        host.connect("up0", &self.netns, &port, self.mtu)?;
        self.netns.ip(&["link", "set", &port, "master", "lan0"])?;
        for address in addresses {
            let length = if address.contains(':') { 64 } else { 24 };
            host.address("up0", &format!("{address}/{length}"))?;
        }
        for gateway in [ADDRESS4, ADDRESS6] {
            let same = |address: &String| address.contains(':') == gateway.contains(':');
            if addresses.iter().any(same) {
                host.default_route(gateway)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_reach_each_other_and_the_outside() {
        let lan = Lan::new(1500).unwrap();
        let run = Arc::clone(lan.netns.owner());
        let hosts: Vec<Namespace> = (0..2)
            .map(|index| {
                let host = Namespace::new(&run, &format!("lan-host{index}")).unwrap();
                let addresses = [format!("192.0.2.{}", 20 + index), format!("2001:db8::{index}a")];
                lan.attach(&host, index, &addresses).unwrap();
                host
            })
            .collect();
        for target in ["192.0.2.21", "2001:db8::1a", ADDRESS4, ADDRESS6] {
            hosts[0].run("ping", &["-c", "1", "-W", "2", target]).unwrap();
        }
    }
}
