//! A device in pieces: what crosses from the process that opened it to the one that reads it.
//!
//! Descriptors go by SCM_RIGHTS, numbers as text beside them. A copy of the descriptors keeps the
//! device as it is, carrier and queue included, when the process that reads it ends.

use std::io;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use super::PortIo;
use super::icmp::{Copies, IcmpPort};
use super::loss::LossMeter;
use super::packet::PacketPort;
use super::tap::Tap;

/// Which driver, and the numbers it has from when the device was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Description {
    /// A TAP: its own descriptor, and the netlink socket that is asked what it lost.
    Tap {
        /// What the pod may hand to us (`TUN_F_*`).
        offloads: u32,
        /// Number of the interface in its namespace.
        index: u32,
        /// What the kernel had dropped when the device was opened.
        lost_before: u64,
    },
    /// A packet socket.
    Packet {
        /// Whether the kernel takes UDP super-frames.
        udp_gso: bool,
    },
    /// A raw socket for copies of ICMP packets.
    Icmp {
        /// Whether of ICMPv6.
        v6: bool,
        /// What the copies look like.
        copies: Copies,
    },
}

impl Description {
    /// How many descriptors such a device has.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        match self {
            Self::Tap { .. } => 2,
            Self::Packet { .. } | Self::Icmp { .. } => 1,
        }
    }
}

/// A device in pieces.
#[derive(Debug)]
pub struct Parts {
    /// Driver and numbers.
    pub description: Description,
    /// Its descriptors, in the driver's order.
    pub descriptors: Vec<OwnedFd>,
}

impl Parts {
    /// The same device once more.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn try_clone(&self) -> io::Result<Self> {
        let descriptors = self.descriptors.iter().map(OwnedFd::try_clone);
        Ok(Self {
            description: self.description,
            descriptors: descriptors.collect::<io::Result<_>>()?,
        })
    }

    /// Puts the device together again.
    ///
    /// # Errors
    /// When the descriptors are not those of such a device.
    pub fn open(self) -> io::Result<Box<dyn PortIo>> {
        match self.description {
            Description::Tap { .. } => Ok(Box::new(self.open_tap()?)),
            Description::Packet { udp_gso } => {
                let [socket] = exactly(self.descriptors)?;
                Ok(Box::new(PacketPort::from_parts(socket, udp_gso)))
            }
            Description::Icmp { .. } => Ok(Box::new(self.open_icmp()?)),
        }
    }

    /// As [`Parts::open`], where it has to be a TAP.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn open_tap(self) -> io::Result<Tap> {
        match self.description {
            Description::Tap { offloads, index, lost_before } => {
                let [tun, meter] = exactly(self.descriptors)?;
                let losses = LossMeter::from_parts(meter, index, lost_before);
                Ok(Tap::from_parts(tun, offloads, losses))
            }
            Description::Packet { .. } | Description::Icmp { .. } => Err(strange()),
        }
    }

    /// As [`Parts::open`], where it has to be a socket for ICMP.
    ///
    /// # Errors
    /// When it is none.
    pub(crate) fn open_icmp(self) -> io::Result<IcmpPort> {
        match self.description {
            Description::Icmp { v6, copies } => {
                let [socket] = exactly(self.descriptors)?;
                Ok(IcmpPort::from_parts(socket, v6, copies))
            }
            Description::Tap { .. } | Description::Packet { .. } => Err(strange()),
        }
    }

    /// Whether the device is still there, and for a TAP, still called so: an interface may be
    /// deleted or renamed behind our back, which its descriptor outlives.
    #[must_use]
    pub fn serves(&self, ifname: &str) -> bool {
        match (self.description, self.descriptors.as_slice()) {
            (Description::Tap { .. }, [tun, _]) => {
                super::tap::interface_of(tun).is_ok_and(|name| name == ifname)
            }
            (Description::Packet { .. }, [socket]) => super::packet::is_bound(socket),
            _ => false,
        }
    }
}

fn exactly<const N: usize>(descriptors: Vec<OwnedFd>) -> io::Result<[OwnedFd; N]> {
    descriptors.try_into().map_err(|_other| strange())
}

fn strange() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "these are not the parts of such a device")
}
