//! Moments as RFC 3339 has them, in UTC.

/// A moment in nanoseconds since 1970, as `2026-01-31T12:30:05.000000001Z`.
#[must_use]
pub fn rfc3339(nanos: u64) -> String {
    format!("{}.{:09}Z", seconds(nanos), nanos % 1_000_000_000)
}

/// A moment in nanoseconds since 1970, as `2026-01-31T12:30:05.000Z`: what is shorter is cut off.
#[must_use]
pub fn rfc3339_millis(nanos: u64) -> String {
    format!("{}.{:03}Z", seconds(nanos), nanos / 1_000_000 % 1_000)
}

/// A moment in nanoseconds since 1970, as `2026-01-31 12:30:05.000 +0000 UTC`: what Go prints, and
/// what reads kube-proxy's health checks expects.
#[must_use]
pub fn spaced(nanos: u64) -> String {
    let seconds = seconds(nanos).replace('T', " ");
    format!("{seconds}.{:03} +0000 UTC", nanos / 1_000_000 % 1_000)
}

/// Date and time of day, without fraction and zone.
fn seconds(nanos: u64) -> String {
    let seconds = nanos / 1_000_000_000;
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}")
}

/// The date of a day since 1970, by the proleptic Gregorian calendar. Years are taken to begin in
/// March, so that the day that may be missing is the last one.
fn date(days: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468;
    const DAYS_OF_400_YEARS: u64 = 146_097;
    let days = days + DAYS_BEFORE_1970;
    let (era, of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_as_date_says() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_868_799, "2000-02-29T23:59:59.000Z"),
            (951_868_800, "2000-03-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(rfc3339_millis(seconds * 1_000_000_000), text);
        }
        assert_eq!(rfc3339_millis(1_500_000), "1970-01-01T00:00:00.001Z");
        assert_eq!(spaced(1_500_000), "1970-01-01 00:00:00.001 +0000 UTC");
        assert_eq!(rfc3339(1_500_000), "1970-01-01T00:00:00.001500000Z");
    }
}
