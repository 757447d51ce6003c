//! Nothing gets on although nobody is lost. Nodes watch themselves; this is for what no node sees of itself.

use super::*;

/// How long nothing may get on: words may come late, and a first step compiles its kernels.
const STUCK: Duration = Duration::from_secs(60);
/// The same while shards move: they may be large.
const STUCK_MOVING: Duration = Duration::from_secs(600);
/// How many times longer than any step before it a step may take.
const TIMES: u32 = 8;

/// How far the epoch had come when it was looked at last.
#[derive(Debug, Clone, Default)]
pub(super) struct Progress {
    mark: (Epoch, Option<Step>, usize),
    since: Duration,
    stable: Duration,
    longest: Duration,
}

impl Coordinator {
    /// A step has become stable.
    pub(super) fn got_on(&mut self, now: Duration) {
        let progress = &mut self.progress;
        if progress.stable > Duration::ZERO {
            progress.longest = progress.longest.max(now.saturating_sub(progress.stable));
        }
        progress.stable = now;
    }

    /// Whoever keeps an epoch from beginning is put out; members of a step that does not end meet again in the next epoch.
    pub(super) fn look_for_progress(&mut self, now: Duration, acts: &mut Vec<Act>) {
        let awaited = self.awaited();
        let mark = (self.record.epoch, self.step(), awaited.len());
        let limit = if matches!(self.stage, Stage::Moving(_)) { STUCK_MOVING } else { STUCK.max(self.progress.longest * TIMES) };
        if awaited.is_empty() || mark != self.progress.mark {
            (self.progress.mark, self.progress.since) = (mark, now);
        } else if now >= self.progress.since + limit {
            self.progress.since = now;
            let seconds = limit.as_secs();
            if matches!(self.stage, Stage::Stepping(_)) {
                return self.at_once(now, format!("the step has not got on for {seconds} s: members meet again"), acts);
            }
            for node in awaited {
                self.put_out(now, node, format!("it has said nothing for {seconds} s while the epoch waited for it"), acts);
            }
        }
    }
}
