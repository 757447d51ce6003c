//! Expressions: what they say, and when they hold.

use super::super::fixtures::{healthy, run};
use super::*;

fn holds(text: &str) -> bool {
    Expression::parse(text).unwrap().standing(&healthy(3)).holds
}

#[test]
fn every_field_and_comparison_is_understood() {
    let held = [
        "step>=100",
        "step<=100",
        "step=100",
        "step==100",
        "step!=99",
        "step>99",
        "step<101",
        "steps=1_000",
        "epoch>1",
        "ranks>=3",
        "lanes=6",
        "checkpoint>=95",
        "ledger<99",
        "images_per_s>79.5",
        "progress_age_ms<1000",
        "loss<5",
        "metrics.loss>4",
        "phases.compute>=0.5",
        "samples=0",
        "state=training",
        "state!=ended",
        "state~rain",
        "waiting=",
        "leader~n01",
        "paused=false",
        " step >= 100  and  state = training && epoch=2",
    ];
    held.iter().for_each(|text| assert!(holds(text), "{text}"));
    let not = [
        "step>=101",
        "epoch>2",
        "state=ended",
        "loss<4",
        "paused=true",
        "waiting~store",
        "entropy>0",
        "phases.none<9",
        "step>=100 and step<100",
    ];
    not.iter().for_each(|text| assert!(!holds(text), "{text}"));
}

#[test]
fn what_cannot_be_read_names_what_there_is() {
    let wrong = |text: &str| Expression::parse(text).unwrap_err();
    assert!(wrong("speed>1").contains("images_per_s") && wrong("speed>1").contains("metrics.NAME"));
    assert!(wrong("step").contains("step>=1000"));
    assert!(wrong("").contains("condition"));
    assert!(wrong("step>=soon").contains("\"soon\""));
    assert!(wrong("state>=ended").contains("text"));
    assert!(wrong("step~1").contains("number"));
    assert!(wrong("paused=maybe").contains("true or false"));
    assert!(wrong("step>=1 and").contains("step>=1000") || wrong("step>=1 and").contains("number"));
}

#[test]
fn a_loss_that_is_no_number_and_a_field_that_is_not_known_hold_nothing() {
    let view = run(healthy(2), "run", "training", |run| {
        run.metrics.insert("loss".into(), f64::NAN);
        run.checkpoint = None;
    });
    for text in ["loss<5", "loss>=5", "loss!=5", "checkpoint>=0", "checkpoint!=7"] {
        assert!(!Expression::parse(text).unwrap().standing(&view).holds, "{text}");
    }
}

#[test]
fn the_standing_tells_values_and_whether_the_run_is_over() {
    let view = run(healthy(2), "run", "ended", |run| run.waiting = Some("all steps are done".into()));
    let standing = Expression::parse("step>=200 and state=ended and step<900").unwrap().standing(&view);
    assert_eq!((standing.holds, standing.over, standing.text().as_str()), (false, true, "step=100, state=ended"));
    assert_eq!(Expression::parse("step >= 200 && waiting=").unwrap().to_string(), "step>=200 and waiting=");
    let mut nobody = view;
    nobody.items.clear();
    let standing = Expression::parse("waiting=").unwrap().standing(&nobody);
    assert_eq!((standing.holds, standing.over, standing.text().as_str()), (false, false, "waiting=unknown"));
}
