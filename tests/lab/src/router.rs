//! The kernel as a router: what it answers is what the switch is compared with.
//!
//! ```text
//!   host a ── eth0   r0 [router] r1   eth0 ── host b
//! ```

use std::sync::Arc;

use crate::run::Run;
use crate::{Namespace, Result};

/// Two hosts with a kernel router between them.
#[derive(Debug)]
pub struct Router {
    /// The host that asks.
    pub a: Namespace,
    /// The router.
    pub router: Namespace,
    /// The host behind it.
    pub b: Namespace,
}

/// Addresses of one side: host and router, with the length of their subnet.
struct Side {
    host: [&'static str; 2],
    router: [&'static str; 2],
}

const LEFT: Side = Side {
    host: ["10.244.1.2/24", "fd00:10:244:1::2/64"],
    router: ["10.244.1.1/24", "fd00:10:244:1::1/64"],
};
const RIGHT: Side = Side {
    host: ["10.244.2.2/24", "fd00:10:244:2::2/64"],
    router: ["10.244.2.1/24", "fd00:10:244:2::1/64"],
};

impl Router {
    /// Makes the three, with those MTUs on the side of the host that asks and on the far one.
    ///
    /// # Errors
    /// When namespaces cannot be made.
    pub fn new(near_mtu: u16, far_mtu: u16) -> Result<Self> {
        let run: Arc<Run> = Run::join()?;
        let a = Namespace::new(&run, "oracle-a")?;
        let router = Namespace::new(&run, "oracle-r")?;
        let b = Namespace::new(&run, "oracle-b")?;
        for netns in [&a, &router, &b] {
            netns.without_dad()?;
        }
        a.connect("eth0", &router, "r0", near_mtu)?;
        b.connect("eth0", &router, "r1", far_mtu)?;
        for (host, port, side) in [(&a, "r0", LEFT), (&b, "r1", RIGHT)] {
            for (own, gateway) in side.host.iter().zip(side.router) {
                host.address("eth0", own)?;
                router.address(port, gateway)?;
                host.default_route(gateway.split('/').next().unwrap_or(gateway))?;
            }
        }
        router.sysctl("net/ipv4/ip_forward", "1")?;
        router.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        // Limits of the kernel would hide answers: the switch has its own, tested elsewhere.
        router.sysctl("net/ipv4/icmp_ratelimit", "0")?;
        router.sysctl("net/ipv6/icmp/ratelimit", "0")?;
        Ok(Self { a, router, b })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_routes_between_the_hosts() {
        let oracle = Router::new(1500, 1400).unwrap();
        oracle.a.run("ping", &["-c", "1", "-W", "2", "10.244.2.2"]).unwrap();
        oracle.a.run("ping", &["-c", "1", "-W", "2", "fd00:10:244:2::2"]).unwrap();
        let path = oracle.a.run("traceroute", &["-n", "-q", "1", "10.244.2.2"]).unwrap();
        assert!(path.stdout.contains("10.244.1.1"), "{}", path.stdout);
    }
}
