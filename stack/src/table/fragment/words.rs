//! Datagrams as words.

use alloc::vec::Vec;

use super::spans::Spans;
use super::{Datagram, DatagramKey, Fate, Held, Passage};
use crate::words::{Take, Words, words_of};

words_of!(DatagramKey { port, mac, src, dst, protocol, id });
words_of!(Passage { seen, out, given_back });
words_of!(Datagram { key, deadline, fate, first_len, spans, held });

impl Words for Fate {
    fn put(&self, out: &mut Vec<u64>) {
        match self {
            Self::Waiting => out.push(0),
            Self::Passed(passage) => {
                out.push(1);
                passage.put(out);
            }
            Self::Refused => out.push(2),
            Self::Overlapping => out.push(3),
        }
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        match words.word()? {
            0 => Some(Self::Waiting),
            1 => Passage::take(words).map(Self::Passed),
            2 => Some(Self::Refused),
            3 => Some(Self::Overlapping),
            _ => None,
        }
    }
}

impl Words for Spans {
    fn put(&self, out: &mut Vec<u64>) {
        self.end.put(out);
        self.spans.len().put(out);
        for (begin, end) in &self.spans {
            begin.put(out);
            end.put(out);
        }
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        let end = Words::take(words)?;
        let mut spans = Vec::new();
        for _ in 0..usize::take(words)? {
            spans.push((u16::take(words)?, u16::take(words)?));
        }
        Self::of(&spans, end)
    }
}

impl Words for Held {
    fn put(&self, out: &mut Vec<u64>) {
        self.valid.put(out);
        self.bytes.len().put(out);
        for chunk in self.bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(place, byte)| *place = *byte);
            out.push(u64::from_le_bytes(word));
        }
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        let valid = bool::take(words)?;
        let len = usize::take(words)?;
        let mut bytes = Vec::new();
        // Each word is read before it is kept: a length that lies does not allocate.
        while bytes.len() < len {
            let word = words.word()?.to_le_bytes();
            let rest = len - bytes.len();
            let (kept, filled) = word.split_at(rest.min(8));
            if filled.iter().any(|byte| *byte != 0) {
                return None;
            }
            bytes.extend_from_slice(kept);
        }
        Some(Self { bytes, valid })
    }
}
