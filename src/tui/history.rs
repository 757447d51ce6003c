//! The curves: loss and throughput by step, bounded however long the run is.

/// Points that are kept.
pub(super) const POINTS_MAX: usize = 4096;

/// A committed step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// Steps committed.
    pub(super) step: u64,
    /// The epoch that committed it.
    pub(super) epoch: u64,
    /// When, milliseconds since the Unix epoch.
    pub(super) at_ms: u64,
    /// The loss, where it was told.
    pub(super) loss: Option<f64>,
    /// Images in a second.
    pub(super) images_per_s: f64,
}

/// Points in the order of their steps.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct History {
    points: Vec<Point>,
}

impl History {
    /// A step more. A step that a later epoch computed anew, and all after it, replace what was there. What many members tell of the
    /// same step is told once.
    pub(super) fn push(&mut self, point: Point) {
        if self.last().is_some_and(|last| last >= (point.epoch, point.step)) {
            return;
        }
        let keep = self.points.partition_point(|known| known.step < point.step);
        self.points.truncate(keep);
        self.points.push(point);
        if self.points.len() > POINTS_MAX {
            self.thin();
        }
    }

    /// Drops every second of the older half, so that what is new stays sharp. The first and the last stay.
    fn thin(&mut self) {
        let half = self.points.len() / 2;
        let mut number = 0;
        self.points.retain(|_| {
            number += 1;
            number > half || number % 2 == 1
        });
    }

    /// Takes over what another history knows beyond this one.
    pub(super) fn extend(&mut self, other: &Self) {
        let last = self.last();
        for point in other.points.iter().filter(|point| last.is_none_or(|last| (point.epoch, point.step) > last)) {
            self.push(*point);
        }
    }

    fn last(&self) -> Option<(u64, u64)> {
        self.points.last().map(|point| (point.epoch, point.step))
    }

    /// What is kept.
    pub(super) fn points(&self) -> &[Point] {
        &self.points
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(step: u64) -> Point {
        Point { step, epoch: 1, at_ms: step * 1000, loss: Some(1.0), images_per_s: 10.0 }
    }

    #[test]
    fn long_runs_stay_bounded_and_keep_both_ends() {
        let mut history = History::default();
        (0..100_000).for_each(|step| history.push(point(step)));
        let points = history.points();
        assert!(points.len() <= POINTS_MAX && points.len() > POINTS_MAX / 4, "{}", points.len());
        assert_eq!((points[0].step, points[points.len() - 1].step), (0, 99_999));
        assert!(points.windows(2).all(|pair| pair[0].step < pair[1].step));
    }

    #[test]
    fn a_step_that_is_computed_anew_replaces_what_came_after() {
        let mut history = History::default();
        let told = |step, epoch| Point { epoch, ..point(step) };
        // Another member tells of the second step late; then an epoch begins that computes it anew.
        for point in [told(1, 1), told(2, 1), told(3, 1), told(2, 1), told(4, 1), told(2, 2), told(3, 1)] {
            history.push(point);
        }
        assert_eq!(history.points().iter().map(|point| (point.step, point.epoch)).collect::<Vec<_>>(), [(1, 1), (2, 2)]);
    }

    #[test]
    fn what_was_seen_live_outlives_a_store_that_is_behind() {
        let (mut stored, mut live) = (History::default(), History::default());
        [1, 2, 3].map(point).into_iter().for_each(|point| stored.push(point));
        [2, 3, 4, 5].map(point).into_iter().for_each(|point| live.push(point));
        stored.extend(&live);
        assert_eq!(stored.points().iter().map(|point| point.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    }
}
