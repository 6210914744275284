//! A capture as it arrives: lines for people, a file, a pipe.

use std::future::pending;
use std::io::{self, Write};
use std::path::PathBuf;
use std::pin::Pin;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Duration, Sleep, sleep};

use super::super::client::Client;
use super::super::output::{Output, Tone};
use super::super::packet_line::line;
use super::super::{Answer, Failure, Outcome};
use super::create;
use super::pipe::{Pipe, Reader as OtherEnd};
use super::viewer::Viewer;
use crate::capture::pcapng::read::{Block, Reader};

/// Where packets go. What is not there yet is made when the capture is granted.
pub(in super::super) enum Sink {
    /// To people.
    Lines(Output),
    /// To a file.
    File(PathBuf),
    /// To a FIFO that another program reads.
    Fifo(PathBuf),
    /// To a Wireshark of our own.
    Viewer(Viewer),
    /// To what is open.
    Bytes(Box<dyn Write>),
}

/// A capture as it arrives.
pub(in super::super) struct Run {
    sink: Sink,
    /// Whether it was granted.
    begun: bool,
    /// Whether the user has ended it.
    stopped: bool,
    /// Who reads what is written, if that is a pipe of our own.
    other_end: Option<OtherEnd>,
    /// The Wireshark that shows it.
    viewer: Option<Child>,
    /// Whole blocks that its pipe has not taken yet; `None` while they are written at once.
    queue: Option<Vec<u8>>,
    /// Why blocks could not be taken.
    failure: Option<Failure>,
    reader: Reader,
    /// Whole blocks to be written.
    whole: Vec<u8>,
    /// Names of the interfaces, in order.
    points: Vec<String>,
    /// Frames so far.
    seen: u64,
    /// Packets lost, once the end has come.
    lost: Option<u64>,
}

impl Run {
    /// None so far.
    pub(in super::super) fn new(sink: Sink) -> Self {
        Self {
            sink,
            begun: false,
            stopped: false,
            other_end: None,
            viewer: None,
            queue: None,
            failure: None,
            reader: Reader::default(),
            whole: Vec::new(),
            points: Vec::new(),
            seen: 0,
            lost: None,
        }
    }

    /// The capture was granted: what packets go to is made. Gives back what there is to say of it.
    pub(super) fn begin(&mut self) -> Result<Option<String>, Failure> {
        let (bytes, told): (Box<dyn Write>, _) = match &self.sink {
            Sink::Lines(_) | Sink::Bytes(_) => {
                self.begun = true;
                return Ok(None);
            }
            Sink::File(path) => {
                let told = format!("capturing to {}; end with Ctrl-C", path.display());
                (Box::new(create(path)?), Some(told))
            }
            Sink::Fifo(path) => {
                let (pipe, other_end) = Pipe::open(path)?;
                self.other_end = Some(other_end);
                (Box::new(pipe), None)
            }
            Sink::Viewer(viewer) => {
                let (child, stdin) = viewer.start()?;
                let (pipe, other_end) = Pipe::new(stdin)?;
                (self.viewer, self.other_end) = (Some(child), Some(other_end));
                let told = format!("capturing into {viewer}; close it or press Ctrl-C to end");
                (Box::new(pipe), Some(told))
            }
        };
        self.sink = Sink::Bytes(bytes);
        self.begun = true;
        Ok(told)
    }

    /// Whether the capture was granted.
    pub(in super::super) fn has_begun(&self) -> bool {
        self.begun
    }

    /// Whether its user has asked for the end.
    pub(super) fn has_been_stopped(&self) -> bool {
        self.stopped
    }

    /// Frames so far.
    pub(in super::super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Packets lost, once the end has come.
    pub(in super::super) fn lost(&self) -> Option<u64> {
        self.lost
    }

    /// Nothing more comes. A Wireshark that still shows what came is waited for, unless the user
    /// has ended the capture here and not there.
    pub(super) async fn close(self, output: &Output) -> Result<(), Failure> {
        // Both hold the pipe open.
        drop((self.sink, self.other_end));
        if let Some(mut viewer) = self.viewer
            && !self.stopped
        {
            output.notice("no more comes; this ends when Wireshark is closed");
            viewer.wait().await?;
        }
        Ok(())
    }

    /// Why blocks could not be taken, if they could not.
    pub(in super::super) fn failure(&mut self) -> Option<Failure> {
        self.failure.take()
    }

    /// Whether packets go to a file or pipe.
    pub(in super::super) fn is_written(&self) -> bool {
        !matches!(self.sink, Sink::Lines(_))
    }

    /// Takes in what a daemon sends, until it has sent the end, the user wants it, or nobody reads
    /// what is written.
    pub(super) async fn receive(
        &mut self,
        mut body: Incoming,
        client: &Client,
        id: &str,
    ) -> Outcome {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        // A pipe may be full for as long as its reader likes, and the user is heard meanwhile.
        self.queue = self.other_end.as_ref().map(|_pipe| Vec::new());
        let mut patience = None;
        loop {
            let stop = async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            let gone = gone(self.other_end.as_ref(), self.viewer.as_mut());
            let waiting = self.queue.as_ref().is_some_and(|queue| !queue.is_empty());
            let frame = tokio::select! {
                // Not more than the pipe takes.
                frame = body.frame(), if !waiting => frame,
                given = give(self.other_end.as_ref(), self.queue.as_deref()), if waiting => {
                    let given = given?;
                    self.queue.as_mut().map(|queue| queue.drain(..given));
                    continue;
                }
                () = until(patience.as_mut()), if waiting => {
                    return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
                }
                gone = gone => {
                    gone?;
                    return Err(io::Error::from(io::ErrorKind::BrokenPipe).into());
                }
                () = stop => {
                    if self.stopped {
                        // Asked twice: the user does not want to wait for the end.
                        return Ok(Answer::No);
                    }
                    self.stopped = true;
                    patience = Some(Box::pin(sleep(PATIENCE)));
                    client.delete(&format!("/v1/capture/{id}")).await?;
                    continue;
                }
            };
            match frame {
                None if self.lost.is_some() => return Ok(Answer::Yes),
                None | Some(Err(_)) => {
                    return Err(Failure::NoDaemon("the daemon went away".to_owned()));
                }
                Some(Ok(frame)) => {
                    if let Some(bytes) = frame.data_ref() {
                        self.blocks(bytes)?;
                    }
                }
            }
        }
    }

    /// Takes in bytes; what is written is always whole blocks, and all that came at once.
    fn blocks(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.begin()?;
        self.reader.push(bytes);
        let taken = self.take_blocks();
        if let Sink::Bytes(file) = &mut self.sink {
            file.write_all(&self.whole)?;
            file.flush()?;
        }
        self.whole.clear();
        taken
    }

    /// Reads what has come.
    fn take_blocks(&mut self) -> Result<(), Failure> {
        while let Some((block, raw)) =
            self.reader.block().map_err(|error| Failure::Negative(error.to_string()))?
        {
            match (&self.sink, &mut self.queue) {
                (Sink::Bytes(_), Some(queue)) => queue.extend_from_slice(raw),
                (Sink::Bytes(_), None) => self.whole.extend_from_slice(raw),
                _ => {}
            }
            match block {
                Block::Interface(name) => self.points.push(name),
                Block::Packet(packet) => {
                    self.seen += 1;
                    if let Sink::Lines(output) = &self.sink {
                        let at = usize::try_from(packet.interface).unwrap_or(usize::MAX);
                        let point = self.points.get(at).map_or("?", String::as_str);
                        let dropped = packet.comment.starts_with("egress")
                            && packet.comment.contains(" drop ");
                        let tone = if dropped { Tone::Bad } else { Tone::Plain };
                        output.line(tone, &line(&packet, point))?;
                    }
                }
                Block::Statistics(_, counts) => {
                    self.lost = Some(self.lost.unwrap_or(0) + counts.lost);
                }
                Block::Section | Block::Other => {}
            }
        }
        Ok(())
    }
}

/// After the user has asked for the end: how long a full pipe may take to be read.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sleeps the rest of it, if there is one.
async fn until(rest: Option<&mut Pin<Box<Sleep>>>) {
    match rest {
        Some(rest) => rest.await,
        None => pending().await,
    }
}

/// Gives a pipe what it takes of what waits for it.
async fn give(other_end: Option<&OtherEnd>, waiting: Option<&[u8]>) -> io::Result<usize> {
    match other_end.zip(waiting) {
        Some((other_end, waiting)) => other_end.give(waiting).await,
        None => pending().await,
    }
}

/// Waits until nobody reads what is written. A Wireshark that was killed leaves a child of its own
/// that still has the pipe, so its own end counts as well.
async fn gone(other_end: Option<&OtherEnd>, viewer: Option<&mut Child>) -> io::Result<()> {
    let closed = async {
        match other_end {
            Some(other_end) => other_end.gone().await,
            None => pending().await,
        }
    };
    let ended = async {
        match viewer {
            Some(viewer) => viewer.wait().await.map(drop),
            None => pending().await,
        }
    };
    tokio::select! {
        closed = closed => closed,
        ended = ended => ended,
    }
}

/// What a replay writes goes the way of what a daemon sends.
impl Write for Run {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.blocks(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(Failure::Output(error)) => Err(error),
            Err(failure) => {
                self.failure = Some(failure);
                Err(io::Error::other("blocks could not be taken"))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
