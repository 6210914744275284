//! Software for what a receiver cannot take: finish checksums, segment super-frames, fragment; and
//! the opposite, coalesce, so that small frames cost fewer writes.
//!
//! All of it works on [`Frame`]s alone. A frame whose bytes contradict its offload description is
//! passed on unchanged: the kernel refuses it and the port counts the failed write, so nothing
//! vanishes here.

use stack::{Checksum, Frame, Gso, GsoKind, Offload};

use super::{Capabilities, Pool};

pub mod checksum;
pub mod coalesce;
pub mod fragment;
mod headers;
pub mod segment;

pub use coalesce::{Coalesced, Coalescer};

/// Makes of one frame those that a receiver with these capabilities takes, in order: mostly the
/// frame itself. They stand for the one frame together: it is written if each of them is.
pub fn prepare(frame: Frame, takes: &Capabilities, pool: &mut Pool, out: &mut Vec<Frame>) {
    let offload = *frame.offload();
    if is_taken(&offload, takes) {
        out.push(frame);
        return;
    }
    let begin = out.len();
    match offload.gso {
        Some(gso) if offload.fragment_mtu.is_some() || !takes_gso(takes, gso) => {
            segment::segment(frame, pool, out);
        }
        _whole => out.push(frame),
    }
    if let Some(mtu) = offload.fragment_mtu {
        for segment in out.split_off(begin) {
            fragment::fragment(segment, mtu, pool, out);
        }
    }
    for frame in out.iter_mut().skip(begin) {
        if !takes.checksum && frame.offload().gso.is_none() {
            checksum::complete(frame);
        }
    }
}

/// Whether a receiver with these capabilities takes such a frame as it is.
#[must_use]
pub fn is_taken(offload: &Offload, takes: &Capabilities) -> bool {
    offload.fragment_mtu.is_none()
        && offload.gso.is_none_or(|gso| takes_gso(takes, gso))
        && (takes.checksum || !matches!(offload.checksum, Checksum::Partial { .. }))
}

fn takes_gso(takes: &Capabilities, gso: Gso) -> bool {
    match gso.kind {
        // A super-frame's checksum is partial by nature.
        GsoKind::Tcp4 | GsoKind::Tcp6 => takes.tcp_gso && takes.checksum,
        GsoKind::Udp => takes.udp_gso && takes.checksum,
    }
}

#[cfg(test)]
mod tests;
