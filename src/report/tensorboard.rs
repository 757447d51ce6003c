//! The curves of a run as a TensorBoard event file, so that people keep their tools.
//!
//! The file is a list of TFRecords (length, its checksum, bytes, their checksum), each a protobuf `Event` with one scalar. The few
//! fields that are used are encoded by hand.

use everstep_actors::event::Recorded;

use super::scalars::{Scalar, scalars};

/// The whole event file.
pub fn file(events: &[Recorded]) -> Vec<u8> {
    let first = events.first().map_or(0, |recorded| recorded.at_ms);
    let mut file = Vec::new();
    let mut head = Vec::new();
    wall_time(&mut head, first);
    field(&mut head, 3, b"brain.Event:2");
    record(&mut file, &head);
    for scalar in scalars(events, |_, _| true) {
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
    use everstep_actors::event::Event;
    use everstep_actors::protocol::ids::NodeId;

    use super::*;

    fn at(at_ms: u64, event: Event) -> Recorded {
        Recorded { at_ms, recorded_by: NodeId([1; 16]), event }
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
