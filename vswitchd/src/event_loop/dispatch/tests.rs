//! What is counted when writes fail and when the kernel lost frames: a device that does so on
//! demand.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::eventfd::EventFd;
use stack::wire::build::{Link, flags};
use stack::{
    Change, Checksum, Config, Frame, Gso, GsoKind, Limits, Offload, PortConfig, PortId, PortKind,
    Seeds, Switch,
};

use super::Attached;
use crate::event_loop::{DriverCounters, start};
use crate::port::{Capabilities, Losses, Pool, PortIo};

const PORT: PortId = PortId(7);
const EVERYTHING: Capabilities = Capabilities { checksum: true, tcp_gso: true, udp_gso: true };

/// A device without a kernel. Its writes fail as told, counted from 1.
struct Failing {
    descriptor: EventFd,
    capabilities: Capabilities,
    writes: u32,
    errors: BTreeMap<u32, i32>,
    lost: Arc<AtomicU64>,
}

impl Failing {
    fn new(capabilities: Capabilities, errors: &[(u32, i32)]) -> Self {
        let errors = errors.iter().copied().collect();
        let descriptor = EventFd::new().unwrap();
        Self { descriptor, capabilities, writes: 0, errors, lost: Arc::default() }
    }
}

impl PortIo for Failing {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn receive(&mut self, _pool: &mut Pool) -> io::Result<Option<Frame>> {
        Err(io::Error::from_raw_os_error(libc::EIO))
    }

    fn transmit(&mut self, _frame: &mut Frame) -> io::Result<()> {
        self.writes += 1;
        match self.errors.get(&self.writes) {
            Some(errno) => Err(io::Error::from_raw_os_error(*errno)),
            None => Ok(()),
        }
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn losses(&mut self) -> io::Result<Losses> {
        Ok(Losses { frames: self.lost.load(Ordering::Relaxed) })
    }
}

fn attached(capabilities: Capabilities, errors: &[(u32, i32)]) -> Attached {
    Attached::new(PORT, Box::new(Failing::new(capabilities, errors)))
}

fn link() -> Link {
    let mac = |n| smoltcp::wire::EthernetAddress([2, 0, 0, 0, 0, n]);
    Link { src: mac(1), dst: mac(2) }
}

fn datagram(l4_port: u16) -> Frame {
    let ip = link().ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let bytes = ip.udp(1, l4_port, &[7; 100]);
    // As drivers have it, with room behind: others are appended there.
    let mut frame = Frame::with_capacity(2_000);
    frame.set_len(bytes.len());
    frame.bytes_mut().copy_from_slice(&bytes);
    frame
}

/// TCP that becomes three segments.
fn super_frame() -> Frame {
    let ip = link().ipv4([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
    let mut frame = Frame::from_bytes(&ip.tcp((1, 2), flags::ACK, 1, 1, &[7; 3_000]));
    frame.set_offload(Offload {
        checksum: Checksum::Partial { start: 34, offset: 16 },
        gso: Some(Gso { kind: GsoKind::Tcp4, size: 1_000, ecn: false }),
        fragment_mtu: None,
    });
    frame
}

fn counted(written: u64, failed: &[(i32, u64)]) -> DriverCounters {
    let failed = failed.iter().copied().collect();
    DriverCounters { written, failed, ..DriverCounters::default() }
}

#[test]
fn a_frame_is_written_or_failed() {
    let pool = &mut Pool::new();
    let mut port = attached(EVERYTHING, &[(2, libc::EIO), (3, libc::ENOBUFS), (5, libc::EIO)]);
    for _ in 0..5 {
        port.write(datagram(1), pool);
    }
    assert_eq!(port.counters, counted(2, &[(libc::EIO, 2), (libc::ENOBUFS, 1)]));
}

#[test]
fn a_frame_in_pieces_is_written_when_all_are() {
    let pool = &mut Pool::new();
    for (failing, errno) in [(1, libc::EIO), (2, libc::EIO), (3, libc::ENOBUFS)] {
        let mut port = attached(Capabilities::default(), &[(failing, errno)]);
        port.write(super_frame(), pool);
        assert_eq!(port.counters, counted(0, &[(errno, 1)]), "piece {failing}");
        port.write(super_frame(), pool);
        assert_eq!(port.counters, counted(1, &[(errno, 1)]), "the next one is not concerned");
    }
    let mut port = attached(Capabilities::default(), &[(2, libc::ENOBUFS), (3, libc::EIO)]);
    port.write(super_frame(), pool);
    assert_eq!(port.counters, counted(0, &[(libc::ENOBUFS, 1)]), "once, by the first error");
}

#[test]
fn merged_frames_are_counted_each() {
    let pool = &mut Pool::new();
    // Three datagrams of one flow leave as one frame, the two of others by themselves.
    for (failing, expected) in [
        (1, counted(2, &[(libc::EIO, 3)])),
        (2, counted(4, &[(libc::EIO, 1)])),
        (4, counted(5, &[])),
    ] {
        let mut port = attached(EVERYTHING, &[(failing, libc::EIO)]);
        port.waiting = [9, 9, 9, 8, 7].map(datagram).into();
        port.flush(pool);
        assert_eq!(port.counters, expected, "write {failing} failed");
    }
}

/// A switch with one pod, so that the loop polls its device.
fn switch() -> Switch {
    let pod = PortConfig {
        id: PORT,
        kind: PortKind::Pod,
        mac: link().src,
        addresses: vec![],
        allowed: vec![],
        mtu: 1_500,
        up: true,
    };
    let config = Config { ports: vec![pod], complete: true, ..Config::default() };
    Switch::new(config, Limits::default(), Seeds::default())
}

#[test]
fn losses_of_the_kernel_outlive_the_device_and_the_port() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (handle, ended) = start(switch()).unwrap();
        let lost_of = async |handle: &crate::event_loop::Handle| {
            // What the kernel lost is asked for anew after a while only.
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            let lost = |counters: &DriverCounters| counters.lost.frames;
            handle
                .ask(move |view| (view.drivers.get(&PORT).map(lost), lost(view.gone)))
                .await
                .unwrap()
        };
        for (first, expected) in [(3, 3), (4, 7)] {
            let io = Failing::new(EVERYTHING, &[]);
            let lost = Arc::clone(&io.lost);
            handle.attach(PORT, Box::new(io)).unwrap();
            lost.store(first - 1, Ordering::Relaxed);
            assert_eq!(lost_of(&handle).await, (Some(expected - 1), 0));
            lost.store(first, Ordering::Relaxed);
            handle.detach(PORT).await.unwrap();
            assert_eq!(lost_of(&handle).await, (Some(expected), 0), "of all its devices");
        }
        handle.change(Change::PortRemoved(PORT)).await.unwrap().unwrap();
        assert_eq!(lost_of(&handle).await, (None, 7), "with what removed ports had counted");
        handle.stop().unwrap();
        drop(ended.await);
    });
}

/// What devices were asked for, in order.
type Asked = Arc<std::sync::Mutex<Vec<&'static str>>>;

/// A device that gives what the test left for it, and says what was asked of it.
struct Told {
    descriptor: EventFd,
    frames: Arc<std::sync::Mutex<Vec<Frame>>>,
    asked: Asked,
    words: [&'static str; 3],
}

impl PortIo for Told {
    fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    fn receive(&mut self, _pool: &mut Pool) -> io::Result<Option<Frame>> {
        let frame = self.frames.lock().unwrap().pop();
        let [some, none, _] = self.words;
        self.asked.lock().unwrap().push(if frame.is_some() { some } else { none });
        if frame.is_none() {
            // Level-triggered: there is nothing to poll for any more.
            let _drained = self.descriptor.read();
        }
        Ok(frame)
    }

    fn transmit(&mut self, _frame: &mut Frame) -> io::Result<()> {
        let [.., write] = self.words;
        self.asked.lock().unwrap().push(write);
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        EVERYTHING
    }

    fn losses(&mut self) -> io::Result<Losses> {
        Ok(Losses::default())
    }
}

/// Two pods, so that what one sends leaves by the other.
fn two_pods() -> Switch {
    let pod = |id: u8| PortConfig {
        id: PortId(u32::from(id)),
        kind: PortKind::Pod,
        mac: smoltcp::wire::EthernetAddress([2, 0, 0, 0, 0, id]),
        addresses: vec![smoltcp::wire::IpAddress::v4(10, 0, 0, id)],
        allowed: vec![],
        mtu: 1_500,
        up: true,
    };
    let ports = vec![pod(1), pod(2)];
    let config = Config { ports, complete: true, ..Config::default() };
    Switch::new(config, Limits::default(), Seeds::default())
}

#[test]
fn a_lone_frame_is_written_before_a_second_is_asked_for() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (handle, ended) = start(two_pods()).unwrap();
        let asked = Asked::default();
        let frames = Arc::new(std::sync::Mutex::new(Vec::new()));
        let device = |words| Told {
            descriptor: EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_NONBLOCK).unwrap(),
            frames: Arc::default(),
            asked: Arc::clone(&asked),
            words,
        };
        let one = Told { frames: Arc::clone(&frames), ..device(["read", "empty", "?"]) };
        let wake = one.descriptor.as_fd().try_clone_to_owned().unwrap();
        let other = device(["?", "?", "write"]);
        handle.attach(PortId(1), Box::new(one)).unwrap();
        handle.attach(PortId(2), Box::new(other)).unwrap();
        handle.ask(|_view| ()).await.unwrap();
        let turn = async |count: u16| {
            frames.lock().unwrap().extend((0..count).map(|n| datagram(80 + n)));
            nix::unistd::write(&wake, &1_u64.to_ne_bytes()).unwrap();
            while !asked.lock().unwrap().contains(&"empty") {
                std::thread::yield_now();
            }
            // Answered when the turn is over.
            handle.ask(|_view| ()).await.unwrap();
            std::mem::take(&mut *asked.lock().unwrap())
        };
        // Nothing is known of it yet, and many at once are worth waiting for.
        assert_eq!(turn(1).await, ["read", "empty", "write"]);
        assert_eq!(turn(1).await, ["read", "write", "empty"]);
        // The first of many is not known to be one.
        assert_eq!(turn(3).await, ["read", "write", "read", "read", "empty", "write", "write"]);
        assert_eq!(turn(1).await, ["read", "empty", "write"]);
        assert_eq!(turn(1).await, ["read", "write", "empty"]);
        handle.stop().unwrap();
        drop(ended.await);
    });
}

#[test]
fn frames_of_a_side_device_come_in_by_its_port_and_none_go_out_by_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (handle, ended) = start(two_pods()).unwrap();
        let asked = Asked::default();
        let device = |words| Told {
            descriptor: EventFd::from_flags(nix::sys::eventfd::EfdFlags::EFD_NONBLOCK).unwrap(),
            frames: Arc::default(),
            asked: Arc::clone(&asked),
            words,
        };
        let (one, side) = (device(["?", "?", "to 1"]), device(["side", "empty", "?"]));
        let other = device(["other", "empty", "to 2"]);
        let devices = [&side, &other].map(|device| {
            (Arc::clone(&device.frames), device.descriptor.as_fd().try_clone_to_owned().unwrap())
        });
        handle.attach(PortId(1), Box::new(one)).unwrap();
        handle.attach_side(PortId(1), Box::new(side)).unwrap();
        handle.attach(PortId(2), Box::new(other)).unwrap();
        let turn = async |(frames, wake): &(Arc<std::sync::Mutex<Vec<Frame>>>, _), frame| {
            frames.lock().unwrap().push(frame);
            nix::unistd::write(wake, &1_u64.to_ne_bytes()).unwrap();
            // Found, looked for another, passed on.
            let began = std::time::Instant::now();
            while asked.lock().unwrap().len() < 3 && began.elapsed().as_secs() < 5 {
                std::thread::yield_now();
            }
            // Whatever else it may do with it.
            handle.ask(|_view| ()).await.unwrap();
            std::mem::take(&mut *asked.lock().unwrap())
        };
        let back = Link { src: link().dst, dst: link().src };
        let back = back.ipv4([10, 0, 0, 2].into(), [10, 0, 0, 1].into()).udp(1, 2, &[7; 100]);
        let [side, other] = devices;
        assert_eq!(turn(&side, datagram(80)).await, ["side", "empty", "to 2"]);
        assert_eq!(turn(&other, Frame::from_bytes(&back)).await, ["other", "empty", "to 1"]);
        assert_eq!(Arc::strong_count(&side.0), 2);
        handle.detach(PortId(1)).await.unwrap();
        assert_eq!(Arc::strong_count(&side.0), 1, "it goes with its port's device");
        assert_eq!(Arc::strong_count(&other.0), 2);
        handle.stop().unwrap();
        drop(ended.await);
    });
}

#[test]
fn a_side_device_that_breaks_leaves_its_port_up_and_all_of_a_ports_devices_are_counted() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let (handle, ended) = start(switch()).unwrap();
        let devices = [3, 4].map(|lost| {
            let device = Failing::new(EVERYTHING, &[]);
            device.lost.store(lost, Ordering::Relaxed);
            device
        });
        let wakes: Vec<_> = devices
            .iter()
            .map(|device| device.descriptor.as_fd().try_clone_to_owned().unwrap())
            .collect();
        let [device, side] = devices;
        handle.attach(PORT, Box::new(device)).unwrap();
        handle.attach_side(PORT, Box::new(side)).unwrap();
        let look = async || {
            // What the kernel lost is asked for anew after a while only.
            tokio::time::sleep(std::time::Duration::from_millis(150)).await;
            let seen = handle.ask(|view| {
                let ports = view.switch.config().ports;
                (ports.first().map(|port| port.up), view.drivers.get(&PORT).cloned())
            });
            let (up, counters) = seen.await.unwrap();
            let counters = counters.unwrap();
            (up.unwrap(), counters.lost.frames, counters.receive_failed.get(&libc::EIO).copied())
        };
        assert_eq!(look().await, (true, 7, None));
        for (wake, expected) in wakes.iter().rev().zip([(true, 7, Some(1)), (false, 7, Some(2))]) {
            nix::unistd::write(wake, &1_u64.to_ne_bytes()).unwrap();
            assert_eq!(look().await, expected);
        }
        handle.detach(PORT).await.unwrap();
        assert_eq!(look().await, (false, 7, Some(2)), "with all its devices gone");
        handle.stop().unwrap();
        drop(ended.await);
    });
}
