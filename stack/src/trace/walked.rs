//! The traces of an outbox.

use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use super::Trace;
use crate::input::PortId;

/// Traces whose memory is kept.
const KEPT: usize = 512;

/// Traces in the order of their walks. Their memory is kept when they are cleared: a trace is large
/// and mostly empty, so it is begun in place and never moved.
#[derive(Debug, Default)]
pub struct Walked {
    traces: Vec<Trace>,
    len: usize,
}

impl Walked {
    /// Begins the trace of another walk. There is always one.
    pub(crate) fn begin(&mut self, ingress: PortId) -> Option<&mut Trace> {
        if self.traces.len() == self.len {
            self.traces.push(Trace::new(ingress));
        }
        let trace = self.traces.get_mut(self.len)?;
        self.len += 1;
        trace.begin(ingress);
        Some(trace)
    }

    /// Appends a trace.
    pub fn push(&mut self, trace: Trace) {
        self.traces.truncate(self.len);
        self.traces.push(trace);
        self.len += 1;
    }

    /// Takes all traces out, the first first.
    pub fn drain(&mut self) -> impl Iterator<Item = Trace> + '_ {
        let len = core::mem::take(&mut self.len);
        self.traces.drain(..len)
    }

    /// Forgets all traces. The memory of more than a few batches is not kept.
    pub fn clear(&mut self) {
        self.len = 0;
        self.traces.truncate(KEPT);
    }
}

impl Deref for Walked {
    type Target = [Trace];

    fn deref(&self) -> &[Trace] {
        self.traces.get(..self.len).unwrap_or(&[])
    }
}

impl DerefMut for Walked {
    fn deref_mut(&mut self) -> &mut [Trace] {
        self.traces.get_mut(..self.len).unwrap_or(&mut [])
    }
}

impl<'a> IntoIterator for &'a Walked {
    type Item = &'a Trace;
    type IntoIter = core::slice::Iter<'a, Trace>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Walked {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Walked {}
