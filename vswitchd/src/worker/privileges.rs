//! Gives up every capability, for good.
//!
//! A process of uid 0 would get its capabilities back by an exec; `no_new_privs` keeps it from
//! that, and so does the empty bounding set, where it may be emptied (that needs CAP_SETPCAP, which
//! a container may lack).

use std::io;

use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Capabilities have 64 bits, of which the kernel knows the first few dozen.
const BITS: u32 = 64;

/// Leaves the calling thread without privileges, and every thread and program it starts. Called
/// before there is another thread.
///
/// # Errors
/// The kernel's; when any capability is left.
pub(super) fn give_up() -> io::Result<()> {
    set_no_new_privs(true)?;
    clear_ambient_capability_set()?;
    empty_bounding_set()?;
    let none = CapabilitySet::empty();
    let nothing = CapabilitySets { effective: none, permitted: none, inheritable: none };
    set_capabilities(None, nothing)?;
    if capabilities(None)? == nothing {
        return Ok(());
    }
    Err(io::Error::other("some capabilities are left"))
}

fn empty_bounding_set() -> io::Result<()> {
    for bit in 0..BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << bit)) {
            Ok(()) => {}
            // The kernel knows no more of them.
            Err(Errno::INVAL) => break,
            // Not allowed to; `no_new_privs` does it alone.
            Err(Errno::PERM) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_roots_privileges() {
        // On a thread of its own: what it gives up no other test needs.
        std::thread::spawn(|| {
            give_up().unwrap();
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let value = |key: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap();
                line.trim().to_owned()
            };
            for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
                assert_eq!(value(set), "0000000000000000", "{set}");
            }
            assert_eq!(value("NoNewPrivs:"), "1");
            if nix::unistd::geteuid().is_root() {
                assert_eq!(value("CapBnd:"), "0000000000000000");
                let file = std::fs::File::open("/proc/self/ns/net").unwrap();
                let flags = nix::sched::CloneFlags::CLONE_NEWNET;
                assert_eq!(nix::sched::setns(&file, flags), Err(nix::errno::Errno::EPERM));
            }
        })
        .join()
        .unwrap();
    }
}
