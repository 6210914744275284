//! What has come of a datagram, as spans of bytes.

use crate::pipeline::packet::Part;

/// Spans apart from each other, at most: the 53 parts of the largest datagram, at the least MTU of
/// IPv6 and in the worst order, make 27.
const SPANS_MAX: usize = 32;

/// How a part fits to those that have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It is new.
    New,
    /// All of it has come: a duplicate.
    Again,
    /// It overlaps what has come, or lies where the datagram has ended.
    Overlaps,
    /// It leaves more gaps than are remembered.
    Scattered,
}

/// Bytes that have come, from the first to the one behind the last, in order and apart from each
/// other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::table) struct Spans {
    pub(in crate::table) spans: heapless::Vec<(u16, u16), SPANS_MAX>,
    /// Where the datagram ends, once its last part has come.
    pub(in crate::table) end: Option<u16>,
}

impl Spans {
    /// Those spans, if they are in order, apart from each other and within the datagram.
    pub(in crate::table) fn of(spans: &[(u16, u16)], end: Option<u16>) -> Option<Self> {
        let apart = spans.windows(2).all(|pair| matches!(pair, [(_, one), (two, _)] if one < two));
        let last = spans.last().map_or(0, |(_, last)| *last);
        let within = end.is_none_or(|end| last <= end);
        let sound = apart && within && spans.iter().all(|(from, to)| from < to);
        let spans = heapless::Vec::from_slice(spans).ok()?;
        sound.then_some(Self { spans, end })
    }

    /// How a part fits. Linux has the same rules (`inet_frag_queue_insert`).
    pub(super) fn fit(&self, part: &Part) -> Fit {
        let (begin, end) = (part.offset, part.end());
        let last = self.spans.last().map_or(0, |(_, last)| *last);
        let beyond = self.end.is_some_and(|ends| end > ends || (!part.more && end != ends));
        if beyond || (!part.more && last > end) {
            return Fit::Overlaps;
        }
        if self.spans.iter().any(|(from, to)| *from <= begin && end <= *to) {
            return Fit::Again;
        }
        if self.spans.iter().any(|(from, to)| begin < *to && *from < end) {
            return Fit::Overlaps;
        }
        let joins = self.spans.iter().any(|(from, to)| begin == *to || *from == end);
        if self.spans.is_full() && !joins { Fit::Scattered } else { Fit::New }
    }

    /// Takes in a part that is new.
    pub(super) fn add(&mut self, part: &Part) {
        let (mut begin, mut end) = (part.offset, part.end());
        if !part.more {
            self.end = Some(end);
        }
        self.spans.retain(|(from, to)| {
            let joins = *to == begin || *from == end;
            if joins {
                (begin, end) = (begin.min(*from), end.max(*to));
            }
            !joins
        });
        let place = self.spans.iter().position(|(from, _)| *from > begin);
        let place = place.unwrap_or(self.spans.len());
        let added = self.spans.insert(place, (begin, end)).is_ok();
        debug_assert!(added, "it was judged to fit");
    }

    /// Whether all of the datagram has come.
    pub(super) fn is_whole(&self) -> bool {
        self.end.is_some_and(|end| *self.spans == [(0, end)])
    }
}
