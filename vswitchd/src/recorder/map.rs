//! The ring's file in memory: the only unsafe code of the recorder.
//!
//! A header page, then segments of equal size, each with a head of 64 bytes and a body. Heads and
//! header are words that everybody reads and writes as atomics. Bodies are written by one
//! [`Bodies`] and copied out by whoever holds the [`Map`]; a copy may be torn, and the reader finds
//! out by the segment's sequence ([`super::reader`]).

#![expect(
    unsafe_code,
    reason = "a mapping shared between a writer and readers of one process or several; nix's \
              wrappers are unsafe as well"
)]

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::layout::{Geometry, HEADER, Header, SEGMENT_HEAD, SegmentHead};

/// A mapped ring.
#[derive(Debug)]
pub struct Map {
    base: NonNull<u8>,
    len: usize,
    geometry: Geometry,
    /// Whether somebody has the [`Bodies`].
    written: AtomicBool,
    writable: bool,
}

// SAFETY: the mapping is plain memory that lives until the drop; what is shared is reached by
// atomics, and bodies by the one `Bodies` and by copies that tolerate tearing.
unsafe impl Send for Map {}
// SAFETY: as above.
unsafe impl Sync for Map {}

/// The right to write the bodies of a map's segments. There is one a map.
#[derive(Debug)]
pub struct Bodies {
    map: Arc<Map>,
    /// Where the segment begins that is being written, within the mapping.
    begin: usize,
}

impl Map {
    /// Makes a file for a ring, readable by its owner only, and maps it. All of its memory is
    /// allocated now: later there may be none, and a write would end in SIGBUS.
    ///
    /// # Errors
    /// The kernel's; ENOSPC when the file system is too small.
    pub fn create(path: &Path, geometry: Geometry) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        options.custom_flags(libc::O_NOFOLLOW);
        let file = options.open(path)?;
        let len = geometry.file_len();
        let wanted = i64::try_from(len).map_err(io::Error::other)?;
        nix::fcntl::posix_fallocate(&file, 0, wanted)?;
        Self::of(&file, len, geometry, true)
    }

    /// Maps the file of a ring that is there.
    ///
    /// # Errors
    /// The kernel's, or a file whose length is not that of the ring its header names.
    pub fn open(path: &Path, writable: bool) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(writable).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(path)?;
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        let odd = || io::Error::new(io::ErrorKind::InvalidData, "its length is no ring's");
        if len < HEADER {
            return Err(odd());
        }
        let first = Self::of(&file, HEADER, Geometry::EMPTY, false)?;
        let geometry = first.header().geometry().filter(|found| found.file_len() == len);
        Self::of(&file, len, geometry.ok_or_else(odd)?, writable)
    }

    fn of(file: &File, len: usize, geometry: Geometry, writable: bool) -> io::Result<Self> {
        let write = if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists;
        // the descriptor is open, and the result is compared with MAP_FAILED.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | write,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            )
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::other("mapped at zero"))?;
        Ok(Self { base, len, geometry, written: AtomicBool::new(false), writable })
    }

    /// How the file is divided.
    #[must_use]
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The header.
    #[must_use]
    #[inline]
    pub fn header(&self) -> &Header {
        // SAFETY: a mapping has HEADER bytes at least (both constructors see to that), begins at a
        // page, and a `Header` is words that any bits are valid for. Nobody has a `&mut` to it:
        // `Bodies` gives out bodies only. A map that is not writable is never stored to: only the
        // ring's writer does, which needs `Bodies`.
        unsafe { self.base.cast::<Header>().as_ref() }
    }

    /// The head of a segment, by its place in the file.
    #[must_use]
    #[inline]
    pub fn head(&self, place: usize) -> Option<&SegmentHead> {
        if place >= self.geometry.segments {
            return None;
        }
        // SAFETY: the geometry was compared with the file's length, so the segment lies within the
        // mapping, at a multiple of a segment's size, which is one of 64. Otherwise as `header`.
        Some(unsafe {
            self.base
                .byte_add(HEADER + place * self.geometry.segment)
                .cast::<SegmentHead>()
                .as_ref()
        })
    }

    /// Appends the bytes `from..to` of a segment's body region to `out`, whatever they are: they
    /// may be written meanwhile. Both are multiples of 8 and counted from the segment's begin.
    pub fn copy(&self, place: usize, from: usize, to: usize, out: &mut Vec<u8>) {
        let inside = place < self.geometry.segments
            && from >= SEGMENT_HEAD
            && from <= to
            && to <= self.geometry.segment
            && from.is_multiple_of(8)
            && to.is_multiple_of(8);
        if !inside {
            return;
        }
        let begin = HEADER + place * self.geometry.segment + from;
        let before = out.len();
        out.resize(before + to - from, 0);
        let (words, _) = out.get_mut(before..).unwrap_or(&mut []).as_chunks_mut::<8>();
        for (number, bytes) in words.iter_mut().enumerate() {
            // SAFETY: `from..to` lies within the segment and so within the mapping, by the checks
            // above, and there are as many words as fit it, each aligned. A word is read as an
            // atomic because the writer may overwrite it at this moment; what was read then is
            // thrown away by the reader, who compares the segment's sequence after the copy.
            let word =
                unsafe { self.base.byte_add(begin + number * 8).cast::<AtomicU64>().as_ref() };
            *bytes = word.load(Ordering::Relaxed).to_ne_bytes();
        }
    }

    /// The right to write bodies, to one at a time: of the first segment until it turns to another.
    #[must_use]
    pub fn bodies(self: &Arc<Self>) -> Option<Bodies> {
        let free = self.writable
            && self.geometry.segments > 0
            && !self.written.swap(true, Ordering::Relaxed);
        free.then(|| Bodies { map: Arc::clone(self), begin: HEADER })
    }

    /// Has the kernel map a segment's pages for writing, so that its writer meets no page fault.
    /// Without the kernel's help (before Linux 5.14) each page faults once.
    pub fn populate(&self, place: usize) {
        let begin = HEADER + place.min(self.geometry.segments) * self.geometry.segment;
        let len = self.geometry.segment.min(self.len.saturating_sub(begin));
        // SAFETY: MADV_POPULATE_WRITE changes no byte, and the range lies within the mapping.
        unsafe {
            libc::madvise(self.base.byte_add(begin).as_ptr().cast(), len, MADV_POPULATE_WRITE);
        }
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and every reference into it borrows from this value.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

impl Drop for Bodies {
    fn drop(&mut self) {
        self.map.written.store(false, Ordering::Relaxed);
    }
}

impl Bodies {
    /// The map.
    #[must_use]
    #[inline]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// Goes to the segment at a place of the file. False when there is none.
    #[must_use]
    pub fn turn_to(&mut self, place: usize) -> bool {
        let geometry = &self.map.geometry;
        let is_there = place < geometry.segments;
        if is_there {
            self.begin = HEADER + place * geometry.segment;
        }
        is_there
    }

    /// The body region of the segment from `from` to its end, counted from the segment's begin.
    #[inline]
    pub fn rest(&mut self, from: usize) -> &mut [u8] {
        let size = self.map.geometry.segment;
        if from < SEGMENT_HEAD || from > size {
            return &mut [];
        }
        // SAFETY: `begin` is a segment's (`turn_to`, `Map::bodies`), so this lies within the
        // mapping by the check above, and it is no segment's head. There is one `Bodies` a map,
        // borrowed mutably here, so no other slice of bodies exists; readers copy by atomic loads
        // and throw away what they read while it changed. Another process that writes the file
        // would be the owner of this one; the lock of run-dir lets none.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.map.base.byte_add(self.begin).byte_add(from).as_ptr(),
                size - from,
            )
        }
    }

    /// Tells the processor that the cache lines from `from` up to `to` will be written soon, if
    /// they all lie within the segment.
    #[inline]
    pub fn will_write(&self, from: usize, to: usize) {
        #[cfg(target_arch = "x86_64")]
        if from < to && to <= self.map.geometry.segment {
            use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            // SAFETY: as in `rest`, the segment lies within the mapping.
            let mut line = unsafe { self.map.base.byte_add(self.begin).byte_add(from) }.as_ptr();
            let end = line.wrapping_byte_add(to - from);
            while line < end {
                // SAFETY: a prefetch reads and changes nothing, wherever it points.
                unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.cast()) };
                line = line.wrapping_byte_add(LINE);
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _no_hint = (from, to);
    }
}

/// Bytes of a cache line.
#[cfg(target_arch = "x86_64")]
const LINE: usize = 64;

/// Since Linux 5.14; libc's constant depends on its version.
const MADV_POPULATE_WRITE: libc::c_int = 23;
