//! The curves of a run as a TensorBoard event file, so that people keep their tools.
//!
//! The file is a list of TFRecords (length, its checksum, bytes, their checksum), each a protobuf `Event` with one scalar. The few
//! fields that are used are encoded by hand.

use everstep_actors::event::{Event, Recorded};

/// One number of a curve.
#[derive(Debug, Clone, PartialEq)]
pub struct Scalar {
    /// When, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Steps committed.
    pub step: u64,
    /// Its curve: `train/loss`, `phase/compute`, `eval/knn`, ….
    pub tag: String,
    /// The number.
    pub value: f64,
}

/// The scalars of a run, oldest first. A step that was done again after a loss counts as it was done last.
pub fn scalars(events: &[Recorded]) -> Vec<Scalar> {
    let mut scalars: Vec<Scalar> = Vec::new();
    for Recorded { at_ms, event, .. } in events {
        let mut add = |step: u64, tag: String, value: f64| scalars.push(Scalar { at_ms: *at_ms, step, tag, value });
        match event {
            Event::StepCommitted { step, metrics, seconds, images, phases, .. } => {
                let step = step.0;
                if scalars.last().is_some_and(|last| last.step >= step) {
                    scalars.retain(|scalar| scalar.step < step || !of_steps(&scalar.tag));
                }
                let mut add = |tag: String, value: f64| scalars.push(Scalar { at_ms: *at_ms, step, tag, value });
                metrics.iter().for_each(|(name, value)| add(format!("train/{name}"), *value));
                add("train/seconds".into(), *seconds);
                if *seconds > 0.0 {
                    add("train/images_per_s".into(), *images as f64 / seconds);
                }
                phases.iter().for_each(|(name, value)| add(format!("phase/{name}"), *value));
            }
            Event::Evaluated { step, scores } => scores.iter().for_each(|(name, score)| add(step.0, format!("eval/{name}"), *score)),
            Event::EpochBegan { step, members, moved_bytes, .. } => {
                add(step.0, "run/members".into(), members.len() as f64);
                add(step.0, "run/moved_bytes".into(), *moved_bytes as f64);
            }
            Event::CheckpointSaved { step, bytes, seconds, stall_ms } => {
                add(step.0, "checkpoint/bytes".into(), *bytes as f64);
                add(step.0, "checkpoint/seconds".into(), *seconds);
                add(step.0, "checkpoint/stall_ms".into(), *stall_ms);
            }
            _ => {}
        }
    }
    scalars
}

/// Whether a curve is one of steps: those are done again, and what happened between them is not.
fn of_steps(tag: &str) -> bool {
    tag.starts_with("train/") || tag.starts_with("phase/")
}

/// The whole event file.
pub fn file(events: &[Recorded]) -> Vec<u8> {
    let first = events.first().map_or(0, |recorded| recorded.at_ms);
    let mut file = Vec::new();
    let mut head = Vec::new();
    wall_time(&mut head, first);
    field(&mut head, 3, b"brain.Event:2");
    record(&mut file, &head);
    for scalar in scalars(events) {
        record(&mut file, &encoded(&scalar));
    }
    file
}

/// `Event { wall_time, step, summary { value { tag, simple_value } } }`.
fn encoded(scalar: &Scalar) -> Vec<u8> {
    let mut value = Vec::new();
    field(&mut value, 1, scalar.tag.as_bytes());
    value.push(2 << 3 | 5);
    value.extend((scalar.value as f32).to_le_bytes());
    let mut summary = Vec::new();
    field(&mut summary, 1, &value);
    let mut event = Vec::new();
    wall_time(&mut event, scalar.at_ms);
    event.push(2 << 3);
    varint(&mut event, scalar.step);
    field(&mut event, 5, &summary);
    event
}

/// Field 1, a double: seconds since the Unix epoch.
fn wall_time(into: &mut Vec<u8>, at_ms: u64) {
    into.push(1 << 3 | 1);
    into.extend((at_ms as f64 / 1000.0).to_le_bytes());
}

/// A field of bytes; its number is below 16.
fn field(into: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    into.push(number << 3 | 2);
    varint(into, bytes.len() as u64);
    into.extend(bytes);
}

fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}

fn record(into: &mut Vec<u8>, bytes: &[u8]) {
    let length = (bytes.len() as u64).to_le_bytes();
    into.extend(length);
    into.extend(masked(&length).to_le_bytes());
    into.extend(bytes);
    into.extend(masked(bytes).to_le_bytes());
}

/// TFRecord's checksum: CRC-32C, turned and moved so that a checksum of checksums is no weak one.
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use everstep_actors::protocol::ids::{Epoch, NodeId, Step};

    use super::*;

    fn at(at_ms: u64, event: Event) -> Recorded {
        Recorded { at_ms, recorded_by: NodeId([1; 16]), event }
    }

    fn step(number: u64, loss: f64) -> Event {
        Event::StepCommitted {
            step: Step(number),
            epoch: Epoch(1),
            metrics: BTreeMap::from([("loss".to_owned(), loss)]),
            seconds: 2.0,
            images: 64,
            wait: 0.0,
            samples: 64,
            samples_hash: 0,
            phases: BTreeMap::new(),
        }
    }

    fn losses(events: &[Recorded]) -> Vec<(u64, f64)> {
        scalars(events).into_iter().filter(|scalar| scalar.tag == "train/loss").map(|scalar| (scalar.step, scalar.value)).collect()
    }

    #[test]
    fn a_step_that_was_done_again_counts_once() {
        let events = [at(1, step(1, 5.0)), at(2, step(2, 4.0)), at(3, step(3, 3.0)), at(9, step(2, 4.5)), at(10, step(3, 3.5))];
        assert_eq!(losses(&events), [(1, 5.0), (2, 4.5), (3, 3.5)]);
    }

    #[test]
    fn an_examination_later_than_its_step_drops_no_steps() {
        let score = Event::Evaluated { step: Step(9), scores: BTreeMap::from([("knn".to_owned(), 50.0)]) };
        let events = [at(1, step(1, 5.0)), at(2, score), at(3, step(2, 4.0))];
        assert_eq!(losses(&events), [(1, 5.0), (2, 4.0)]);
        assert!(scalars(&events).iter().any(|scalar| scalar.tag == "eval/knn"));
    }

    #[test]
    fn the_first_record_is_what_tensorboard_writes() {
        // As TensorBoard's own writer frames `Event { wall_time: 1.5, file_version: "brain.Event:2" }`.
        let file = file(&[at(1500, Event::Waiting { because: "a member".into() })]);
        let bytes = [
            &24u64.to_le_bytes()[..],
            &masked(&24u64.to_le_bytes()).to_le_bytes(),
            &[0x09],
            &1.5f64.to_le_bytes(),
            &[0x1a, 13],
            b"brain.Event:2",
        ]
        .concat();
        assert_eq!(file[..bytes.len()], bytes);
        assert_eq!(masked(&24u64.to_le_bytes()), 0x224b_7fa3, "the checksum of this length in every event file");
    }

    #[test]
    fn long_numbers_are_cut_into_sevens() {
        let mut bytes = Vec::new();
        varint(&mut bytes, 300);
        assert_eq!(bytes, [0xac, 0x02]);
    }
}
