//! Redacted recordings: no payload, the same walks, as exact a replay.

use recording::{Excerpt, redact::redact};
use stack::Switch;
use stack::journal::frame::Recorded;
use stack::journal::{Head, Kind, records};

use crate::{bed, corpus, file, replayer, run};

#[test]
fn a_redacted_recording_replays_as_exactly() {
    for (name, excerpt) in corpus() {
        let redacted = redact(&excerpt, 1).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let mut one = replayer(&file(&excerpt, 1), 1);
        let mut two = replayer(&file(&redacted, 1), 1);
        let ending = run(&mut one).unwrap();
        assert_eq!(run(&mut two), Ok(ending), "{name}");
        assert_eq!(silent(one.switch()), silent(two.switch()), "{name}");
        assert_eq!(one.verified(), two.verified(), "{name}");
        assert_eq!(redact(&redacted, 9).unwrap(), redacted, "{name}: once is enough");
    }
}

/// The state but for what is said in the fragments that it holds.
fn silent(switch: Option<&Switch>) -> String {
    let mut switch = switch.unwrap().clone();
    switch.blank_held(|bytes| bytes.fill(0));
    switch.dump()
}

/// Whether a text stands in a frame that came by a port.
fn says(excerpt: &Excerpt, text: &[u8]) -> bool {
    records(&excerpt.records).map(Result::unwrap).any(|record| {
        let head = Head::read(record).unwrap();
        let frame = Recorded::read(record, &head).filter(|_| head.kind == Kind::Frame);
        frame.is_some_and(|frame| frame.bytes.windows(text.len()).any(|bytes| bytes == text))
    })
}

#[test]
fn what_was_said_is_gone_and_headers_are_not() {
    use stack::wire::build::{Link, flags};
    let config = bed::config();
    let mut bed = bed::Bed::new(bed::limits(), &config);
    let (a, b) = (&config.ports[2], &config.ports[3]);
    let secret = b"a secret that nobody may see, in the window and behind it ".repeat(9);
    let link = Link { src: a.mac, dst: b.mac };
    let (from, to) = (std::net::Ipv4Addr::new(10, 1, 1, 5), std::net::Ipv4Addr::new(10, 1, 1, 6));
    let frames = [
        link.ipv4(from, to).udp(7, 8, &secret),
        link.ipv4(from, to).tcp((7, 8), flags::ACK, 1, 2, &secret),
        link.ipv4(from, to).echo(true, 1, 2, &secret),
        link.raw(0x88b5, &secret),
        link.ipv4(from, to).fragment(1, 8, false).upper(17.into(), &secret),
        // Refused by the parser, for its version.
        {
            let mut frame = link.ipv4(from, to).udp(7, 8, &secret);
            frame[14] = 0x65;
            frame
        },
    ];
    for frame in &frames {
        bed.frame(a.id, stack::Frame::from_bytes(frame));
    }
    bed.digest();
    let excerpt = bed.excerpt();
    let redacted = redact(&excerpt, 1).unwrap();
    assert!(says(&excerpt, b"a secret") && !says(&redacted, b"secret"));
    assert!(!says(&redacted, b"nobody"));
    let ports = [0, 7, 0, 8];
    assert!(says(&redacted, &ports), "L4 ports stay");
    run(&mut replayer(&file(&redacted, 1), 1)).unwrap();
}
