//! What people see of a run: progress, the final report, the picture of its curves, and its status.
//!
//! Everything here is a pure function of recorded events; only [`terminal`] writes.

pub mod curves;
pub mod progress;
pub mod scalars;
pub mod summary;
pub mod tensorboard;
pub mod terminal;

/// Names of the numbers that events carry.
pub mod names {
    /// Metric: the SwAV loss, mean over lanes, in nats.
    pub const LOSS: &str = "loss";
    /// Metric: entropy of the use of the prototypes, in nats; ln K when all are used alike.
    pub const ENTROPY: &str = "entropy";
    /// Score: kNN of the trained trunk, percent.
    pub const KNN: &str = "knn";
    /// Score: kNN of the same trunk at random init, percent.
    pub const KNN_RANDOM: &str = "knn_random_init";
    /// Score: kNN of raw pixels, percent.
    pub const KNN_PIXELS: &str = "knn_raw_pixels";
    /// Score: kNN of colour histograms, percent.
    pub const KNN_COLOURS: &str = "knn_colour_histogram";
}

/// Seconds in two units (`3 min 05 s`).
pub fn duration(seconds: f64) -> String {
    if !seconds.is_finite() || seconds < 0.0 {
        return "unknown".into();
    }
    let whole = seconds.round() as u64;
    match whole {
        0..60 if seconds < 9.95 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        3600..86_400 => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} d {:02} h", whole / 86_400, whole % 86_400 / 3600),
    }
}

/// Bytes in a fitting decimal unit.
pub fn bytes(count: u64) -> String {
    let (mut value, mut unit) = (count as f64, 0);
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Text from elsewhere (paths, other nodes' sentences) on one line, without control characters that could drive a terminal.
pub(crate) fn tame(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_bytes_read_well() {
        let told: Vec<String> = [0.25, 9.96, 59.4, 61.0, 3700.0, 90_000.0, f64::NAN].map(duration).to_vec();
        assert_eq!(told, ["0.2 s", "10 s", "59 s", "1 min 01 s", "1 h 01 min", "1 d 01 h", "unknown"]);
        assert_eq!([0, 999, 1000, 1_250_000, 999_960].map(bytes).to_vec(), ["0 B", "999 B", "1.0 kB", "1.2 MB", "1.0 MB"]);
        assert_eq!(tame("a\x1b[31m\nb"), "a [31m b");
    }
}
