//! A capture of a replay: the same two halves as a live one, fed from the recording.

use std::io::{self, Write};

use recording::{Done, Replayer};
use stack::journal::frame::Door;
use stack::replay::Step;
use stack::{Frame, Instant};

use super::Watch;
use crate::capture::Options;
use crate::capture::format::Format;
use crate::capture::session::{self, Observed, Receiver, Session};
use crate::capture::walks::{self, PutIn};
use crate::directory;

/// Bytes collected before they are written.
const BUFFER: usize = 1 << 18;

/// Which part of a replay is shown.
#[derive(Clone, Debug)]
pub struct Part {
    /// From this moment on, nanoseconds since 1970, UTC.
    pub from: u64,
    /// Up to this one.
    pub to: u64,
    /// Only walks that entered or left by a port that has this name when it happens.
    pub port: Option<String>,
}

impl Default for Part {
    fn default() -> Self {
        Self { from: 0, to: u64::MAX, port: None }
    }
}

/// Where the walks of a replay go.
pub struct Show<'a> {
    part: Part,
    /// Whether a port had the name that is looked for.
    found: bool,
    session: Session,
    receiver: Receiver,
    format: Format,
    names: directory::Shared,
    begun: bool,
    buffer: Vec<u8>,
    out: &'a mut dyn Write,
}

impl<'a> Show<'a> {
    /// A capture of a part.
    #[must_use]
    pub fn new(options: Options, part: Part, out: &'a mut dyn Write) -> Self {
        let names = super::shared();
        let format = Format::new(&options, names.clone(), part.from);
        // Times are UTC already when they get here.
        let (session, receiver) = session::open(options, 0);
        let found = part.port.is_none();
        let (begun, buffer) = (false, Vec::new());
        Self { part, found, session, receiver, format, names, begun, buffer, out }
    }

    /// The name that was looked for, if no port had it.
    #[must_use]
    pub fn missing(&self) -> Option<&str> {
        self.part.port.as_deref().filter(|_| !self.found)
    }

    fn begin(&mut self) {
        if !self.begun {
            self.begun = true;
            self.format.begin(&mut self.buffer);
        }
    }

    fn write(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

impl Watch for Show<'_> {
    fn named(&mut self, replayer: &Replayer) {
        let names = super::directory(replayer);
        if let Some(port) = &self.part.port {
            let ports = names.by_name(port);
            self.found |= !ports.is_empty();
            self.session.look_at(ports);
        }
        self.names.store(std::sync::Arc::new(names));
    }

    fn take(&mut self, replayer: &Replayer, done: &Done) -> io::Result<bool> {
        if matches!(done.step, Step::Label(..)) {
            self.named(replayer);
        }
        let utc = Instant(replayer.utc(done.head.time));
        if utc.0 < self.part.from || !self.found {
            return Ok(true);
        }
        if utc.0 > self.part.to {
            return Ok(false);
        }
        self.begin();
        let mut more = true;
        let frame = put_in(replayer);
        let (session, receiver) = (&mut self.session, &mut self.receiver);
        let (format, buffer) = (&mut self.format, &mut self.buffer);
        each(replayer, frame.as_ref(), |walk| {
            more = session.observe(&Observed { now: utc, ..*walk });
            while let Some(record) = receiver.pop() {
                format.record(&record, buffer);
            }
        });
        if self.buffer.len() >= BUFFER {
            self.write()?;
        }
        Ok(more)
    }

    /// Of a port that was never there nothing is written.
    fn end(&mut self) -> io::Result<()> {
        if !self.found {
            return Ok(());
        }
        self.begin();
        self.format.end(&self.receiver.lost(), &mut self.buffer);
        self.write()?;
        self.out.flush()
    }
}

/// The newest record's frame in its whole length, with zeros for what was not recorded, unless an
/// endpoint received it.
#[must_use]
pub fn put_in(replayer: &Replayer) -> Option<Whole> {
    let recorded = replayer.frame()?;
    if let Door::Endpoint(_) = recorded.door {
        return None;
    }
    let mut bytes = recorded.bytes.to_vec();
    let known = if bytes.len() == recorded.len { usize::MAX } else { Frame::WINDOW };
    bytes.resize(recorded.len, 0);
    Some(Whole { bytes, known, offload: recorded.offload })
}

/// A frame as it was put in.
#[derive(Debug)]
pub struct Whole {
    bytes: Vec<u8>,
    known: usize,
    offload: stack::Offload,
}

/// Shows every walk that the newest record led to.
pub fn each<'a>(replayer: &'a Replayer, frame: Option<&'a Whole>, see: impl FnMut(&Observed<'_>)) {
    let (Some(out), Some(switch)) = (replayer.out(), replayer.switch()) else { return };
    let frame = frame.map(|whole| PutIn {
        bytes: &whole.bytes,
        len: whole.bytes.len(),
        offload: whole.offload,
        known: whole.known,
    });
    walks::each(switch.tables().now(), frame, out, see);
}
