//! Connections as words.

use alloc::vec::Vec;

use super::{Side, State, Timeouts, Track, Tuple};
use crate::words::{Take, Words, enums, pair, quarters, unpair, words_of};

enums! {
    State {
        SynSent = 1,
        SynReceived = 2,
        Established = 3,
        FinWait = 4,
        CloseWait = 5,
        LastAck = 6,
        TimeWait = 7,
        Close = 8,
        SynSent2 = 9,
        Unreplied = 16,
        Replied = 17,
        SctpOpening = 24,
        SctpEstablished = 25,
        SctpClosing = 26,
    }
    Side { Originator = 0, Responder = 1 }
}

/// Packed: see [`super::connection`].
impl Words for Track {
    fn put(&self, out: &mut Vec<u64>) {
        let Self { deadline, end, limit, window, acked, state, flags, last, again, scale } = *self;
        let ([first, second], [flags, last]) = (scale, [flags, last].map(u64::from));
        let [again, low, high] = [again, first, second].map(u64::from);
        deadline.put(out);
        out.extend([end, limit, window, acked].map(pair));
        out.push(flags | last << 16 | again << 32 | low << 40 | high << 48);
        state.put(out);
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        let deadline = Words::take(words)?;
        let mut next = || words.word().map(unpair);
        let (end, limit, window, acked) = (next()?, next()?, next()?, next()?);
        let word = words.word()?;
        let [flags, last, _, _] = quarters(word);
        let [_, _, _, _, again, low, high, 0] = word.to_le_bytes() else { return None };
        let (state, scale) = (State::take(words)?, [low, high]);
        Some(Self { deadline, end, limit, window, acked, state, flags, last, again, scale })
    }
}

words_of!(Timeouts {
    syn_sent,
    syn_received,
    established,
    fin_wait,
    close_wait,
    last_ack,
    time_wait,
    close,
    unanswered,
    udp,
    udp_replied,
    icmp,
    other,
    sctp_opening,
    sctp_established,
});

impl Words for Tuple {
    fn put(&self, out: &mut Vec<u64>) {
        let Self { src, dst, src_port, dst_port, protocol } = self;
        src.put(out);
        dst.put(out);
        src_port.put(out);
        dst_port.put(out);
        protocol.put(out);
    }

    fn take(words: &mut Take<'_>) -> Option<Self> {
        let tuple = Self {
            src: Words::take(words)?,
            dst: Words::take(words)?,
            src_port: Words::take(words)?,
            dst_port: Words::take(words)?,
            protocol: Words::take(words)?,
        };
        // No flow leads from one family to the other.
        (tuple.src.version() == tuple.dst.version()).then_some(tuple)
    }
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{IpAddress, Ipv4Address, Ipv6Address};

    use super::*;
    use crate::time::{Duration, Instant};
    use crate::words::whole;

    fn words<T: Words>(value: &T) -> Vec<u64> {
        let mut words = Vec::new();
        value.put(&mut words);
        words
    }

    fn back<T: Words>(value: &T) -> Option<T> {
        whole(&words(value))
    }

    /// The numbers are those of the enumeration, which dumps and the table of cells go by.
    #[test]
    fn states_are_their_numbers_and_no_other_number_is_one() {
        for state in State::ALL {
            assert_eq!(words(&state), [u64::from(state as u8)]);
            assert_eq!(back(&state), Some(state));
        }
        let known = (0..256).filter(|number| whole::<State>(&[*number]).is_some()).count();
        assert_eq!(known, State::ALL.len());
        assert_eq!(back(&Side::Originator), Some(Side::Originator));
        assert_eq!(words(&Side::Responder), [1]);
        assert_eq!(whole::<Side>(&[2]), None);
    }

    #[test]
    fn tracks_and_time_outs_come_back_field_by_field() {
        let track = Track {
            deadline: Instant(u64::MAX),
            end: [1, 2],
            limit: [3, 4],
            window: [5, 6],
            acked: [7, u32::MAX],
            state: State::SynSent2,
            flags: 0x5a5a,
            last: 0xffff,
            again: 3,
            scale: [14, 9],
        };
        assert_eq!(back(&track), Some(track));
        let cut = words(&track);
        for end in 0..cut.len() {
            assert_eq!(whole::<Track>(&cut[..end]), None, "cut at {end}");
        }
        let timeouts = Timeouts { other: Duration(1), icmp: Duration(2), ..Timeouts::default() };
        assert_eq!(back(&timeouts), Some(timeouts));
    }

    #[test]
    fn tuples_are_of_one_family() {
        let v4: IpAddress = Ipv4Address::new(10, 0, 0, 1).into();
        let v6: IpAddress = Ipv6Address::LOCALHOST.into();
        for address in [v4, v6] {
            let tuple =
                Tuple { src: address, dst: address, src_port: 1, dst_port: 65_535, protocol: 255 };
            assert_eq!(back(&tuple), Some(tuple));
            assert_eq!(back(&tuple.inverse()), Some(tuple.inverse()));
        }
        let mixed = Tuple { src: v4, dst: v6, src_port: 1, dst_port: 2, protocol: 6 };
        assert_eq!(back(&mixed), None);
    }
}
