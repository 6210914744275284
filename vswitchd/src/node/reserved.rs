//! L4 ports that the kernel gives to no socket by itself: those of the switch are added to what is
//! reserved already, and taken away again.
//!
//! What we added is on record, not what was there: others may reserve ports as well, before us and
//! meanwhile. A socket that asks for such a port by its number gets it as before.

use std::fmt;

use super::{HostLink, NodeError, sysctl};

/// The setting.
pub(crate) const KEY: &str = "ipv4/ip_local_reserved_ports";

/// A set of L4 ports: ranges with both ends, sorted, neither touching nor overlapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports(Vec<(u16, u16)>);

impl Ports {
    /// What is reserved now.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn reserved() -> Result<Self, NodeError> {
        Ok(Self::parse(&sysctl::read(KEY)?.unwrap_or_default()))
    }

    /// Reserves these and no others.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn reserve(&self) -> Result<(), NodeError> {
        sysctl::write(KEY, &self.to_string())
    }

    /// `8080,30000-32767`, as the kernel writes it. What is no port is passed over: it comes from
    /// the kernel or from our own record.
    pub(crate) fn parse(text: &str) -> Self {
        let range = |part: &str| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
        };
        Self::of(text.split(',').filter_map(range))
    }

    /// Those of the switch.
    pub(crate) fn of_switch(link: &HostLink) -> Self {
        let ranges = link.diverted.iter().map(|range| (range.first, range.last));
        Self::of(ranges.chain(link.own_ports.iter().map(|own| (own.port, own.port))))
    }

    fn of(ranges: impl IntoIterator<Item = (u16, u16)>) -> Self {
        let mut sorted: Vec<_> = ranges.into_iter().filter(|(first, last)| first <= last).collect();
        sorted.sort_unstable();
        let mut merged: Vec<(u16, u16)> = Vec::new();
        for (first, last) in sorted {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }

    /// These and those.
    pub(crate) fn with(&self, other: &Self) -> Self {
        Self::of(self.0.iter().chain(&other.0).copied())
    }

    /// These without those.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for (first, last) in &self.0 {
            // Beyond the last port there is one more number, where nothing begins.
            let (mut begin, end) = (u32::from(*first), u32::from(*last));
            for (from, to) in other.0.iter().map(|(a, b)| (u32::from(*a), u32::from(*b))) {
                if to < begin || from > end {
                    continue;
                }
                left.extend((from > begin).then(|| (begin, from - 1)));
                begin = to + 1;
            }
            left.extend((begin <= end).then_some((begin, end)));
        }
        let narrow = |(first, last): (u32, u32)| {
            Some((u16::try_from(first).ok()?, u16::try_from(last).ok()?))
        };
        Self(left.into_iter().filter_map(narrow).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (first, last)) in self.0.iter().enumerate() {
            let comma = if number == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}-{last}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ports(text: &str) -> Ports {
        Ports::parse(text)
    }

    #[test]
    fn ranges_are_read_merged_and_written() {
        for (text, wanted) in [
            ("", ""),
            ("8080", "8080"),
            ("61000-65534,30000-32767", "30000-32767,61000-65534"),
            ("1-5,6,4-9,20-19,x,7-", "1-9"),
            ("0-65535,7", "0-65535"),
            ("65535,65534", "65534-65535"),
        ] {
            assert_eq!(ports(text).to_string(), wanted, "{text}");
        }
    }

    #[test]
    fn sets_are_joined_and_taken_apart() {
        for (these, those, with, without) in [
            ("8080", "30000-32767", "8080,30000-32767", "8080"),
            ("30000-32767", "31000", "30000-32767", "30000-30999,31001-32767"),
            ("0-65535", "0,65535", "0-65535", "1-65534"),
            ("10-20", "5-12,15,19-30", "5-30", "13-14,16-18"),
            ("10-20", "10-20", "10-20", ""),
            ("", "7", "7", ""),
            ("5,30-40", "1-2,20-29,41-50", "1-2,5,20-50", "5,30-40"),
            ("7", "", "7", "7"),
        ] {
            assert_eq!(ports(these).with(&ports(those)), ports(with), "{these} and {those}");
            assert_eq!(ports(these).without(&ports(those)), ports(without), "{these} not {those}");
        }
    }
}
