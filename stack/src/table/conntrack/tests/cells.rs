//! The 120 cells of Linux's table, each by its name, against [`advance`] as a whole.

use std::format;
use std::string::String;
use std::vec::Vec;

use super::*;
use crate::table::conntrack::tcp::cells::{Cell, Class, cell};

/// The states of the columns.
const COLUMNS: [&str; 10] = ["NO", "SS", "SR", "ES", "FW", "CW", "LA", "TW", "CL", "S2"];

/// As Linux's source lists it, read again and not copied from ours.
const LISTING: &[(Side, &str, u8, &str)] = &[
    (O, "syn", SYN, "SS SS IG IG IG IG IG SS SS S2"),
    (O, "synack", SYN | ACK, "IV IV SR IV IV IV IV IV IV SR"),
    (O, "fin", FIN | ACK, "IV IV FW FW LA LA LA TW CL IV"),
    (O, "ack", ACK, "ES IV ES ES CW CW TW TW CL IV"),
    (O, "rst", RST, "IV CL CL CL CL CL CL CL CL CL"),
    (O, "none", 0, "IV IV IV IV IV IV IV IV IV IV"),
    (R, "syn", SYN, "IV S2 IV IV IV IV IV SS IV S2"),
    (R, "synack", SYN | ACK, "IV SR IG IG IG IG IG IG IG SR"),
    (R, "fin", FIN | ACK, "IV IV FW FW LA LA LA TW CL IV"),
    (R, "ack", ACK, "IV IG SR ES CW CW TW TW CL IG"),
    (R, "rst", RST | ACK, "IV CL CL CL CL CL CL CL CL CL"),
    (R, "none", 0, "IV IV IV IV IV IV IV IV IV IV"),
];

fn state(name: &str) -> Option<State> {
    Some(match name {
        "SS" => State::SynSent,
        "SR" => State::SynReceived,
        "ES" => State::Established,
        "FW" => State::FinWait,
        "CW" => State::CloseWait,
        "LA" => State::LastAck,
        "TW" => State::TimeWait,
        "CL" => State::Close,
        "S2" => State::SynSent2,
        _ => return None,
    })
}

/// A connection in a state, as `speaker` finds it: where only one side has closed, the other one.
/// All numbers fit, so that nothing but the table decides.
fn track_in(state: State, speaker: Side) -> Track {
    if state == State::SynSent {
        return Talk::syn().track;
    }
    let mut track = Track { state, ..Talk::open().track };
    track.set(O.flag(flag::ACKED) | R.flag(flag::ACKED), true);
    track.acked = [R_FIRST + 1, O_FIRST + 1];
    let both = matches!(state, State::LastAck | State::TimeWait);
    let one = matches!(state, State::FinWait | State::CloseWait);
    track.set(speaker.flag(flag::FIN), both);
    track.set(speaker.other().flag(flag::FIN), both || one);
    track
}

/// The next segment of a side, or its SYN once more.
fn segment(side: Side, flags: u8) -> Segment {
    let (first, other) = if side == O { (O_FIRST, R_FIRST) } else { (R_FIRST, O_FIRST) };
    let seq = if flags & SYN != 0 { first } else { first + 1 };
    tcp(flags, seq, if flags & ACK == 0 { 0 } else { other + 1 })
}

/// What the switch does, in the words of the listing.
fn outcome(before: &Track, result: Advance) -> String {
    match result {
        Advance::Invalid => "IV".into(),
        Advance::Ignored => "IG".into(),
        Advance::Reopen => "SS".into(),
        Advance::Keep(after) if after.deadline == before.deadline => {
            assert_eq!(after.state, before.state);
            if before.state == State::SynSent && after.acked == [0; 2] { "SS" } else { "IG" }.into()
        }
        Advance::Keep(after) => {
            let column = usize::from(after.state as u8);
            COLUMNS[column].into()
        }
    }
}

#[test]
fn every_cell_is_linuxs() {
    let mut wrong = Vec::new();
    let mut cells = 0;
    for (side, class, flags, row) in LISTING {
        let row: Vec<&str> = row.split(' ').collect();
        assert_eq!(row.len(), COLUMNS.len());
        for (column, expected) in COLUMNS.iter().zip(row) {
            cells += 1;
            let segment = segment(*side, *flags);
            let found = match (state(column), side) {
                // A responder has nothing to say before there is a connection.
                (None, Side::Responder) => "IV".into(),
                (None, Side::Originator) => match begin(&segment, TCP, NOW, &Timeouts::default()) {
                    Some(track) => COLUMNS[usize::from(track.state as u8)].into(),
                    None => String::from("IV"),
                },
                (Some(state), side) => {
                    let before = track_in(state, *side);
                    let now = later(1);
                    let timeouts = Timeouts::default();
                    outcome(&before, advance(&before, *side, &segment, TCP, now, &timeouts))
                }
            };
            if found != expected {
                wrong.push(format!("{side:?} {class} in {column}: {found}, not {expected}"));
            }
        }
    }
    assert_eq!(cells, 120);
    assert_eq!(wrong, Vec::<String>::new());
}

#[test]
fn the_table_is_the_listing() {
    for (side, class, _, row) in LISTING {
        let class = match *class {
            "syn" => Class::Syn,
            "synack" => Class::SynAck,
            "fin" => Class::Fin,
            "ack" => Class::Ack,
            "rst" => Class::Rst,
            _ => continue,
        };
        for (column, expected) in COLUMNS.iter().zip(row.split(' ')) {
            let expected = match expected {
                "IV" => Cell::Invalid,
                "IG" => Cell::Ignored,
                name => Cell::To(state(name).unwrap()),
            };
            assert_eq!(cell(state(column), *side, class), expected, "{side:?} {class:?} {column}");
        }
        // States of other protocols have no column.
        for state in [State::Unreplied, State::Replied, State::SctpOpening, State::SctpClosing] {
            assert_eq!(cell(Some(state), *side, class), Cell::Invalid);
        }
    }
}

#[test]
fn the_class_goes_by_rank_and_impossible_flags_have_none() {
    // FIN, SYN, RST, ACK, URG as Linux's tcp_valid_flags has them.
    let valid = [0x02, 0x22, 0x12, 0x04, 0x14, 0x11, 0x31, 0x10, 0x30];
    let class = |flags: u8| match flags & 0x3f {
        0x02 | 0x22 => Class::Syn,
        0x12 => Class::SynAck,
        0x04 | 0x14 => Class::Rst,
        0x11 | 0x31 => Class::Fin,
        _ => Class::Ack,
    };
    for flags in 0..=u8::MAX {
        // PSH, ECE and CWR go with any.
        let deciding = flags & !0xc8;
        let expected = valid.contains(&deciding).then(|| class(deciding));
        assert_eq!(Class::of(flags), expected, "{flags:#04x}");
    }
    for flags in [0, FIN, SYN | FIN, SYN | RST, FIN | RST, 0x29, 0x3f, PSH, SYN | FIN | ACK] {
        assert_eq!(Talk::open().judge(O, &tcp(flags, O_FIRST + 1, R_FIRST + 1)), Advance::Invalid);
        assert_eq!(begin(&tcp(flags, 1, 1), TCP, NOW, &Timeouts::default()), None);
    }
}
