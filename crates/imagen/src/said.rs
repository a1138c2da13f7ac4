//! How numbers are said in sentences and tables: durations, bytes, large counts, and so many of something.

/// A duration as people say it: `250 ms`, `2.5 s`, `48 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`, `12 years`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds.round().max(0.0) as u64;
    match whole {
        _ if seconds <= 0.0 => "0 s".to_owned(),
        _ if seconds < 0.9995 => format!("{:.0} ms", seconds * 1e3),
        _ if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        86_400..YEARS => format!("{} d {} h", whole / 86_400, whole % 86_400 / 3600),
        _ => format!("{} years", whole / YEAR),
    }
}

const YEAR: u64 = 31_557_600;
/// From here on days and hours say nothing.
const YEARS: u64 = 2 * YEAR;

/// A number of bytes in the unit in which it is easiest to read.
pub fn bytes(n: u64) -> String {
    match n {
        0..1024 => format!("{n} B"),
        1024..1_048_576 => format!("{:.1} KiB", n as f64 / 1024.0),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", n as f64 / 1_048_576.0),
        1_073_741_824..1_099_511_627_776 => format!("{:.1} GiB", n as f64 / 1_073_741_824.0),
        _ => format!("{:.1} TiB", n as f64 / 1_099_511_627_776.0),
    }
}

/// A large number with three digits and a letter: `1.23 M`.
pub fn count(n: u64) -> String {
    match n {
        0..1000 => format!("{n}"),
        1000..1_000_000 => format!("{:.1} k", n as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} M", n as f64 / 1e6),
        1_000_000_000..1_000_000_000_000 => format!("{:.2} G", n as f64 / 1e9),
        1_000_000_000_000..1_000_000_000_000_000 => format!("{:.2} T", n as f64 / 1e12),
        _ => format!("{:.2} P", n as f64 / 1e15),
    }
}

/// So many of something: `1 prompt`, `3 prompts`, `2 categories`.
pub fn counted(n: usize, what: &str) -> String {
    match what.strip_suffix('y') {
        _ if n == 1 => format!("1 {what}"),
        Some(stem) => format!("{n} {stem}ies"),
        None => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_say_them() {
        let cases = [
            (0.0, "0 s"),
            (0.25, "250 ms"),
            (0.9996, "1.0 s"),
            (2.46, "2.5 s"),
            (9.96, "10 s"),
            (59.4, "59 s"),
            (59.6, "1 min 0 s"),
            (200.0, "3 min 20 s"),
            (7500.0, "2 h 5 min"),
            (273_600.0, "3 d 4 h"),
            (9.47e10, "3000 years"),
        ];
        for (seconds, text) in cases {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn counts_are_short_and_what_is_counted_has_its_plural() {
        let cases = [
            (999, "999"),
            (1500, "1.5 k"),
            (12_340_000, "12.34 M"),
            (6_000_000_000, "6.00 G"),
            (4_637_785_140_000_000, "4.64 P"),
        ];
        for (n, text) in cases {
            assert_eq!(count(n), text);
        }
        let said = [counted(1, "category"), counted(2, "category"), counted(0, "prompt")];
        assert_eq!(said, ["1 category", "2 categories", "0 prompts"]);
    }

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(5 << 20), "5.0 MiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }
}
