//! The public face.
use crate::{Config, Counters, Frame, Input, Instant, Limits, Outbox, PortId, Seeds, Trace};
/// Switch.
#[derive(Debug)]
pub struct Switch {
    counters: Counters,
}
impl Switch {
    /// New.
    #[must_use]
    pub fn new(_c: Config, _l: Limits, _s: Seeds) -> Self {
        Self { counters: Counters::default() }
    }
    /// In.
    pub fn input(&mut self, _now: Instant, _input: Input, _out: &mut Outbox) {}
    /// When.
    #[must_use]
    pub fn poll_at(&self) -> Option<Instant> {
        None
    }
    /// Dry run.
    #[must_use]
    pub fn trace(&self, _now: Instant, ingress: PortId, _frame: &Frame) -> Trace {
        Trace::new(ingress)
    }
    /// Counters.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
    /// Digest.
    #[must_use]
    pub fn digest(&self) -> u64 {
        0
    }
    /// Desired state as in force.
    #[must_use]
    pub fn config(&self) -> Config {
        Config::default()
    }
}
