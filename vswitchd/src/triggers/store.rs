//! The directory of recordings: `state-dir/recordings`, private, within a budget.
//!
//! A file is written under another name and renamed when it is whole and on the disk, so none is
//! ever half there. Before that the oldest are removed until there is room for it. Files that are
//! not ours are left alone and count nothing.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use recording::about;
use recording::{About, Excerpt, Header, Writer};

/// The directory's name within state-dir.
pub const NAME: &str = "recordings";
/// How the names of recordings end.
const EXTENSION: &str = "pcapng";
/// How those end that are not whole yet.
const UNFINISHED: &str = "part";
/// Bytes of a file that are read to know what it is: its interfaces come before that.
const HEAD: u64 = 1 << 20;
/// Bytes that are written at once.
const PIECE: usize = 1 << 18;
/// Letters of a rule in a name.
const RULE_MAX: usize = 64;

/// A recording that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Where.
    pub path: PathBuf,
    /// Bytes of it.
    pub size: u64,
    /// Why it was taken.
    pub about: About,
}

/// Why a recording is not kept.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// No budget for it.
    #[error(
        "a recording of {size} bytes is not kept: recordings-budget is {budget} bytes; raise it, \
         or shorten the rule's `before`"
    )]
    TooLarge {
        /// Its size.
        size: u64,
        /// The budget.
        budget: u64,
    },
    /// The file system.
    #[error(
        "a recording cannot be written to {path}: {source}; free the disk, or lower \
         recordings-budget"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// The directory, and what is in it.
#[derive(Debug)]
pub struct Store {
    directory: PathBuf,
    budget: u64,
    /// The oldest first.
    kept: Vec<Kept>,
}

impl Store {
    /// Looks at what is there, which may be nothing, and keeps to the budget. Nothing is made.
    #[must_use]
    pub fn open(directory: PathBuf, budget: u64) -> Self {
        let mut store = Self { kept: Vec::new(), directory, budget };
        // Without a directory there are none.
        for entry in fs::read_dir(&store.directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            if extension == Some(UNFINISHED) {
                drop(fs::remove_file(&path));
            } else if extension == Some(EXTENSION) {
                store.kept.extend(look_at(path));
            }
        }
        store.sort();
        store.make_room(0);
        store
    }

    /// What is there still: people remove files too.
    pub fn list(&mut self) -> &[Kept] {
        self.kept.retain(|kept| kept.path.exists());
        &self.kept
    }

    /// Writes a recording.
    ///
    /// # Errors
    /// See [`KeepError`]. Nothing of it is left then.
    pub fn keep(&mut self, excerpt: &Excerpt, header: Header) -> Result<Kept, KeepError> {
        let about = header.about.clone().unwrap_or_default();
        let size = size(excerpt, &header);
        let write = |to: &mut File| {
            let mut writer = Writer::new(excerpt, header);
            let mut piece = Vec::with_capacity(PIECE + 1_024);
            loop {
                let more = writer.piece(PIECE, &mut piece);
                to.write_all(&piece)?;
                piece.clear();
                if !more {
                    return Ok(());
                }
            }
        };
        self.put(about, size, write)
    }

    /// Takes a recording in that lies elsewhere, and removes it there.
    ///
    /// # Errors
    /// See [`KeepError`]; it stays where it is then.
    pub fn adopt(&mut self, path: &Path) -> Result<Option<Kept>, KeepError> {
        let Some(Kept { size, about, .. }) = look_at(path.to_owned()) else { return Ok(None) };
        let kept = self.put(about, size, |to| io::copy(&mut File::open(path)?, to).map(drop))?;
        fs::remove_file(path).map_err(|source| KeepError::Io { path: path.to_owned(), source })?;
        Ok(Some(kept))
    }

    fn put(
        &mut self,
        about: About,
        size: u64,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> Result<Kept, KeepError> {
        if size > self.budget {
            return Err(KeepError::TooLarge { size, budget: self.budget });
        }
        self.make_room(size);
        let path = self.free_name(&about);
        let unfinished = path.with_extension(UNFINISHED);
        let written = self.write(&unfinished, write).and_then(|()| fs::rename(&unfinished, &path));
        if let Err(source) = written {
            drop(fs::remove_file(&unfinished));
            return Err(KeepError::Io { path, source });
        }
        let kept = Kept { path, size, about };
        self.kept.push(kept.clone());
        self.sort();
        Ok(kept)
    }

    fn write(
        &self,
        path: &Path,
        write: impl FnOnce(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let mut options = File::options();
        options.write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        let mut file = options.open(path)?;
        write(&mut file)?;
        file.sync_all()
    }

    /// Removes the oldest until there is room for so many bytes more.
    fn make_room(&mut self, size: u64) {
        let mut used: u64 = self.list().iter().map(|kept| kept.size).sum();
        while used.saturating_add(size) > self.budget && !self.kept.is_empty() {
            let oldest = self.kept.remove(0);
            used = used.saturating_sub(oldest.size);
            match fs::remove_file(&oldest.path) {
                Ok(()) => {
                    let recording = oldest.path.display();
                    tracing::info!(%recording, "removed for recordings-budget: the oldest");
                }
                Err(error) => {
                    let recording = oldest.path.display();
                    tracing::warn!(%recording, %error, "an old recording cannot be removed");
                }
            }
        }
    }

    /// `TIMESTAMP-RULE.pcapng`, with a number if that is taken.
    fn free_name(&self, about: &About) -> PathBuf {
        let name = name(about);
        let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
        let mut names = std::iter::once(name.clone()).chain(numbered);
        let path = |name: String| self.directory.join(format!("{name}.{EXTENSION}"));
        let free = names.find_map(|name| Some(path(name)).filter(|path| !path.exists()));
        free.unwrap_or_else(|| path(name))
    }

    fn sort(&mut self) {
        self.kept.sort_by(|a, b| (a.about.at, &a.path).cmp(&(b.about.at, &b.path)));
    }
}

/// What a recording is called: when, to the millisecond, and the rule, both fit for a file's name.
fn name(about: &About) -> String {
    let time: String =
        crate::utc::rfc3339_millis(about.at).chars().filter(|c| !"-:".contains(*c)).collect();
    let mut rule = String::new();
    for c in about.rule.chars().take(RULE_MAX) {
        match c {
            c if c.is_ascii_alphanumeric() || c == '.' => rule.push(c),
            _ if rule.ends_with('-') => {}
            _ => rule.push('-'),
        }
    }
    format!("{time}-{}", rule.trim_matches(['-', '.']))
}

/// A file that is one of ours.
fn look_at(path: PathBuf) -> Option<Kept> {
    let size = fs::symlink_metadata(&path).ok().filter(fs::Metadata::is_file)?.len();
    let mut head = Vec::new();
    File::open(&path).ok()?.take(HEAD).read_to_end(&mut head).ok()?;
    Some(Kept { path, size, about: about::of(&head)? })
}

/// Bytes that a recording takes.
fn size(excerpt: &Excerpt, header: &Header) -> u64 {
    let mut writer = Writer::new(excerpt, header.clone());
    let (mut piece, mut size) = (Vec::with_capacity(PIECE + 1_024), 0);
    loop {
        let more = writer.piece(PIECE, &mut piece);
        size += piece.len() as u64;
        piece.clear();
        if !more {
            return size;
        }
    }
}

#[cfg(test)]
mod tests;
