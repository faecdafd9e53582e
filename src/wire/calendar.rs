//! Gregorian calendar arithmetic.

/// Days from 1970-01-01 to a date. Internally years start in March, so that the leap day is the
/// last day. A day beyond the end of the month is counted into the next month.
pub fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let in_year = (153 * month + 2) / 5 + day - 1;
    365 * year + leap_days + in_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted() {
        for (year, month, day, wanted) in [
            (1970, 1, 1, 0),
            (1972, 2, 29, 789),
            (2000, 3, 1, 11_017),
            (2026, 11, 30, 20_787),
            (9999, 12, 31, 2_932_896),
        ] {
            assert_eq!(
                days_since_1970(year, month, day),
                wanted,
                "{year}-{month}-{day}"
            );
        }
    }
}
