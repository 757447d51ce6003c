//! Heartbeats and what follows from their absence.
//!
//! Both ends beat, and each beat is acknowledged, so each end knows two things: when it last heard the
//! other, and of which of its own beats the other has confirmed the arrival (its lease). Either one
//! growing older than the limit ends the link, so a path that fails in one direction only is noticed
//! at both ends. Time in which this node itself did not run does not count.
//!
//! On a stream one packet that is lost holds up all that follows. While packets of the other end arrive nevertheless, the path is bad
//! and not dead, and gets the longest time that there is; an end at which none arrive says so to the other one when it gives up.
//! QUIC counts packets before it opens them: forged ones keep a dead link until that time is over, and no longer.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use quinn::{RecvStream, SendStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::receive::Received;
use super::{LinkDown, Shared};

const BEAT: u8 = 0;
const ACK: u8 = 1;
/// Nothing more comes; as many bytes of UTF-8 as the number says follow: the reason.
const BYE: u8 = 2;
/// Kind and number.
const RECORD: usize = 9;
/// The longest reason, in bytes.
const MAX_REASON: usize = 1024;
/// The limit is this many times the longest gap of late.
const GAPS: u32 = 4;

/// How often to beat and how long to wait for the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    /// Time between two beats.
    pub interval: Duration,
    /// No link ends after less silence than this.
    pub floor: Duration,
    /// No link outlives more silence than this, however irregular its beats have been.
    pub ceiling: Duration,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self { interval: Duration::from_millis(250), floor: Duration::from_millis(1200), ceiling: Duration::from_secs(4) }
    }
}

/// How silent the other end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Silence {
    pub(super) heard: Duration,
    pub(super) confirmed: Duration,
    pub(super) limit: Duration,
    /// The same while packets arrive.
    patience: Duration,
    /// What is confirmed is older by as much as the word of it takes.
    round_trip: Duration,
}

impl Silence {
    fn verdict(&self) -> Option<String> {
        let confirmed = self.confirmed.saturating_sub(self.round_trip);
        if self.heard.max(confirmed) <= self.patience {
            None
        } else if self.heard > self.limit / 2 {
            Some(format!("nothing was heard for {:.1} s", self.heard.as_secs_f32()))
        } else {
            Some(format!("it is heard, but has not heard us for {:.1} s", self.confirmed.as_secs_f32()))
        }
    }
}

/// When the other end gave its signs of life.
#[derive(Debug)]
pub(super) struct Liveness {
    heartbeat: Heartbeat,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    heard: Instant,
    confirmed: Instant,
    last_beat: Instant,
    longest_gap: Duration,
    /// The longest round trip of a beat of late.
    round_trip: Duration,
    checked: Instant,
    /// Packets that had arrived when this was looked at last, and when there was one more.
    packets: u64,
    arrived: Instant,
    /// The beats on their way: number and time. Bounded by the ceiling over the interval.
    flying: std::collections::VecDeque<(u64, Instant)>,
    next: u64,
}

impl Liveness {
    /// Of a link that has just come up over a path with this round trip.
    pub(super) fn new(heartbeat: Heartbeat, round_trip: Duration) -> Self {
        let now = Instant::now();
        let state = State {
            heard: now,
            confirmed: now,
            last_beat: now,
            // The first word may be lost; QUIC, which knows nothing of the path's ways yet, says it again after three round trips.
            longest_gap: heartbeat.interval + round_trip,
            round_trip,
            checked: now,
            packets: 0,
            arrived: now,
            flying: std::collections::VecDeque::new(),
            next: 0,
        };
        Self { heartbeat, state: Mutex::new(state) }
    }

    /// Something came from the other end.
    pub(super) fn heard(&self) {
        self.state().heard = Instant::now();
    }

    /// A beat came.
    fn beat(&self) {
        let now = Instant::now();
        let mut state = self.state();
        // The longest gap fades, so that a bad hour is forgotten in a minute.
        state.longest_gap = (now - state.last_beat).max(state.longest_gap.mul_f32(0.99));
        (state.heard, state.last_beat) = (now, now);
    }

    /// A beat of ours has arrived there.
    fn acked(&self, number: u64) {
        let now = Instant::now();
        let mut state = self.state();
        state.heard = now;
        while let Some(&(first, sent)) = state.flying.front() {
            if first > number {
                break;
            }
            state.confirmed = state.confirmed.max(sent);
            if first == number {
                state.round_trip = (now - sent).max(state.round_trip.mul_f32(0.9));
            }
            state.flying.pop_front();
        }
    }

    /// The number of the beat that is sent now.
    fn send(&self) -> u64 {
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        if state.flying.len() >= 1024 {
            state.flying.pop_front();
        }
        state.flying.push_back((number, Instant::now()));
        number
    }

    /// Looks at the clock, once an interval, and at how many packets of the other end have arrived by now; says why the link must end,
    /// if it must.
    pub(super) fn check(&self, packets: u64) -> Option<String> {
        let now = Instant::now();
        let mut state = self.state();
        let asleep = (now - state.checked).saturating_sub(2 * self.heartbeat.interval);
        state.checked = now;
        state.heard = (state.heard + asleep).min(now);
        state.confirmed = (state.confirmed + asleep).min(now);
        state.last_beat = (state.last_beat + asleep).min(now);
        state.arrived = if packets == state.packets { (state.arrived + asleep).min(now) } else { now };
        state.packets = packets;
        self.silence_at(now, &state).verdict()
    }

    pub(super) fn silence(&self) -> Silence {
        self.silence_at(Instant::now(), &self.state())
    }

    fn silence_at(&self, now: Instant, state: &State) -> Silence {
        let ceiling = self.heartbeat.ceiling.max(self.heartbeat.floor);
        let limit = (state.longest_gap * GAPS).clamp(self.heartbeat.floor, ceiling);
        let patience = if now - state.arrived <= limit { ceiling } else { limit };
        let round_trip = state.round_trip.min(ceiling - patience);
        Silence { heard: now - state.heard, confirmed: now - state.confirmed, limit, patience, round_trip }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What goes out on the heartbeat stream.
#[derive(Debug)]
pub(super) enum Signal {
    Beat,
    Ack(u64),
    Bye(String),
}

/// Writes signals. Beats that cannot be written wait here, and their silence is noticed.
pub(super) async fn sending(shared: Arc<Shared>, mut signals: mpsc::Receiver<Signal>, mut stream: SendStream) {
    while let Some(signal) = signals.recv().await {
        let (kind, number, reason) = match signal {
            Signal::Beat => (BEAT, shared.liveness.send(), String::new()),
            Signal::Ack(number) => (ACK, number, String::new()),
            Signal::Bye(mut reason) => {
                reason.truncate(reason.floor_char_boundary(MAX_REASON));
                (BYE, reason.len() as u64, reason)
            }
        };
        let mut record = vec![kind];
        record.extend_from_slice(&number.to_le_bytes());
        record.extend_from_slice(reason.as_bytes());
        if stream.write_all(&record).await.is_err() {
            return;
        }
    }
}

/// Reads signals and acknowledges beats; hands on the peer's reason to close.
pub(super) async fn receiving(
    shared: Arc<Shared>,
    signals: mpsc::Sender<Signal>,
    bye: impl Fn(String),
    mut stream: RecvStream,
) -> Received {
    let mut record = [0; RECORD];
    while stream.read_exact(&mut record).await.is_ok() {
        let [kind, number @ ..] = record;
        let number = u64::from_le_bytes(number);
        match kind {
            BEAT => {
                shared.liveness.beat();
                // A queue that is full of newer signals confirms as well.
                let _ = signals.try_send(Signal::Ack(number));
            }
            ACK => shared.liveness.acked(number),
            BYE => {
                let length = usize::try_from(number).ok().filter(|length| *length <= MAX_REASON);
                let mut reason = vec![0; length.ok_or_else(|| LinkDown::Violation { reason: format!("a farewell of {number} bytes") })?];
                if stream.read_exact(&mut reason).await.is_ok() {
                    bye(String::from_utf8_lossy(&reason).into_owned());
                }
            }
            other => return Err(LinkDown::Violation { reason: format!("on its heartbeat stream, a signal of kind {other}") }),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::advance;

    const MS: Duration = Duration::from_millis(1);

    /// Lets time pass as a link does: it checks once an interval.
    async fn pass(liveness: &Liveness, intervals: u32, mut each: impl FnMut()) -> Option<String> {
        for _ in 0..intervals {
            advance(150 * MS).await;
            each();
            if let Some(why) = liveness.check(0) {
                return Some(why);
            }
        }
        None
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_noticed_after_the_floor() {
        let liveness = Liveness::new(Heartbeat::default(), MS);
        let both = || {
            liveness.beat();
            liveness.acked(liveness.send());
        };
        assert_eq!(pass(&liveness, 1000, both).await, None);
        assert_eq!(pass(&liveness, 8, || ()).await, None, "1.2 s is the floor");
        assert_eq!(pass(&liveness, 1, || ()).await.unwrap(), "nothing was heard for 1.4 s");
    }

    /// Where the word that a beat has arrived is long under way, the beat before it is older than any floor.
    #[tokio::test(start_paused = true)]
    async fn a_slow_path_is_no_silence() {
        let liveness = Liveness::new(Heartbeat::default(), 1350 * MS);
        let mut sent = std::collections::VecDeque::new();
        let beats = || {
            sent.push_back(liveness.send());
            // Nine of 150 ms: there and back.
            if sent.len() > 9 {
                liveness.beat();
                liveness.acked(sent.pop_front().unwrap());
            } else {
                liveness.beat();
            }
        };
        assert_eq!(pass(&liveness, 100, beats).await, None);
        assert!(pass(&liveness, 18, || liveness.beat()).await.is_some(), "but what does not come back is noticed");
    }

    /// What was said first may have to be said twice: three round trips later, and half a one under way. Then it is as with others.
    #[tokio::test(start_paused = true)]
    async fn a_new_link_over_a_slow_path_waits_for_a_first_word_that_is_lost() {
        let liveness = Liveness::new(Heartbeat::default(), 450 * MS);
        assert_eq!(pass(&liveness, 13, || ()).await, None, "four round trips are 1.8 s");
        let both = || {
            liveness.beat();
            liveness.acked(liveness.send());
        };
        assert_eq!(pass(&liveness, 400, both).await, None);
        assert!(pass(&liveness, 13, || ()).await.is_some(), "it has shown that it is regular");
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_fails_one_way_is_noticed() {
        let liveness = Liveness::new(Heartbeat::default(), MS);
        let why = pass(&liveness, 20, || liveness.beat()).await.unwrap();
        assert_eq!(why, "it is heard, but has not heard us for 1.4 s");
    }

    /// A stream waits for what was lost in front. Whose packets arrive is there; whose do not is gone as soon as ever.
    #[tokio::test(start_paused = true)]
    async fn a_path_that_brings_packets_is_not_silent_before_the_ceiling() {
        let liveness = Liveness::new(Heartbeat::default(), MS);
        for packets in 1..=26 {
            advance(150 * MS).await;
            assert_eq!(liveness.check(packets), None, "packet {packets} came");
        }
        advance(150 * MS).await;
        assert_eq!(liveness.check(27).unwrap(), "nothing was heard for 4.1 s");

        let liveness = Liveness::new(Heartbeat::default(), MS);
        advance(150 * MS).await;
        assert_eq!(liveness.check(1), None);
        for intervals in 1..9 {
            advance(150 * MS).await;
            assert_eq!(liveness.check(1), None, "{intervals} since the last packet");
        }
        advance(150 * MS).await;
        assert_eq!(liveness.check(1).unwrap(), "nothing was heard for 1.5 s");
    }

    #[tokio::test(start_paused = true)]
    async fn irregular_beats_are_given_more_time_but_not_for_ever() {
        let liveness = Liveness::new(Heartbeat::default(), MS);
        for _ in 0..3 {
            assert_eq!(pass(&liveness, 6, || ()).await, None);
            liveness.beat();
            liveness.acked(liveness.send());
        }
        assert_eq!(liveness.silence().limit, 3600 * MS);
        for _ in 0..20 {
            assert_eq!(pass(&liveness, 20, || ()).await, None);
            liveness.beat();
            liveness.acked(liveness.send());
        }
        assert_eq!(liveness.silence().limit, Duration::from_secs(4), "the ceiling");
        assert!(pass(&liveness, 28, || ()).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_was_frozen_does_not_blame_the_others() {
        let liveness = Liveness::new(Heartbeat::default(), MS);
        advance(Duration::from_secs(60)).await;
        assert_eq!(liveness.check(0), None);
        assert!(pass(&liveness, 9, || ()).await.is_some(), "but the dead stay dead");
    }
}
