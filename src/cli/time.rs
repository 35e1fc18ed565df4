//! Times as people read them: UTC, to the second.

use crate::format::id::SnapshotId;

/// `2026-11-21 09:55:47` for nanoseconds since 1970.
pub(super) fn utc(ns: i64) -> String {
    let seconds = ns.div_euclid(1_000_000_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}", second / 3600, second / 60 % 60, second % 60)
}

/// What is said of a snapshot that is later than the clock.
pub(super) fn in_the_future(id: SnapshotId, time_ns: i64) -> String {
    let id = id.to_hex();
    format!(
        "snapshot {} says that it was made at {} UTC, which is in the future: the clock was wrong then, or is wrong now; \
         snapshots are listed in the order in which they were added",
        id.get(..12).unwrap_or_default(),
        utc(time_ns)
    )
}

/// Year, month and day of a day counted from 1970-01-01, after Howard Hinnant's `civil_from_days`.
fn date(days: i64) -> (i64, i64, i64) {
    // Counted from 0000-03-01, so that a leap day ends its year, in eras of 400 years.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::utc;

    #[test]
    fn known_days() {
        assert_eq!(utc(0), "1970-01-01 00:00:00");
        assert_eq!(utc(-1), "1969-12-31 23:59:59");
        assert_eq!(utc(951_782_400_000_000_000), "2000-02-29 00:00:00");
        assert_eq!(utc(1_700_000_000_000_000_000), "2023-11-14 22:13:20");
        assert_eq!(utc(i64::MAX), "2262-04-11 23:47:16");
        assert_eq!(utc(i64::MIN), "1677-09-21 00:12:43");
    }
}
