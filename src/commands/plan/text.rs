//! A forecast as a page for people.

use std::fmt::Write as _;

use super::Report;
use crate::report::{bytes, duration};

/// Whole numbers with commas.
pub(super) fn commas(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// With a prefix of thousands.
fn scaled(value: f64) -> String {
    const PREFIXES: [&str; 5] = ["", "k", "M", "G", "T"];
    if value >= 1e15 {
        return format!("{value:.1e}");
    }
    let (mut value, mut at) = (value, 0);
    while value >= 999.5 && at + 1 < PREFIXES.len() {
        value /= 1000.0;
        at += 1;
    }
    format!("{value:.1} {}", PREFIXES[at])
}

fn gib(count: u64) -> String {
    format!("{:.1} GiB", count as f64 / f64::from(1 << 30))
}

/// One heading and its lines.
fn section(out: &mut String, heading: &str, lines: &[String]) {
    for (at, line) in lines.iter().enumerate() {
        let _ = writeln!(out, "{:<12}{line}", if at == 0 { heading } else { "" });
    }
}

/// The page.
pub(super) fn text(report: &Report) -> String {
    let mut out = format!("{} on {} ranks\n\n", report.config, commas(u64::from(report.forecast.ranks.ranks)));
    model(&mut out, report);
    run(&mut out, report);
    ranks(&mut out, report);
    memory(&mut out, report);
    traffic(&mut out, report);
    time(&mut out, report);
    store(&mut out, report);
    section(&mut out, "not there", &report.not_there.iter().map(|what| (*what).to_owned()).collect::<Vec<_>>());
    out
}

fn model(out: &mut String, report: &Report) {
    let m = &report.forecast.model;
    section(
        out,
        "model",
        &[
            format!("{} parameters ({} in f32), {} values of state besides", commas(m.parameters), gib(m.bytes), commas(m.buffers)),
            format!("trunk {}, head {}, prototypes {}", commas(m.trunk), commas(m.head), commas(m.prototypes)),
            format!("{} multiply-adds for an image's crops, forward", scaled(m.multiply_adds as f64)),
        ],
    );
}

fn run(out: &mut String, report: &Report) {
    let (f, s) = (&report.forecast, &report.schedule);
    section(
        out,
        "run",
        &[
            format!("{} steps of {} images: {} images", commas(f.steps), commas(f.images_per_step), commas(f.images)),
            format!(
                "learning rate {} to {} in {} steps ({:.4} per 256 images), then a cosine to {}; prototypes rest for {} steps",
                s.start_lr,
                s.peak_lr,
                commas(s.warmup_steps),
                s.lr_per_256,
                s.final_lr,
                commas(s.freeze_steps)
            ),
        ],
    );
}

fn ranks(out: &mut String, report: &Report) {
    let r = &report.forecast.ranks;
    section(
        out,
        "ranks",
        &[
            format!("{} units in {} shards; lanes of the fullest rank: {}", commas(r.units), commas(r.shards), r.fullest.lanes),
            format!(
                "the fullest owns {} shards, {} values: {} of host memory with momentum, {} more while a step is updated",
                commas(r.fullest.shards),
                commas(r.fullest.values),
                bytes(r.state_bytes),
                bytes(r.update_bytes)
            ),
            format!("a copy of its shards on another rank takes {}", bytes(r.replica_bytes)),
        ],
    );
}

fn memory(out: &mut String, report: &Report) {
    let m = &report.forecast.memory;
    let verdict = match (m.fits, m.device_memory) {
        (Some(true), Some(memory)) => format!("fits into {}", gib(memory)),
        (_, Some(memory)) => format!("DOES NOT FIT into {}", gib(memory)),
        _ => "give --device-memory to learn whether it fits".into(),
    };
    section(
        out,
        "memory",
        &[
            format!("{} of a rank's device: {verdict}", gib(m.device_bytes)),
            format!("{} of gathered weights, {} a lane", gib(m.gathered_bytes), gib(m.lane_bytes)),
            format!(
                "units that keep their graph: {}; computed again: {} in {} segments, {:.1} % of the trunk's forward",
                m.units_kept,
                m.units_recomputed,
                m.segments_recomputed,
                100.0 * m.recomputed
            ),
            format!(
                "with every graph kept a lane takes {}; the least that any plan needs is {}",
                gib(m.lane_bytes_kept),
                gib(m.lane_bytes_least)
            ),
        ],
    );
}

fn traffic(out: &mut String, report: &Report) {
    let t = &report.forecast.traffic;
    section(
        out,
        "traffic",
        &[
            format!("at most {} in and {} out at a rank in a step: weights and gradients", bytes(t.bytes_in), bytes(t.bytes_out)),
            format!("{} sums over lanes, one after the other (about {} a rank)", commas(t.sums), bytes(t.sum_bytes)),
        ],
    );
}

fn time(out: &mut String, report: &Report) {
    let (t, a) = (&report.forecast.time, &report.assumptions);
    section(
        out,
        "time",
        &[
            format!(
                "{} a step if computing and sending overlap, {} if they do not: {:.0} images/s",
                duration(t.step_s),
                duration(t.step_apart_s),
                t.images_per_s
            ),
            format!("{} for the run; {} floating-point operations", duration(t.run_s), scaled(t.flop)),
            format!("computing {}, link {}, waiting for sums {}", duration(t.compute_s), duration(t.link_s), duration(t.sums_s)),
            format!(
                "assuming {:.0} % of {}FLOP/s, {}B/s each way, {:.0} µs a sum, {} bytes a value",
                100.0 * a.utilisation,
                scaled(a.flops),
                scaled(a.link_bytes_per_s),
                1e6 * a.latency_s,
                a.value_bytes
            ),
        ],
    );
}

fn store(out: &mut String, report: &Report) {
    let s = &report.forecast.store;
    section(
        out,
        "store",
        &[
            format!(
                "a checkpoint is {} in {} objects; {} of them are kept",
                bytes(s.checkpoint_bytes),
                commas(s.checkpoint_objects),
                bytes(s.kept_bytes)
            ),
            format!(
                "{} checkpoints: {} objects and {} written over the run",
                commas(s.checkpoints),
                commas(s.puts),
                bytes(s.written_bytes)
            ),
            format!("a resume reads {} objects, {} (egress)", commas(s.resume_gets), bytes(s.resume_bytes)),
        ],
    );
}
