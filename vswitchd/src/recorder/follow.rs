//! The journal of a worker that lives, until it hands over.
//!
//! - The same build: a [`Follower`] replays what the other one writes, and becomes the ring's
//!   writer at its end. Until then it changes nothing of ring and header.
//! - Another build: its records cannot be replayed. A new journal is begun in a file beside
//!   ([`begin_beside`]) and takes the old one's place when the time has come ([`Staged`]).

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use stack::Switch;

use super::recovery::{self, Course, End, Purpose, Unusable};
use super::{Begun, FILE, Journal, OpenError, Opened, Options, Past};

/// The file of a journal that has not taken its place yet.
pub const NEXT: &str = "journal.next";
/// Records replayed before the caller may see to something else.
const TURN: usize = 1_024;
/// States tried: the other worker may overwrite one while it is read.
const TRIES: usize = 3;

/// Replays a ring while another worker writes it.
#[derive(Debug)]
pub struct Follower {
    course: Course,
    options: Options,
}

/// Why a worker's journal cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// It cannot be followed.
    #[error("the journal {0}")]
    Unusable(#[from] Unusable),
    /// It cannot be written on.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It went on behind its end.
    #[error("the journal ends at position {head}, and the worker before said {closed}")]
    Closed {
        /// Where it ends.
        head: u64,
        /// Where it should.
        closed: u64,
    },
}

impl Follower {
    /// Begins with the newest snapshot, and follows up to the head as of now.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub fn start(options: Options, table_seed: u64) -> Result<Self, FollowError> {
        let map = recovery::open(&options, &super::identity()?)?;
        // Later on it would cost the time in which nobody reads the ports.
        super::populate(&map);
        let mut tries = 1;
        loop {
            let begun =
                Course::newest(map.clone(), &options.directory, table_seed, Purpose::Compare);
            let followed = begun.and_then(|mut course| {
                let head = map.header().head.load(Ordering::Acquire);
                course.go_on(head, usize::MAX)?;
                Ok(course)
            });
            match followed {
                Ok(course) => return Ok(Self { course, options }),
                Err(Unusable::Read(_) | Unusable::NoStart) if tries < TRIES => tries += 1,
                Err(why) => return Err(why.into()),
            }
        }
    }

    /// Replays some of what there is. True when that was all.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub fn step(&mut self) -> Result<bool, FollowError> {
        let head = self.course.map().header().head.load(Ordering::Acquire);
        Ok(self.course.go_on(head, TURN)?)
    }

    /// The switch so far.
    #[must_use]
    pub fn switch(&self) -> Option<&Switch> {
        self.course.switch()
    }

    /// The journal, to be read.
    #[must_use]
    pub fn past(&self) -> Past {
        super::past(self.course.map(), &self.options)
    }

    /// Replays the rest of a ring that its writer has left at `closed`, compares what it came to,
    /// and goes on as its writer. `from` is the process that left it.
    ///
    /// # Errors
    /// See [`FollowError`].
    pub fn take_over(
        mut self,
        begun: &Begun,
        closed: u64,
        from: u32,
    ) -> Result<(Switch, Journal), FollowError> {
        while !self.step()? {}
        let head = self.course.behind();
        if head != closed {
            return Err(FollowError::Closed { head, closed });
        }
        let End { map, switch, labels, chain, records } = self.course.finish(head)?;
        let mut journal = super::go_on(&map, &self.options, chain, records, labels)?;
        journal.recorder().resume(begun.now, &handed_over(from));
        journal.clock(begun.now, begun.utc_offset);
        Ok((switch, journal))
    }
}

/// What the journal says of a hand-over.
#[must_use]
pub fn handed_over(from: u32) -> String {
    format!("handed over by process {from}")
}

/// A journal in its own file, beside the one that it replaces.
#[derive(Debug)]
pub struct Staged {
    directory: PathBuf,
    done: bool,
}

/// Begins a journal with an empty switch, beside the one that is there. No snapshot may be taken
/// before it has taken that one's place.
///
/// # Errors
/// See [`OpenError`].
pub fn begin_beside(options: &Options, begun: &Begun) -> Result<(Opened, Staged), OpenError> {
    let staged = Staged { directory: options.directory.clone(), done: false };
    let path = options.directory.join(NEXT);
    let opened = super::begin_at(path, options, begun, &super::identity()?)?;
    Ok((opened, staged))
}

impl Staged {
    /// Puts the new journal in the old one's place. The old one's snapshots go first: none may lie
    /// beside a ring that it is not of.
    ///
    /// # Errors
    /// The file system's.
    pub fn settle(mut self) -> std::io::Result<()> {
        super::remove_areas(&self.directory)?;
        std::fs::rename(self.directory.join(NEXT), self.directory.join(FILE))?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.done
            && let Err(error) = super::remove(&self.directory.join(NEXT))
        {
            tracing::warn!(%error, "a journal that was begun for nothing cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests;
