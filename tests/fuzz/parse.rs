//! What must hold of parse whatever the bytes are.

use stack::Offload;
use stack::pipeline::packet::Inner;
use stack::pipeline::parse::{describe, destination, parse};

/// Panics if a law of parse is broken.
pub(crate) fn judge(frame: &[u8], offload: &Offload) {
    let (window, len) = crate::window(frame);
    let verdict = parse(window, len, offload);
    assert_eq!(verdict, parse(window, len, offload), "it is a function");
    let mut line = String::new();
    describe(window, &mut line).unwrap();
    assert!(!line.is_empty() && !line.contains('\n'), "{line:?}");
    match verdict {
        Err(reason) => assert!((101..=115).contains(&reason.code()), "{reason}"),
        Ok(packet) => {
            if let Inner::Ip(ip) = packet.inner {
                let end = 14 + usize::try_from(ip.total_len).unwrap();
                assert!(usize::from(ip.l4_offset) <= end && end <= len, "{ip:?}");
                assert_eq!(destination(window), Some(ip.dst));
            }
            // The same frame over a wire, where padding is nobody's business.
            let mut padded = frame.to_vec();
            padded.resize(len.max(60), 0);
            let (window, len) = crate::window(&padded);
            assert_eq!(parse(window, len, offload), Ok(packet), "padding alters nothing");
        }
    }
}
