//! What clients and servers see that is not as with the kernel and kube-proxy: `tests/tidy` writes
//! the table of ARCHITECTURE.md from it, `tests/netns/oracle.rs` compares it with what happens.

/// A difference. `*` stands for anything.
pub(crate) struct Difference {
    /// What is asked: `WHO to WHAT, HOW`.
    pub(crate) asked: &'static [&'static str],
    /// What is seen with the kernel and kube-proxy.
    pub(crate) kernel: &'static str,
    /// What is seen with Hopscope.
    pub(crate) hopscope: &'static str,
    /// Why.
    pub(crate) reason: &'static str,
}

/// All of them; of several that fit the first one is meant.
pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        asked: &["* without backends, TCP", "* to a port that the VIP lacks, TCP"],
        kernel: "port unreachable by *",
        hopscope: "RST",
        reason: "a client understands RST at once, and it passes where ICMP is filtered",
    },
    Difference {
        asked: &[
            "node to * without backends, UDP*",
            "node to a port that the VIP lacks, UDP*",
            "client to a node port without backends, UDP*",
        ],
        kernel: "port unreachable by node",
        hopscope: "port unreachable by gateway",
        reason: "it is the switch that refuses, and within the cluster its address is the gateway",
    },
    Difference {
        asked: &["* to a VIP, ping"],
        kernel: "port unreachable by *",
        hopscope: "answered",
        reason: "whoever looks for a fault shall see that the address is a Service's",
    },
    Difference {
        asked: &["* to an external address, ping"],
        kernel: "silence",
        hopscope: "answered",
        reason: "as a VIP",
    },
    Difference {
        asked: &["*"],
        kernel: "* answers, has seen gateway, another port",
        hopscope: "* answers, has seen gateway, its own port",
        reason: "masquerade keeps a port that is free; kube-proxy draws one (`fully-random`)",
    },
    Difference {
        asked: &["client to the outside, *", "client to a VIP of a host outside, *"],
        kernel: "outside answers, has seen node, its own port",
        hopscope: "outside answers, has seen node, another port",
        reason: "masquerade has the ports of `snat-ports`; all others are the node's sockets'",
    },
    Difference {
        asked: &["node to a pod, *"],
        kernel: "server answers, has seen gateway, its own port",
        hopscope: "server answers, has seen node, its own port",
        reason: "a bridge's address makes the node's kernel choose it; `hop0` has none (D10)",
    },
    Difference {
        asked: &[
            "outside to a VIP of the node itself, *",
            "outside to a node port of the node itself, *",
        ],
        kernel: "node answers, has seen outside, its own port",
        hopscope: "node answers, has seen node, another port",
        reason: "a socket's answer finds the switch by a port of `snat-ports` alone",
    },
    Difference {
        asked: &["node to *, UDP*"],
        kernel: "EPERM",
        hopscope: "silence",
        reason: "the packet has left the node's kernel when it is dropped",
    },
    Difference {
        asked: &["amid a stream to a VIP, TCP"],
        kernel: "RST, from the backend",
        hopscope: "RST, from nobody else",
        reason: "amid a stream no backend is chosen; the kernel takes any (`tcp_loose`)",
    },
    Difference {
        asked: &["client to a VIP whose only backend goes, UDP"],
        kernel: "it answers, has seen client, its own port",
        hopscope: "port unreachable by gateway",
        reason: "who serves no more is not asked; kube-proxy keeps what goes to a last backend",
    },
    Difference {
        asked: &["kept of UDP that was answered"],
        kernel: "30 s",
        hopscope: "120 s",
        reason: "RFC 4787 REQ-5 asks for 2 minutes; Linux waits for the exchange to last 2 s",
    },
];
