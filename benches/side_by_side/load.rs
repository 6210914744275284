//! What the pods do while they are measured: streams, datagrams, requests. Sockets are made inside
//! the pods' namespaces and used by threads of the bench, the same ones on every path.
//!
//! - Streams: writes and reads of 128 KiB, as iperf3 does. Buffers are left to the kernel.
//! - Datagrams: `sendmmsg` and `recvmmsg` of up to 32, what a program does that cares about rates;
//!   socket buffers of 4 MB. The sender does not hold back; what arrives is counted.
//! - The paced stream: datagrams like those, from pod b to pod a, so that no queue in front of the
//!   switch is one that a load fills: 20,000 a second come in whatever else runs.
//! - Requests: 64 bytes there and 64 bytes back over one connection, one at a time, without Nagle.
//! - Connections: see [`crate::connect`].

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrIn, getsockopt, recvmmsg, sendmmsg, setsockopt, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::Fallible;
use crate::connect;
use crate::path::{POD_A, POD_B, Path};

/// Bytes of a datagram's payload.
pub(crate) const DATAGRAM: usize = 64;
/// Bytes of a request, and of its answer.
pub(crate) const REQUEST: usize = 64;
/// Socket buffers for datagrams, asked for on both sides, in bytes.
pub(crate) const DATAGRAM_BUFFER: usize = 4 << 20;
/// Datagrams a system call.
pub(crate) const DATAGRAM_BATCH: usize = 32;
/// Datagrams of the paced stream in a second.
pub(crate) const PACE: u64 = 20_000;
/// Between two groups of them.
const PACE_STEP: Duration = Duration::from_millis(1);
/// Where pod a receives them.
pub(crate) const PACED_PORT: u16 = 9_999;
/// Bytes of a stream's reads and writes.
pub(crate) const STREAM_CHUNK: usize = 128 << 10;

/// A load that runs. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    counts: Vec<Arc<AtomicU64>>,
    latencies: Arc<Mutex<Vec<u32>>>,
    sockets: Vec<TcpStream>,
    threads: Vec<JoinHandle<io::Result<()>>>,
}

impl Load {
    fn new() -> Self {
        Self {
            stop: Arc::default(),
            counts: Vec::new(),
            latencies: Arc::default(),
            sockets: Vec::new(),
            threads: Vec::new(),
        }
    }

    /// Streams from pod a to pod b; counts bytes.
    pub(crate) fn streams(path: &Path, streams: usize) -> Fallible<Self> {
        let mut load = Self::new();
        for _ in 0..streams {
            let (from, to) = connection(path)?;
            load.sockets.push(from.try_clone()?);
            load.spawn(move |stop, _count| write_stream(from, stop))?;
            load.spawn(move |stop, count| read_stream(to, stop, count))?;
        }
        Ok(load)
    }

    /// Datagrams from pod a to pod b; counts those that arrive.
    pub(crate) fn datagrams(path: &Path) -> Fallible<Self> {
        let server = path.server();
        let to = path.pod_b().within(|| UdpSocket::bind(server))??;
        let from = path.pod_a().within(|| UdpSocket::bind((POD_A, 0)))??;
        prepare(&from, &to, path.target(to.local_addr()?))?;
        let mut load = Self::new();
        load.spawn(move |stop, count| receive_datagrams(&to, stop, count))?;
        load.spawn(move |stop, _count| send_datagrams(&from, stop))?;
        Ok(load)
    }

    /// The paced stream from pod b to pod a; counts datagrams that arrive.
    pub(crate) fn paced(path: &Path) -> Fallible<Self> {
        let to = path.pod_a().within(|| UdpSocket::bind((POD_A, PACED_PORT)))??;
        let from = path.pod_b().within(|| UdpSocket::bind((POD_B, 0)))??;
        prepare(&from, &to, to.local_addr()?)?;
        let mut load = Self::new();
        load.spawn(move |stop, count| receive_datagrams(&to, stop, count))?;
        load.spawn(move |stop, _count| pace_datagrams(&from, stop))?;
        Ok(load)
    }

    /// Requests from pod a to pod b; counts answers.
    pub(crate) fn requests(path: &Path) -> Fallible<Self> {
        let mut load = Self::new();
        let (from, to) = connection(path)?;
        load.sockets.push(from.try_clone()?);
        load.spawn(move |stop, _count| answer(to, stop))?;
        let latencies = Arc::clone(&load.latencies);
        load.spawn(move |stop, count| {
            let mut taken = Vec::with_capacity(1 << 20);
            let asked = ask(from, stop, count, &mut taken);
            *latencies.lock().unwrap_or_else(PoisonError::into_inner) = taken;
            asked
        })?;
        Ok(load)
    }

    /// New connections from pod a to pod b, one after the other on each of a few threads; counts
    /// those that brought their byte.
    pub(crate) fn connections(path: &Path) -> Fallible<Self> {
        let server = path.server();
        let listener = path.pod_b().within(|| TcpListener::bind(server))??;
        let target = path.target(listener.local_addr()?);
        // So that the server looks whether it shall end.
        setsockopt(&listener, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100))?;
        let mut load = Self::new();
        load.spawn(move |stop, _count| connect::serve(&listener, stop))?;
        for _ in 0..connect::CLIENTS {
            let pod = path.pod_a().path();
            load.spawn(move |stop, count| connect::ask(&pod, &target, stop, count))?;
        }
        Ok(load)
    }

    fn spawn(
        &mut self,
        work: impl FnOnce(&AtomicBool, &AtomicU64) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let count = Arc::new(AtomicU64::new(0));
        self.counts.push(Arc::clone(&count));
        let stop = Arc::clone(&self.stop);
        let work = move || match work(&stop, &count) {
            // What a socket says after it was shut down for the end is no error.
            Err(_) if stop.load(Ordering::Relaxed) => Ok(()),
            done => done,
        };
        self.threads.push(thread::Builder::new().spawn(work)?);
        Ok(())
    }

    /// What has arrived since the begin.
    pub(crate) fn amount(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    /// Ends it. Gives the time of each request in nanoseconds, in their order.
    pub(crate) fn end(mut self) -> Fallible<Vec<u32>> {
        for done in self.finish() {
            done?;
        }
        let latencies = Arc::clone(&self.latencies);
        let mut taken = latencies.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *taken))
    }

    fn finish(&mut self) -> Vec<io::Result<()>> {
        self.stop.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            // One that is closed already needs no shutdown.
            drop(socket.shutdown(Shutdown::Both));
        }
        let panicked = |_panic| Err(io::Error::other("a thread of the load panicked"));
        self.threads.drain(..).map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        drop(self.finish());
    }
}

/// Makes a pair of sockets for datagrams, of which the first reaches the second at an address.
fn prepare(from: &UdpSocket, to: &UdpSocket, target: SocketAddr) -> Fallible<()> {
    from.connect(target)?;
    for socket in [from, to] {
        setsockopt(socket, sockopt::SndBufForce, &DATAGRAM_BUFFER)?;
        setsockopt(socket, sockopt::RcvBufForce, &DATAGRAM_BUFFER)?;
    }
    // So that the receiver looks whether it shall end.
    to.set_read_timeout(Some(Duration::from_millis(100)))?;
    Ok(())
}

/// A connection from pod a to pod b, both ends, with cubic in charge.
fn connection(path: &Path) -> Fallible<(TcpStream, TcpStream)> {
    let server = path.server();
    let listener = path.pod_b().within(|| TcpListener::bind(server))??;
    let target = path.target(listener.local_addr()?);
    let patience = Duration::from_secs(3);
    let from = path.pod_a().within(|| TcpStream::connect_timeout(&target, patience))??;
    let (to, _peer) = listener.accept()?;
    for socket in [&from, &to] {
        let control = getsockopt(socket, sockopt::TcpCongestion)?;
        let control = control.to_string_lossy();
        if control.trim_end_matches('\0') != "cubic" {
            return Err(format!("a socket has {control} for its congestion control").into());
        }
    }
    Ok((from, to))
}

fn write_stream(mut socket: TcpStream, stop: &AtomicBool) -> io::Result<()> {
    let chunk = vec![0x5a; STREAM_CHUNK];
    while !stop.load(Ordering::Relaxed) {
        socket.write_all(&chunk)?;
    }
    Ok(())
}

fn read_stream(mut socket: TcpStream, stop: &AtomicBool, count: &AtomicU64) -> io::Result<()> {
    let mut chunk = vec![0; STREAM_CHUNK];
    while !stop.load(Ordering::Relaxed) {
        let read = socket.read(&mut chunk)?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn send_datagrams(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<()> {
    let mut headers = MultiHeaders::preallocate(DATAGRAM_BATCH, None);
    while !stop.load(Ordering::Relaxed) {
        send_some(socket, DATAGRAM_BATCH, &mut headers)?;
    }
    Ok(())
}

/// Sends as many as are due, a group a step. Steps that were slept through are made up for.
fn pace_datagrams(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<()> {
    let mut headers = MultiHeaders::preallocate(DATAGRAM_BATCH, None);
    let begin = Instant::now();
    let mut sent: u64 = 0;
    while !stop.load(Ordering::Relaxed) {
        let micros = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let due = micros.saturating_mul(PACE) / 1_000_000;
        while sent < due {
            let some = usize::try_from(due - sent).unwrap_or(usize::MAX).min(DATAGRAM_BATCH);
            send_some(socket, some, &mut headers)?;
            sent += some as u64;
        }
        thread::sleep(PACE_STEP);
    }
    Ok(())
}

/// Sends up to a batch.
fn send_some(
    socket: &UdpSocket,
    some: usize,
    headers: &mut MultiHeaders<SockaddrIn>,
) -> io::Result<()> {
    let payload = [0x5a; DATAGRAM];
    let slices: [[IoSlice<'_>; 1]; DATAGRAM_BATCH] =
        std::array::from_fn(|_| [IoSlice::new(&payload)]);
    let addresses: [Option<SockaddrIn>; DATAGRAM_BATCH] = [None; DATAGRAM_BATCH];
    let slices = slices.get(..some).unwrap_or(&slices);
    match sendmmsg(socket.as_raw_fd(), headers, slices, addresses, [], MsgFlags::empty()) {
        // A full queue drops: that is what is measured.
        Ok(_) | Err(Errno::EINTR | Errno::ENOBUFS | Errno::EAGAIN) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn receive_datagrams(socket: &UdpSocket, stop: &AtomicBool, count: &AtomicU64) -> io::Result<()> {
    let mut buffers = [[0; 2 * DATAGRAM]; DATAGRAM_BATCH];
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(DATAGRAM_BATCH, None);
    while !stop.load(Ordering::Relaxed) {
        let mut slices = buffers.each_mut().map(|buffer| [IoSliceMut::new(buffer)]);
        let flags = MsgFlags::MSG_WAITFORONE;
        match recvmmsg(socket.as_raw_fd(), &mut headers, &mut slices, flags, None) {
            Ok(messages) => {
                let whole = messages.filter(|message| message.bytes == DATAGRAM).count();
                count.fetch_add(whole as u64, Ordering::Relaxed);
            }
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn answer(mut socket: TcpStream, stop: &AtomicBool) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut bytes = [0; REQUEST];
    while !stop.load(Ordering::Relaxed) {
        socket.read_exact(&mut bytes)?;
        socket.write_all(&bytes)?;
    }
    Ok(())
}

fn ask(
    mut socket: TcpStream,
    stop: &AtomicBool,
    count: &AtomicU64,
    taken: &mut Vec<u32>,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut bytes = [0; REQUEST];
    while !stop.load(Ordering::Relaxed) {
        let begin = Instant::now();
        socket.write_all(&bytes)?;
        socket.read_exact(&mut bytes)?;
        taken.push(u32::try_from(begin.elapsed().as_nanos()).unwrap_or(u32::MAX));
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}
