//! A capture as it arrives: lines for people, a file, a pipe.

use std::future::pending;
use std::io::{self, Write};
use std::path::PathBuf;

use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::process::Child;
use tokio::signal::unix::{SignalKind, signal};

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
        loop {
            let stop = async {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            let gone = gone(self.other_end.as_ref(), self.viewer.as_mut());
            let frame = tokio::select! {
                frame = body.frame() => frame,
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
            if let Sink::Bytes(_) = &self.sink {
                self.whole.extend_from_slice(raw);
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
