//! A bounded list of small values, in place.

use core::ops::{Deref, DerefMut};

/// Up to `N` values, 255 at most. Values are made where they stay: one that is made elsewhere and
/// then copied is read before its parts have arrived, which costs a processor more than making it.
#[derive(Clone, Debug)]
pub(crate) struct List<T, const N: usize> {
    items: [T; N],
    count: u8,
}

impl<T: Copy, const N: usize> List<T, N> {
    /// An empty list. Its places hold `filler`.
    pub(crate) const fn of(filler: T) -> Self {
        const { assert!(N <= u8::MAX as usize) };
        Self { items: [filler; N], count: 0 }
    }

    /// How many there are.
    #[inline]
    pub(crate) const fn count(&self) -> u8 {
        self.count
    }

    /// Forgets all.
    #[inline]
    pub(crate) const fn clear(&mut self) {
        self.count = 0;
    }

    /// Appends `M` values and gives their places, to be filled at once; `None` when there is no
    /// room.
    #[inline(always)]
    pub(crate) fn grow<const M: usize>(&mut self) -> Option<&mut [T; M]> {
        let places = self.items.get_mut(usize::from(self.count)..)?.first_chunk_mut::<M>()?;
        self.count += u8::try_from(M).unwrap_or(u8::MAX);
        Some(places)
    }

    /// Appends what `make` makes. False when there is no room.
    #[inline(always)]
    pub(crate) fn push(&mut self, make: impl FnOnce() -> T) -> bool {
        let Some(place) = self.items.get_mut(usize::from(self.count)) else { return false };
        *place = make();
        self.count += 1;
        true
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        self.items.get(..usize::from(self.count)).unwrap_or(&[])
    }
}

impl<T, const N: usize> DerefMut for List<T, N> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        self.items.get_mut(..usize::from(self.count)).unwrap_or(&mut [])
    }
}

impl<T: PartialEq, const N: usize> PartialEq for List<T, N> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq, const N: usize> Eq for List<T, N> {}
