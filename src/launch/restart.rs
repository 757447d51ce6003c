//! When a rank whose process died is started anew: at once while the run makes progress, ever later while it does not.

use std::time::Duration;

/// Deaths in a row without a committed step between them after which a rank is given up.
const DEATHS_MAX: u32 = 8;
/// The longest pause before a start.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// The deaths of one rank's processes since the run last made progress.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Restarts {
    deaths: u32,
}

impl Restarts {
    /// A process has died; `progress` says whether steps were committed since it was started. The pause before the next
    /// start, or `None` when the rank is given up.
    pub(super) fn died(&mut self, progress: bool) -> Option<Duration> {
        self.deaths = if progress { 1 } else { self.deaths + 1 };
        let pause = match self.deaths {
            1 => Duration::ZERO,
            deaths => Duration::from_millis(250 << (deaths - 2).min(10)).min(PAUSE_MAX),
        };
        (self.deaths < DEATHS_MAX).then_some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_without_progress_and_a_rank_is_given_up_in_the_end() {
        let mut restarts = Restarts::default();
        let pauses: Vec<Option<u128>> = (0..8).map(|_| restarts.died(false).map(|pause| pause.as_millis())).collect();
        assert_eq!(pauses, [Some(0), Some(250), Some(500), Some(1_000), Some(2_000), Some(4_000), Some(8_000), None]);
    }

    #[test]
    fn a_run_that_makes_progress_takes_its_ranks_back_at_once_however_often_they_die() {
        let mut restarts = Restarts::default();
        assert!((0..1_000).all(|_| restarts.died(true) == Some(Duration::ZERO)));
    }
}
