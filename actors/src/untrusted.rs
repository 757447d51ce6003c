//! The readers of bytes that come from outside, as fuzzers call them: a value or an error, never a panic, never much memory.
//!
//! The targets in `fuzz/` and the test below call the same functions; [`samples`] is what both begin with.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::checkpoint;
use crate::desk::order::{Answer, Order};
use crate::desk::pack;
use crate::desk::question::{Comparison, Condition, Kind, Question};
use crate::desk::view::{SCHEMA_VERSION, Scope, View};
use crate::event::{Event, Recorded};
use crate::net::tls::{Identity, JoinToken};
use crate::protocol::ids::{Epoch, Lane, NodeId, Rank, ShardId, Step, UnitId, Version};
use crate::protocol::plan::{Place, Plan};
use crate::protocol::record::Member;
use crate::protocol::terms::Terms;
use crate::protocol::word::{Beginning, Held, Move, Origin, Outcome, Word};
use crate::wire::frame::{self, Frame};
use crate::wire::message::{Control, DataHeader, DataKind, LaneMetrics, ShardPartials};

/// The most that a frame may be long here; small, so that a wrong length shows.
const CAP: u32 = 1 << 16;

/// A stream of control frames; how many could be read before it ended or broke.
pub fn control_stream(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Some(_)) = at_once(frame::read_control::<Control>(&mut bytes, CAP)) {
        count += 1;
    }
    count
}

/// A stream of data frames; every other payload is skipped.
pub fn data_stream(mut bytes: &[u8]) -> usize {
    let mut count = 0;
    while let Ok(Some((header, values))) = at_once(frame::read_data(&mut bytes, CAP)) {
        // What a router looks at.
        let _ = (header.lanes(), header.group());
        let whole = match count % 2 {
            0 => at_once(frame::read_values(&mut bytes, Vec::new(), values)).is_ok(),
            _ => at_once(frame::skip_values(&mut bytes, values)).is_ok(),
        };
        if !whole {
            break;
        }
        count += 1;
    }
    count
}

/// One control message; what could be read is written and read again.
pub fn control(bytes: &[u8]) -> bool {
    let Ok(message) = Control::decode(bytes) else { return false };
    let again = message.encode().and_then(|bytes| Control::decode(&bytes));
    // Numbers that are none differ from themselves: compare what is shown.
    again.is_ok_and(|again| format!("{again:?}") == format!("{message:?}"))
}

/// A checkpoint's manifest.
pub fn manifest(text: &[u8]) -> bool {
    checkpoint::read_any(text)
}

/// A join token, or a certificate's file.
pub fn credential(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text);
    JoinToken::parse(&text).is_ok() | Identity::from_pem(&text).is_ok()
}

/// The JSON that travels in control messages: a question, an order, an answer to one, an event.
pub fn words(text: &[u8]) -> bool {
    let question = serde_json::from_slice::<Question>(text).is_ok();
    let order = serde_json::from_slice::<Order>(text).is_ok() || serde_json::from_slice::<Answer>(text).is_ok();
    question || order || serde_json::from_slice::<Recorded>(text).is_ok()
}

/// A view as it comes with an answer: packed.
pub fn view(packed: &[u8]) -> bool {
    pack::unpack(packed).is_ok()
}

/// Runs what never waits, because it reads from memory.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

/// A reader, its name, and inputs that it takes.
pub type Samples = (&'static str, fn(&[u8]) -> bool, Vec<Vec<u8>>);

/// Each reader with inputs that it takes.
pub fn samples() -> Vec<Samples> {
    let messages: Vec<Vec<u8>> = messages().iter().filter_map(|message| Some(message.encode().ok()?.to_vec())).collect();
    let framed = messages.iter().flat_map(|body| [&(body.len() as u32).to_le_bytes()[..], body].concat()).collect();
    vec![
        ("control", control, messages),
        ("control_stream", |bytes| control_stream(bytes) > 0, vec![framed]),
        ("data_stream", |bytes| data_stream(bytes) > 0, vec![data_frames()]),
        ("manifest", manifest, vec![checkpoint::sample()]),
        ("words", words, spoken()),
        ("view", view, packed()),
        ("credential", credential, credentials()),
    ]
}

fn spoken() -> Vec<Vec<u8>> {
    let condition = Condition { field: "state".into(), is: Comparison::Unequal, value: "idle".into() };
    let question = Question { kinds: vec![Kind::Rank, Kind::Actor], filter: vec![condition], limit: Some(20), ..Question::default() };
    let order = Order::Drain { because: "the machine is taken back".into(), deadline_ms: Some(30_000) };
    let event = Event::Waiting { because: "2 of 4 ranks are here".into() };
    let told = Recorded { at_ms: 1, recorded_by: NodeId([7; 16]), event };
    [serde_json::to_vec(&question), serde_json::to_vec(&order), serde_json::to_vec(&told)].into_iter().flatten().collect()
}

fn packed() -> Vec<Vec<u8>> {
    let missing = vec!["rank 3 does not answer".to_owned(); 3];
    let answered_by = "node/n0".into();
    let view = View { schema_version: SCHEMA_VERSION, answered_by, scope: Scope::Run, as_of_ms: 5, missing, matched: 0, items: Vec::new() };
    pack::pack(&view).into_iter().collect()
}

fn credentials() -> Vec<Vec<u8>> {
    use crate::net::tls::{Role, RunCa};
    let hour = std::time::Duration::from_secs(3600);
    let Ok(ca) = RunCa::generate("demo") else { return Vec::new() };
    let token = JoinToken::mint(&ca, hour).unwrap_or_default();
    let viewer = Identity::issue(&ca, Role::Viewer, hour).map(|identity| identity.to_pem()).unwrap_or_default();
    vec![token.into_bytes(), viewer.into_bytes()]
}

fn data_frames() -> Vec<u8> {
    let header = |kind, length| DataHeader {
        epoch: Epoch(3),
        step: Step(17),
        kind,
        call: 5,
        unit: UnitId(2),
        start: 10,
        length,
        lanes_start: 0,
        lanes_end: 4,
        group_start: 0,
        group_end: 8,
    };
    let frames = [(DataKind::Gradient, 3usize), (DataKind::Want, 0), (DataKind::Total, 2)];
    let bytes = frames.iter().filter_map(|(kind, values)| {
        let head = frame::data(&header(*kind, *values as u64), *values, CAP).ok()?;
        Some([&head[..], &vec![1; 4 * values]].concat())
    });
    bytes.flatten().collect()
}

/// Messages of many shapes: lists in lists, choices, what is shared, what is boxed.
fn messages() -> Vec<Control> {
    let (epoch, step) = (Epoch(4), Step(9));
    let shard = ShardId { unit: UnitId(1), index: 0 };
    let node = NodeId([7; 16]);
    let held = vec![Held { shard, version: Version { step, epoch }, digest: 5 }];
    let because = "the machine is taken back".to_owned();
    let plan = Plan { lanes: vec![(0, 2), (2, 4)], places: vec![Place { shard, owner: Rank(0), replicas: vec![Rank(1)] }] };
    let beginning = Beginning {
        version: Version { step, epoch },
        origin: Origin::Checkpoint { step },
        plan: Arc::new(plan),
        moves: vec![Move { shard, from: 0, to: 1, digest: 3 }],
    };
    let metrics =
        LaneMetrics { lane: Lane(1).0, metrics: vec![("loss".into(), 4.5)], wait_s: 0.1, busy_s: 0.9, samples: 8, samples_hash: 2 };
    vec![
        Control::Word(Word::Join {
            member: Member::new(node, "10.0.0.1:7000", "host", 1),
            terms: Terms { build: "0.1.0".into(), recipe: "r".into(), hardware: "h".into() },
        }),
        Control::Word(Word::Holdings { epoch, held }),
        Control::Word(Word::Begin { epoch, beginning: Box::new(beginning) }),
        Control::Word(Word::Unmet { epoch, nodes: vec![node; 3] }),
        Control::Word(Word::Bye { outcome: Outcome::Done, because: because.clone() }),
        Control::Word(Word::Leave { because, deadline_ms: Some(30_000) }),
        Control::Sums {
            epoch,
            step,
            norms: vec![vec![(1.0, 2.0); 2], vec![]],
            nonfinite: 0,
            metrics: vec![("loss".into(), 4.5)],
            wait: 0.1,
            samples: 64,
            samples_hash: 1,
            phases: vec![0.1; 5],
        },
        Control::Prepared { epoch, step, digests: vec![(shard, 1)] },
        Control::Parts { epoch, step, records: "[]".into(), stall_ms: 1.5 },
        reduced(epoch, step, shard, metrics),
    ]
}

fn reduced(epoch: Epoch, step: Step, shard: ShardId, metrics: LaneMetrics) -> Control {
    let partials = vec![ShardPartials { shard, norms: vec![(0, 1.0, 2.0)], nonfinite: 0 }];
    Control::Reduced { epoch, step, partials, lanes: vec![metrics], computed_s: 0.5, traces: vec![(0, vec![(1, 2)])], phases: vec![0.1; 5] }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look random and are the same each time.
    struct Numbers(u64);

    impl Numbers {
        fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % end.max(1)
        }

        /// What fuzzers do most: flip, set, cut, repeat, overwrite by what matters, join two.
        fn mutate(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
            const ODD: [u64; 8] = [0, 1, 0x7f, 0xff, 0xffff_ffff, 1 << 63, u64::MAX, u64::MAX - 7];
            for _ in 0..1 + self.below(4) {
                let at = self.below(bytes.len());
                match self.below(7) {
                    0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                    1 if !bytes.is_empty() => bytes[at] = self.below(256) as u8,
                    2 => bytes.truncate(at),
                    3 => bytes.insert(at, self.below(256) as u8),
                    4 => {
                        let odd = ODD[self.below(ODD.len())].to_le_bytes();
                        let width = [1, 2, 4, 8][self.below(4)];
                        bytes.iter_mut().skip(at).zip(&odd[..width]).for_each(|(byte, odd)| *byte = *odd);
                    }
                    5 => {
                        let end = (at + self.below(64)).min(bytes.len());
                        let piece = bytes[at.min(end)..end].to_vec();
                        bytes.splice(at..at, piece);
                    }
                    _ => {
                        let from = self.below(other.len());
                        bytes.truncate(at);
                        bytes.extend_from_slice(&other[from..]);
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_sent_and_written_is_read() {
        for (name, read, inputs) in samples() {
            assert!(!inputs.is_empty(), "{name}");
            inputs.iter().for_each(|input| assert!(read(input), "{name}: {} bytes", input.len()));
        }
        assert_eq!(control_stream(&samples()[1].2[0]), messages().len());
        assert_eq!(data_stream(&data_frames()), 3);
    }

    #[test]
    fn thousands_of_damaged_inputs_are_values_or_errors() {
        for (name, read, inputs) in samples() {
            // Keys are made anew each time; what they are is not what is tested.
            let cases = if name == "credential" { 2_000 } else { 5_000 };
            let mut numbers = Numbers(20_261_128);
            let mut taken = 0;
            for case in 0..cases {
                let mut bytes = inputs[case % inputs.len()].clone();
                let other = &inputs[numbers.below(inputs.len())];
                numbers.mutate(&mut bytes, other);
                taken += usize::from(read(&bytes));
            }
            assert!(taken < cases, "{name}: nothing was damaged");
        }
    }

    #[test]
    fn a_manifest_with_absurd_numbers_costs_nothing() {
        let text = String::from_utf8(checkpoint::sample()).unwrap();
        assert!(manifest(text.as_bytes()));
        let absurd = [("\"slots\":1", "\"slots\":4294967295"), ("\"len\":5", "\"len\":18446744073709551615")];
        for (plain, absurd) in absurd {
            assert!(text.contains(plain), "{text}");
            assert!(!manifest(text.replace(plain, absurd).as_bytes()), "{absurd}");
        }
    }

    /// Lengths that claim all memory there is, at each place where a length may be.
    #[test]
    fn no_length_is_believed() {
        for (_, read, inputs) in samples() {
            for input in inputs {
                for at in 0..input.len().saturating_sub(8) {
                    for odd in [u64::MAX, 1 << 63, u64::from(u32::MAX), 1 << 31] {
                        let mut bytes = input.clone();
                        bytes[at..at + 8].copy_from_slice(&odd.to_le_bytes());
                        read(&bytes);
                    }
                }
            }
        }
    }
}
