//! What answers become, as a table: time in seconds since the beginning.

use std::time::Duration;

use super::super::standing::Standing;
use super::*;

/// What is told: kind of change, source, and the deadline in milliseconds from now.
#[derive(Debug, PartialEq)]
enum Told {
    Preempt(&'static str, Option<u64>),
    Cancelled(&'static str),
    Nothing,
}
use Told::{Cancelled, Nothing, Preempt};

fn stands(left: Option<u64>) -> Answer {
    let left = left.map(Duration::from_millis);
    Answer::Stands(Stands { kind: Kind::Terminate, left, because: "reclaimed".into() })
}

fn silent() -> Answer {
    Answer::Silent("slow".into())
}

fn check(title: &str, rows: &[(u64, &'static str, Answer, Told)]) {
    let mut standing = Standing::default();
    for (row, (now, source, answer, told)) in rows.iter().enumerate() {
        let notice = standing.hear(Duration::from_millis(*now), source, answer.clone());
        let found = match &notice {
            Some(Notice::Preempt { source: by, deadline, .. }) if by == source => {
                Preempt(source, deadline.map(|left| left.as_millis() as u64))
            }
            Some(Notice::Cancelled { source: by, .. }) if by == source => Cancelled(source),
            None => Nothing,
            other => panic!("{title}, row {row}: {other:?}"),
        };
        assert_eq!(&found, told, "{title}, row {row}");
    }
}

#[test]
fn repeated_notices_are_one() {
    check(
        "the same moment, seen through a clock of whole seconds",
        &[
            (0, "a", stands(Some(120_000)), Preempt("a", Some(120_000))),
            (2_000, "a", stands(Some(118_000)), Nothing),
            (4_000, "a", stands(Some(115_000)), Nothing),
            (6_000, "a", stands(Some(114_999)), Nothing),
        ],
    );
    check(
        "the same time, counted from each question",
        &[(0, "a", stands(Some(30_000)), Preempt("a", Some(30_000))), (9_000, "a", stands(Some(30_000)), Nothing)],
    );
    check("without a deadline", &[(0, "a", stands(None), Preempt("a", None)), (2_000, "a", stands(None), Nothing)]);
}

#[test]
fn an_earlier_deadline_is_told_and_a_later_one_is_not() {
    check(
        "tightened step by step",
        &[
            (0, "a", stands(None), Preempt("a", None)),
            (1_000, "a", stands(Some(120_000)), Preempt("a", Some(120_000))),
            (2_000, "a", stands(None), Nothing),
            (3_000, "a", stands(Some(116_999)), Preempt("a", Some(116_999))),
            (4_000, "a", stands(Some(300_000)), Nothing),
            (5_000, "a", stands(Some(0)), Preempt("a", Some(0))),
            (9_000, "a", stands(Some(0)), Nothing),
        ],
    );
}

#[test]
fn a_deadline_creeps_by_a_second_at_most_before_it_is_told() {
    check(
        "three quarters of a second earlier each time",
        &[
            (0, "a", stands(Some(60_000)), Preempt("a", Some(60_000))),
            (0, "a", stands(Some(59_250)), Nothing),
            (0, "a", stands(Some(58_500)), Preempt("a", Some(58_500))),
        ],
    );
}

#[test]
fn a_late_notice_is_immediate() {
    check("already over", &[(5_000, "a", stands(Some(0)), Preempt("a", Some(0))), (7_000, "a", stands(Some(0)), Nothing)]);
}

#[test]
fn what_is_taken_back_is_cancelled_once_and_may_come_again() {
    check(
        "back and forth",
        &[
            (0, "a", Answer::Clear, Nothing),
            (1_000, "a", stands(Some(30_000)), Preempt("a", Some(30_000))),
            (2_000, "a", Answer::Clear, Cancelled("a")),
            (3_000, "a", Answer::Clear, Nothing),
            (4_000, "a", stands(Some(60_000)), Preempt("a", Some(60_000))),
        ],
    );
}

#[test]
fn silence_changes_nothing() {
    check(
        "before, during and after a notice",
        &[
            (0, "a", silent(), Nothing),
            (1_000, "a", stands(Some(30_000)), Preempt("a", Some(30_000))),
            (2_000, "a", silent(), Nothing),
            (3_000, "a", stands(Some(28_000)), Nothing),
            (4_000, "a", silent(), Nothing),
            (5_000, "a", Answer::Clear, Cancelled("a")),
            (6_000, "a", silent(), Nothing),
        ],
    );
}

#[test]
fn of_two_sources_the_earliest_deadline_counts_and_both_must_take_it_back() {
    check(
        "two at once",
        &[
            (0, "a", stands(Some(120_000)), Preempt("a", Some(120_000))),
            (0, "b", stands(Some(200_000)), Nothing),
            (1_000, "b", stands(Some(25_000)), Preempt("b", Some(25_000))),
            (2_000, "a", stands(Some(118_000)), Nothing),
            (3_000, "b", Answer::Clear, Nothing),
            (4_000, "a", stands(Some(116_000)), Nothing),
            (5_000, "c", Answer::Clear, Nothing),
            (6_000, "a", Answer::Clear, Cancelled("a")),
        ],
    );
}
