//! A capture of a replay: the same two halves as a live one, fed from the recording.

use std::io::{self, Write};

use recording::{Done, Replayer};
use stack::journal::frame::Door;
use stack::replay::Step;
use stack::{Frame, Instant};

use crate::capture::format::Format;
use crate::capture::session::{self, Observed, Receiver, Session};
use crate::capture::walks::{self, PutIn};
use crate::capture::{Options, Selection};
use crate::directory;

/// Bytes collected before they are written.
const BUFFER: usize = 1 << 18;

/// Where the walks of a replay go.
pub struct Show<'a> {
    session: Session,
    receiver: Receiver,
    format: Format,
    names: directory::Shared,
    begun: bool,
    buffer: Vec<u8>,
    out: &'a mut dyn Write,
}

impl<'a> Show<'a> {
    /// A capture with these points.
    #[must_use]
    pub fn new(points: Selection, out: &'a mut dyn Write) -> Self {
        let options = Options { points, ..Options::default() };
        let names = super::shared();
        let format = Format::new(&options, names.clone(), 0);
        // Times are UTC already when they get here.
        let (session, receiver) = session::open(options, 0);
        Self { session, receiver, format, names, begun: false, buffer: Vec::new(), out }
    }

    /// Takes in what the newest record led to.
    ///
    /// # Errors
    /// The file's.
    pub fn take(&mut self, replayer: &Replayer, done: &Done) -> io::Result<()> {
        if !self.begun || matches!(done.step, Step::Label(..)) {
            self.names.store(std::sync::Arc::new(super::directory(replayer)));
        }
        if !self.begun {
            self.begun = true;
            self.format.begin(&mut self.buffer);
        }
        let utc = Instant(replayer.utc(done.head.time));
        let frame = put_in(replayer);
        let (session, receiver) = (&mut self.session, &mut self.receiver);
        let (format, buffer) = (&mut self.format, &mut self.buffer);
        each(replayer, frame.as_ref(), |walk| {
            session.observe(&Observed { now: utc, ..*walk });
            while let Some(record) = receiver.pop() {
                format.record(&record, buffer);
            }
        });
        if self.buffer.len() >= BUFFER { self.write() } else { Ok(()) }
    }

    /// The end of the file.
    ///
    /// # Errors
    /// The file's.
    pub fn end(&mut self) -> io::Result<()> {
        if !self.begun {
            self.format.begin(&mut self.buffer);
        }
        self.format.end(&self.receiver.lost(), &mut self.buffer);
        self.write()?;
        self.out.flush()
    }

    fn write(&mut self) -> io::Result<()> {
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
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
pub fn each(replayer: &Replayer, frame: Option<&Whole>, see: impl FnMut(&Observed<'_>)) {
    let (Some(out), Some(switch)) = (replayer.out(), replayer.switch()) else { return };
    let frame = frame.map(|whole| PutIn {
        bytes: &whole.bytes,
        offload: whole.offload,
        known: whole.known,
    });
    walks::each(switch.tables().now(), frame, out, see);
}
