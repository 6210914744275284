//! What a connection costs in memory:
//! `cargo bench -p benches --no-default-features --bench connections`.
//!
//! A million connections by the address of a Service are opened and stay open, and a frame of each
//! goes where it should. What the process has in memory then, beyond what it had before the
//! first, is all that grows with connections: rows, index, and what hangs on them. Exit code 1 when
//! a must is missed.
#![expect(clippy::print_stdout, reason = "it reports to a terminal")]

use std::process::ExitCode;

use benches::{Crowd, Size};

const CONNECTIONS: u32 = 1_000_000;

/// Family, and bytes a connection that it must and that it should take at most.
const FAMILIES: [(&str, bool, u64, u64); 2] = [("IPv4", false, 128, 96), ("IPv6", true, 192, 144)];

fn main() -> ExitCode {
    let mut missed = false;
    for (family, is_ipv6, must, goal) in FAMILIES {
        let size = Size { connections: CONNECTIONS, services: 10_000, is_ipv6 };
        let mut crowd = Crowd::empty(size);
        let before = resident();
        crowd.open_all();
        let bytes = resident().saturating_sub(before) / u64::from(CONNECTIONS);
        let open = crowd.open_now();
        let met = bytes <= must && open == CONNECTIONS as usize;
        let word = if met { "met" } else { "MISSED" };
        println!(
            "{family}: {open} connections, {bytes} bytes each: must {must} {word}, goal {goal}"
        );
        missed |= !met;
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Bytes of this process that lie in memory, by the kernel's count.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.expect("a count of kilobytes") * 1_024
}
