//! Values that say themselves what they are: named fields in bytes, little-endian.
//!
//! ```text
//!   field   length of the name (u8), the name, kind (u8), length of the value (u32), the value
//!   value   a number (u64), a record (fields), a list (of records: length (u32), fields), or bytes
//! ```
//!
//! A reader asks for the fields that it knows by their names, in any order, and passes over the
//! others; what is missing has the value that its reader says.

use alloc::vec::Vec;

const NUMBER: u8 = 0;
const RECORD: u8 = 1;
const LIST: u8 = 2;
const BYTES: u8 = 3;

/// Fields being written.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// The fields as bytes.
    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// A number.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        let place = self.begin(name, NUMBER);
        self.bytes.extend(value.to_le_bytes());
        self.end(place);
    }

    /// Bytes as they are.
    pub(super) fn bytes(&mut self, name: &str, value: &[u8]) {
        let place = self.begin(name, BYTES);
        self.bytes.extend_from_slice(value);
        self.end(place);
    }

    /// Fields within a field.
    pub(super) fn record(&mut self, name: &str, fields: impl FnOnce(&mut Self)) {
        let place = self.begin(name, RECORD);
        fields(self);
        self.end(place);
    }

    /// A record for each item.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        items: impl Iterator<Item = T>,
        mut fields: impl FnMut(&mut Self, T),
    ) {
        let place = self.begin(name, LIST);
        for item in items {
            let inner = self.room();
            fields(self, item);
            self.end(inner);
        }
        self.end(place);
    }

    fn begin(&mut self, name: &str, kind: u8) -> usize {
        let len = u8::try_from(name.len()).unwrap_or(u8::MAX);
        debug_assert_eq!(usize::from(len), name.len(), "names are short");
        self.bytes.push(len);
        self.bytes.extend(name.bytes().take(usize::from(len)));
        self.bytes.push(kind);
        self.room()
    }

    /// Room for a length, and where it is.
    fn room(&mut self) -> usize {
        let place = self.bytes.len();
        self.bytes.extend([0; 4]);
        place
    }

    fn end(&mut self, place: usize) {
        let len = self.bytes.len().saturating_sub(place + 4);
        let len = u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes();
        if let Some(room) = self.bytes.get_mut(place..).and_then(<[u8]>::first_chunk_mut) {
            *room = len;
        }
    }
}

/// Bytes that are no fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

/// Fields being read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Of these bytes.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// A number, or what it is where it is missing.
    pub(super) fn number(&self, name: &str, missing: u64) -> Result<u64, Damaged> {
        Ok(self.number_if_there(name)?.unwrap_or(missing))
    }

    /// A number, where it is not missing.
    pub(super) fn number_if_there(&self, name: &str) -> Result<Option<u64>, Damaged> {
        let Some(value) = self.find(name, NUMBER)? else { return Ok(None) };
        let bytes: [u8; 8] = value.try_into().map_err(|_other| Damaged)?;
        Ok(Some(u64::from_le_bytes(bytes)))
    }

    /// Bytes as they are; none where they are missing.
    pub(super) fn bytes(&self, name: &str) -> Result<&'a [u8], Damaged> {
        Ok(self.find(name, BYTES)?.unwrap_or(&[]))
    }

    /// Fields within a field; none where it is missing.
    pub(super) fn record(&self, name: &str) -> Result<Self, Damaged> {
        Ok(Self::new(self.find(name, RECORD)?.unwrap_or(&[])))
    }

    /// The records of a list; none where it is missing.
    pub(super) fn list(&self, name: &str) -> Result<Vec<Self>, Damaged> {
        let mut rest = self.find(name, LIST)?.unwrap_or(&[]);
        let mut items = Vec::new();
        while !rest.is_empty() {
            let (item, after) = sized(rest)?;
            items.push(Self::new(item));
            rest = after;
        }
        Ok(items)
    }

    /// The value of the first field of that name and kind.
    fn find(&self, name: &str, kind: u8) -> Result<Option<&'a [u8]>, Damaged> {
        let mut rest = self.bytes;
        while let Some((len, after)) = rest.split_first() {
            let (its_name, after) = after.split_at_checked(usize::from(*len)).ok_or(Damaged)?;
            let (its_kind, after) = after.split_first().ok_or(Damaged)?;
            let (value, after) = sized(after)?;
            if its_name == name.as_bytes() && *its_kind == kind {
                return Ok(Some(value));
            }
            rest = after;
        }
        Ok(None)
    }
}

fn sized(bytes: &[u8]) -> Result<(&[u8], &[u8]), Damaged> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or(Damaged)?;
    let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_large| Damaged)?;
    rest.split_at_checked(len).ok_or(Damaged)
}
