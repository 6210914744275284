//! The control side of a capture: chunks of pcapng for whoever reads them, until something ends it.

use std::time::Duration;

use tokio::time::Instant;

use super::format::Format;
use super::session::Receiver;

/// How often a quiet ring is looked at: a reader sees a packet at most this late.
const LOOK: Duration = Duration::from_millis(20);
/// How often while packets come. Writing them takes a core from somebody: often and short is a
/// pause that queues cover, seldom and long is one that pods see.
const LOOK_BUSY: Duration = Duration::from_millis(4);
/// Bytes after which a chunk is handed on.
const CHUNK: usize = 256 << 10;

/// A file in the making.
pub struct Stream {
    receiver: Receiver,
    format: Format,
    deadline: Option<Instant>,
    state: State,
    /// Bytes of the newest chunk: the next is about as long.
    usual: usize,
    /// Whether the ring was found empty, or emptied, and may fill.
    emptied: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Begin,
    Running,
    Ended,
}

impl Stream {
    /// A file that ends when the session does, after `duration`, or when it is stopped.
    #[must_use]
    pub fn new(receiver: Receiver, format: Format, duration: Option<Duration>) -> Self {
        let deadline = duration.and_then(|duration| Instant::now().checked_add(duration));
        Self { receiver, format, deadline, state: State::Begin, usual: 0, emptied: false }
    }

    /// The next bytes, always whole blocks; `None` after the last.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        if self.state == State::Begin {
            self.state = State::Running;
            // At once: readers such as dumpcap block until they have seen the header.
            self.format.begin(&mut out);
            return Some(out);
        }
        while self.state != State::Ended {
            if self.emptied {
                self.pause().await;
            }
            if self.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                self.receiver.stop();
            }
            // Asked before the ring is emptied: what came before the end is then surely seen.
            let ended = self.receiver.is_ended();
            while out.len() < CHUNK
                && let Some(record) = self.receiver.pop()
            {
                // Not before there is something to hold: most looks at a quiet ring find nothing.
                if out.is_empty() {
                    out.reserve(self.usual);
                }
                self.format.record(&record, &mut out);
            }
            self.usual = out.len();
            self.emptied = out.len() < CHUNK;
            if ended && self.emptied {
                self.format.end(&self.receiver.lost(), &mut out);
                self.state = State::Ended;
                return Some(out);
            }
            if !out.is_empty() {
                return Some(out);
            }
        }
        None
    }

    /// Lets the ring fill.
    fn pause(&self) -> impl Future<Output = ()> + Send + use<> {
        let look = Instant::now() + if self.usual == 0 { LOOK } else { LOOK_BUSY };
        let until = self.deadline.map_or(look, |deadline| deadline.min(look));
        let woken = self.receiver.woken();
        async move {
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }
}
