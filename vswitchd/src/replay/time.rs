//! Moments as people write them: UTC.

use recording::Limit;

use crate::utc::rfc3339;

/// A moment in a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// So many nanoseconds behind the first record.
    After(u64),
    /// Nanoseconds since 1970, UTC.
    Utc(u64),
    /// Nanoseconds since midnight, UTC: the first such moment that is not before the first record.
    OfDay(u64),
    /// A record's number.
    Record(u64),
}

const NANOS: u64 = 1_000_000_000;
const DAY: u64 = 86_400 * NANOS;
/// How moments are written.
const FORMS: &str = "a moment is 1.5s or 2m after the first record, 12:30:05.25 or \
                     2026-01-31T12:30:05Z in UTC, or record=17";

impl Until {
    /// Reads a moment.
    ///
    /// # Errors
    /// A clause that says how moments are written.
    pub fn read(text: &str) -> Result<Self, String> {
        let moment = if let Some(number) = text.strip_prefix("record=") {
            number.parse().ok().map(Self::Record)
        } else if let Some((date, time)) = text.split_once(['T', ' ']) {
            days(date)
                .zip(of_day(time.strip_suffix('Z').unwrap_or(time)))
                .and_then(|(days, time)| days.checked_mul(DAY)?.checked_add(time).map(Self::Utc))
        } else if text.contains(':') {
            of_day(text.strip_suffix('Z').unwrap_or(text)).map(Self::OfDay)
        } else {
            span(text).map(Self::After)
        };
        moment.ok_or_else(|| FORMS.to_owned())
    }

    /// What it means in a recording whose first record is of `first`.
    ///
    /// # Errors
    /// When it lies before the recording.
    pub fn limit(self, first: u64) -> Result<Limit, String> {
        let utc = match self {
            Self::Record(number) => return Ok(Limit::Record(number)),
            Self::After(span) => first.saturating_add(span),
            Self::Utc(utc) => utc,
            Self::OfDay(time) => {
                let midnight = first / DAY * DAY;
                let same_day = midnight.saturating_add(time);
                if same_day < first { same_day.saturating_add(DAY) } else { same_day }
            }
        };
        if utc < first {
            return Err(format!(
                "the recording begins at {}; give a moment behind that",
                rfc3339(first)
            ));
        }
        Ok(Limit::Utc(utc))
    }
}

/// A number with up to nine places behind its point, times `unit`.
fn decimal(text: &str, unit: u64) -> Option<u64> {
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    if rest.len() > 9 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let mut part = 0;
    for (byte, scale) in rest.bytes().zip(1..) {
        part += u64::from(byte - b'0') * (unit / 10_u64.pow(scale));
    }
    whole.parse::<u64>().ok()?.checked_mul(unit)?.checked_add(part)
}

fn span(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let unit = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "" | "s" => NANOS,
        "m" => 60 * NANOS,
        "h" => 3_600 * NANOS,
        _ => return None,
    };
    decimal(number, unit)
}

/// `HH:MM:SS.fraction` as nanoseconds.
fn of_day(text: &str) -> Option<u64> {
    let (hours, rest) = text.split_once(':')?;
    let (minutes, seconds) = rest.split_once(':').unwrap_or((rest, "0"));
    let (hours, minutes): (u64, u64) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = decimal(seconds, NANOS)?;
    if hours > 23 || minutes > 59 || seconds >= 60 * NANOS {
        return None;
    }
    Some((hours * 3_600 + minutes * 60) * NANOS + seconds)
}

/// `YYYY-MM-DD` as days since 1970 (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn days(text: &str) -> Option<u64> {
    let mut parts = text.splitn(3, '-').map(str::parse::<u64>);
    let mut next = || parts.next()?.ok();
    let (year, month, day) = (next()?, next()?, next()?);
    if !(1970..=9_999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read() {
        assert_eq!(Until::read("1.5s"), Ok(Until::After(1_500_000_000)));
        assert_eq!(Until::read("20"), Ok(Until::After(20 * NANOS)));
        assert_eq!(Until::read("0.25m"), Ok(Until::After(15 * NANOS)));
        assert_eq!(Until::read("record=7"), Ok(Until::Record(7)));
        assert_eq!(Until::read("00:00:01.000000001"), Ok(Until::OfDay(NANOS + 1)));
        assert_eq!(Until::read("1970-01-02T00:00:00Z"), Ok(Until::Utc(DAY)));
        for text in ["", "x", "24:00:00", "10:61", "1970-13-01T00:00:00Z", "1.2.3s", "record=x"] {
            assert!(Until::read(text).unwrap_err().contains("12:30:05.25"), "{text}");
        }
    }

    #[test]
    fn times_are_shown_as_they_are_read() {
        for text in [
            "1970-01-01T00:00:00.000000000Z",
            "2024-02-29T23:59:59.999999999Z",
            "2026-12-31T12:00:00.000000001Z",
            "2100-03-01T00:00:00.000000000Z",
        ] {
            let Ok(Until::Utc(utc)) = Until::read(text) else { panic!("{text}") };
            assert_eq!(rfc3339(utc), text);
        }
    }

    #[test]
    fn a_time_of_day_is_the_next_one() {
        let first = 10 * DAY + 23 * 3_600 * NANOS;
        let limit = |until: Until| until.limit(first);
        assert_eq!(limit(Until::OfDay(23 * 3_600 * NANOS + 5)), Ok(Limit::Utc(first + 5)));
        assert_eq!(limit(Until::OfDay(3_600 * NANOS)), Ok(Limit::Utc(11 * DAY + 3_600 * NANOS)));
        assert!(limit(Until::Utc(5)).unwrap_err().contains("1970-01-11T23:00:00"));
    }
}
