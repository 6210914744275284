//! TAP: a pod's device and the node's own, one read or write a frame, offloads described by a
//! virtio-net header.
//!
//! A super-frame passes from TAP to TAP untouched: nobody segments it and nobody sums its payload.
//! The header is read into and written from the frame's headroom, directly before the frame.

#![expect(unsafe_code, reason = "the TUN ioctls have no safe wrapper")]

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use stack::Frame;

use super::loss::LossMeter;
use super::parts::Description;
use super::{Capabilities, Losses, Parts, Pool, PortIo, vnet};

/// An attached TAP. The device goes with the last descriptor unless it is persistent.
///
/// The descriptor belongs to the network namespace it was made in, and keeps it alive.
#[derive(Debug)]
pub struct Tap {
    file: std::fs::File,
    /// What the pod may hand to us, as the kernel took it (`TUN_F_*`).
    offloads: libc::c_uint,
    losses: LossMeter,
    /// Frames read whose header says what [`stack::Offload`] cannot.
    refused: u64,
}

impl Tap {
    /// Makes a TAP in the calling thread's network namespace. It is down and has no addresses.
    ///
    /// # Errors
    /// Says what failed; `AlreadyExists` when there is an interface of this name. Nothing stays
    /// behind.
    pub fn create(name: &str, persist: bool) -> io::Result<Self> {
        let file = open_tun()?;
        set_interface(&file, name, libc::IFF_TUN_EXCL).map_err(|error| {
            match error.raw_os_error() {
                Some(libc::EBUSY) => io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("cannot make the TAP {name}: an interface of this name exists"),
                ),
                _other => explain(&format!("cannot make the TAP {name}"), &error),
            }
        })?;
        let index = if_nametoindex(name)?;
        let mut tap = Self::configure(file, name, index)?;
        if persist {
            tap.set_persist(true)?;
        }
        Ok(tap)
    }

    /// Attaches to the persistent TAP `name` of the calling thread's network namespace. Frames that
    /// the pod sent while nobody was attached are lost.
    ///
    /// # Errors
    /// Says what failed: `NotFound` when there is no such interface, `ResourceBusy` when somebody
    /// is attached to it.
    pub fn attach(name: &str) -> io::Result<Self> {
        let absent = |_errno| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("cannot attach to the TAP {name}: there is no interface of this name"),
            )
        };
        // ENODEV is the one errno this has for a name.
        let index = if_nametoindex(name).map_err(absent)?;
        let file = open_tun()?;
        set_interface(&file, name, 0)
            .map_err(|error| explain(&format!("cannot attach to the TAP {name}"), &error))?;
        // TUNSETIFF makes what it does not find. If the interface vanished since the look above,
        // this one is new; it is not persistent and goes when `file` is closed here.
        if if_nametoindex(name)? != index {
            return Err(absent(Errno::ENODEV));
        }
        Self::configure(file, name, index)
    }

    /// Whether the device outlives its last descriptor.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_persist(&mut self, persist: bool) -> io::Result<()> {
        ioctl_value(&self.file, libc::TUNSETPERSIST, libc::c_ulong::from(persist))
            .map_err(|error| explain("cannot change the persistence of a TAP", &error))
    }

    /// Makes the kernel finish checksums and segment before it hands a frame over.
    #[cfg(test)]
    pub(crate) fn refuse_offloads(&self) -> io::Result<()> {
        ioctl_value(&self.file, libc::TUNSETOFFLOAD, 0)
    }

    /// A TAP that another process opened.
    pub(super) fn from_parts(tun: OwnedFd, offloads: libc::c_uint, losses: LossMeter) -> Self {
        Self { file: tun.into(), offloads, losses, refused: 0 }
    }

    fn configure(file: std::fs::File, name: &str, index: libc::c_uint) -> io::Result<Self> {
        let mut header_len = libc::c_int::try_from(HEADER_LEN).map_err(io::Error::other)?;
        // SAFETY: TUNSETVNETHDRSZ reads one int, which lives through the call.
        let result =
            unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &raw mut header_len) };
        Errno::result(result).map_err(|errno| {
            explain(&format!("cannot set the header size of the TAP {name}"), &errno.into())
        })?;
        let offloads = OFFLOADS
            .into_iter()
            .find(|bits| {
                ioctl_value(&file, libc::TUNSETOFFLOAD, libc::c_ulong::from(*bits)).is_ok()
            })
            .ok_or_else(|| {
                io::Error::other(format!("the TAP {name} takes no offloads, not even checksums"))
            })?;
        Ok(Self { file, offloads, losses: LossMeter::new(index)?, refused: 0 })
    }
}

impl PortIo for Tap {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn receive(&mut self, pool: &mut Pool) -> io::Result<Option<Frame>> {
        let mut frame = pool.take();
        loop {
            match self.file.read(frame.with_front_mut(HEADER_LEN)) {
                Ok(read) => {
                    let header = frame.with_front_mut(HEADER_LEN).get(..vnet::LEN.min(read));
                    if let Some(offload) = header.and_then(vnet::decode) {
                        frame.set_offload(offload);
                        frame.set_len(read.saturating_sub(HEADER_LEN));
                        return Ok(Some(frame));
                    }
                    self.refused += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    pool.give(frame);
                    let empty = error.kind() == io::ErrorKind::WouldBlock;
                    return if empty { Ok(None) } else { Err(error) };
                }
            }
        }
    }

    fn transmit(&mut self, frame: &mut Frame) -> io::Result<()> {
        let bytes =
            vnet::prefix::<HEADER_LEN>(frame).ok_or_else(|| io::Error::from(Errno::ENOBUFS))?;
        loop {
            match self.file.write(bytes) {
                // A TAP takes a frame whole or not at all.
                Ok(_written) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn capabilities(&self) -> Capabilities {
        // What is written is judged by nothing that was set: the kernel takes partial checksums and
        // TCP super-frames from anybody. It knows UDP ones since the version that knows the
        // USO bits.
        let udp_gso = self.offloads & libc::TUN_F_USO4 != 0;
        Capabilities { checksum: true, tcp_gso: true, udp_gso }
    }

    fn losses(&mut self) -> io::Result<Losses> {
        Ok(Losses { frames: self.losses.lost()?.saturating_add(self.refused) })
    }

    fn into_parts(self: Box<Self>) -> io::Result<Parts> {
        let Self { file, offloads, losses, refused: _ } = *self;
        let (meter, index, lost_before) = losses.into_parts();
        Ok(Parts {
            description: Description::Tap { offloads, index, lost_before },
            descriptors: vec![file.into(), meter],
        })
    }
}

/// What the interface behind a TAP's descriptor is called now; EBADFD when it is gone.
pub(super) fn interface_of(tun: &OwnedFd) -> io::Result<String> {
    // SAFETY: an ifreq is plain bytes, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // SAFETY: TUNGETIFF writes one ifreq, which lives through the call.
    let result = unsafe { libc::ioctl(tun.as_raw_fd(), TUNGETIFF, &raw mut request) };
    Errno::result(result)?;
    let name = request.ifr_name.iter().map(|byte| byte.cast_unsigned());
    let name: Vec<u8> = name.take_while(|byte| *byte != 0).collect();
    String::from_utf8(name).map_err(io::Error::other)
}

fn open_tun() -> io::Result<std::fs::File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open("/dev/net/tun")
        .map_err(|error| explain("cannot open /dev/net/tun (load the module tun)", &error))
}

fn set_interface(file: &std::fs::File, name: &str, more_flags: libc::c_int) -> io::Result<()> {
    // A name without its end would be cut, an empty one or one with % is a pattern for the kernel.
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['%', '/', '\0']) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} is no interface name: 1 to 15 bytes, without / and %"),
        ));
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | more_flags;
    // SAFETY: an ifreq is plain bytes, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    // The kernel's flags are 16 bits; the topmost is IFF_TUN_EXCL.
    request.ifr_ifru.ifru_flags = u16::try_from(flags).map_err(io::Error::other)?.cast_signed();
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    Errno::result(result)?;
    Ok(())
}

/// An ioctl whose argument is a number, not a pointer.
fn ioctl_value(file: &std::fs::File, request: libc::Ioctl, value: libc::c_ulong) -> io::Result<()> {
    // SAFETY: TUNSETPERSIST and TUNSETOFFLOAD, the two requests given here, take their argument by
    // value.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), request, value) };
    Errno::result(result)?;
    Ok(())
}

fn explain(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// `_IOR('T', 210, unsigned int)` of linux/if_tun.h.
const TUNGETIFF: libc::Ioctl = 0x8004_54d2;

/// Size of the virtio-net header. 24 from the begin: a TAP that shall take tunnel super-frames
/// needs it, and shrinking it later makes the kernel copy the wrong length.
const HEADER_LEN: usize = 24;

const PLAIN: libc::c_uint =
    libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN;

/// What a pod may hand to us, tried in this order. USO4 and USO6 go together or not at all
/// (EINVAL).
///
/// Super-frames inside a UDP tunnel (0x180) stay off: [`stack::Offload`] has no words for two sets
/// of headers, and without the bits a pod's kernel segments its own VXLAN before it hands it over.
/// The side we write needs no bit for them, only the header's 24 bytes.
const OFFLOADS: [libc::c_uint; 3] =
    [PLAIN | libc::TUN_F_USO4 | libc::TUN_F_USO6, PLAIN, libc::TUN_F_CSUM];
