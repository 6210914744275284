//! How long connections are kept.

use crate::time::Duration;

/// Time-outs (DESIGN 8; Linux's names and values where it has them).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// TCP, SYN sent, and both SYNs sent.
    pub syn_sent: Duration,
    /// TCP, SYN received.
    pub syn_received: Duration,
    /// TCP, established.
    pub established: Duration,
    /// TCP, one side closed.
    pub fin_wait: Duration,
    /// TCP, close-wait: an hour, for what waits long for the second FIN.
    pub close_wait: Duration,
    /// TCP, the last acknowledgment is missing.
    pub last_ack: Duration,
    /// TCP, all acknowledged.
    pub time_wait: Duration,
    /// TCP, reset; SCTP, over.
    pub close: Duration,
    /// TCP, the longest where something is open: sent three times again, not acknowledged, a window
    /// of zero, or nothing from the responder yet.
    pub unanswered: Duration,
    /// UDP, no answer yet.
    pub udp: Duration,
    /// UDP, answered.
    pub udp_replied: Duration,
    /// ICMP echo.
    pub icmp: Duration,
    /// Other protocols.
    pub other: Duration,
    /// SCTP, opening or closing.
    pub sctp_opening: Duration,
    /// SCTP, established.
    pub sctp_established: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            syn_sent: Duration::from_secs(120),
            syn_received: Duration::from_secs(60),
            established: Duration::from_secs(86_400),
            fin_wait: Duration::from_secs(120),
            close_wait: Duration::from_secs(3_600),
            last_ack: Duration::from_secs(30),
            time_wait: Duration::from_secs(120),
            close: Duration::from_secs(10),
            unanswered: Duration::from_secs(300),
            udp: Duration::from_secs(30),
            udp_replied: Duration::from_secs(120),
            icmp: Duration::from_secs(30),
            other: Duration::from_secs(600),
            sctp_opening: Duration::from_secs(60),
            sctp_established: Duration::from_secs(86_400),
        }
    }
}
