//! The writer against our reader, byte by byte, and against damaged bytes.

use super::read::{Block, Reader};
use super::*;

fn file() -> Vec<u8> {
    let mut out = Vec::new();
    section(&mut out, "test");
    interface(
        &mut out,
        &Interface { name: "pod/demo/a", description: "a port", filter: "tcp", snaplen: 0 },
    );
    packet(
        &mut out,
        &Packet {
            interface: 0,
            time: 0x0102_0304_0506_0708,
            original_len: 70,
            bytes: &[9; 61],
            flags: INBOUND | CHECKSUM_NOT_READY,
            id: Some(77),
            comment: "größer",
        },
    );
    statistics(&mut out, 0, 9, &Statistics { received: 4, lost: 3 });
    out
}

fn blocks(chunks: &[&[u8]]) -> Result<(Vec<Block>, usize), read::Malformed> {
    let mut reader = Reader::default();
    let (mut blocks, mut bytes) = (Vec::new(), 0);
    for chunk in chunks {
        reader.push(chunk);
        while let Some((block, raw)) = reader.block()? {
            bytes += raw.len();
            blocks.push(block);
        }
    }
    Ok((blocks, bytes))
}

#[test]
fn what_is_written_is_read() {
    let file = file();
    for at in 0..=file.len() {
        let (read, bytes) = blocks(&[&file[..at], &file[at..]]).unwrap();
        assert_eq!(bytes, file.len());
        let [Block::Section, Block::Interface(name), Block::Packet(packet), counted] = &read[..]
        else {
            panic!("{read:?}");
        };
        assert_eq!(name, "pod/demo/a");
        assert_eq!(packet.time, 0x0102_0304_0506_0708);
        assert_eq!((packet.original_len, packet.id, packet.flags), (70, 77, 0x201));
        assert_eq!((packet.bytes.as_slice(), packet.comment.as_str()), (&[9; 61][..], "größer"));
        assert_eq!(*counted, Block::Statistics(0, Statistics { received: 4, lost: 3 }));
    }
}

/// The layout of draft-ietf-opsawg-pcapng section 4.1: type, length, magic, 1.0, length -1.
#[test]
fn the_header_is_as_specified() {
    let mut out = Vec::new();
    section(&mut out, "abcde");
    assert_eq!(out[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
    assert_eq!(out[4..8], u32::try_from(out.len()).unwrap().to_le_bytes());
    assert_eq!(out[8..16], [0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0]);
    assert_eq!(out[16..24], [0xff; 8]);
    assert_eq!(out[24..36], [3, 0, 5, 0, b'L', b'i', b'n', b'u', b'x', 0, 0, 0]);
    assert_eq!(out[48..52], [0; 4], "end of options");
    assert_eq!(out[52..], out[4..8], "the length once more");
}

#[test]
fn damage_is_an_error_or_another_block_but_never_a_panic() {
    let file = file();
    for at in 0..file.len() {
        for value in [0, 1, 0x7f, 0xff] {
            let mut damaged = file.clone();
            damaged[at] = value;
            // Either is right; what counts is that it comes back, having read what is there and no
            // more.
            if let Ok((_, bytes)) = blocks(&[&damaged]) {
                assert!(bytes <= damaged.len());
            }
        }
    }
    let told = blocks(&[&[1; 64]]).unwrap_err().to_string();
    assert!(told.contains("length"), "{told}");
}

#[test]
fn an_overlong_comment_is_cut_between_characters() {
    let mut out = Vec::new();
    let comment = "ü".repeat(40_000);
    let packet_of = Packet {
        interface: 0,
        time: 0,
        original_len: 0,
        bytes: &[],
        flags: 0,
        id: None,
        comment: &comment,
    };
    packet(&mut out, &packet_of);
    let (read, _) = blocks(&[&out]).unwrap();
    let [Block::Packet(packet)] = &read[..] else { panic!("{read:?}") };
    assert_eq!(packet.comment, "ü".repeat(32_767));
}
