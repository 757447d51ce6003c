//! `everstep wait`: until something is true of the run.

use std::io::Write;
use std::time::Duration;

use everstep_actors::event::{Event, Recorded};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use crate::cli::wait::WaitArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::judge::layout::{Shapes, shaped, talk};
use crate::judge::sight;
use crate::judge::wait::{Held, Standing};
use crate::report::duration;

/// Nobody is asked more often than this.
const POLL_MIN_MS: u64 = 10;
/// No timeout is longer than this: a year.
const TIMEOUT_MAX_MS: u64 = 31_536_000_000;

/// What was seen last.
#[derive(Debug, Default)]
struct Last {
    standing: Option<Standing>,
    because: Option<String>,
}

/// Waits until the expression holds, and prints the values that made it hold.
///
/// # Errors
/// [`ExitCode::Timeout`] when it did not come true in time, [`ExitCode::Unreachable`] if nobody ever answered;
/// [`ExitCode::Failed`] or [`ExitCode::Unhealthy`] when the run has ended and it cannot come true any more.
pub async fn run(args: &WaitArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let started = Instant::now();
    let limit = Duration::from_millis(args.timeout.min(TIMEOUT_MAX_MS));
    talk(&format!("waiting until {}, for at most {}", args.expression, duration(limit.as_secs_f64())));
    let mut last = Last::default();
    let Ok(standing) = timeout_at(started + limit, until(args, eye, &mut last)).await else {
        return Err(timed_out(args, &last, limit));
    };
    if !standing.holds {
        return Err(over(args, eye, &standing).await);
    }
    let seconds = started.elapsed().as_secs_f64();
    let text = vec![crate::report::tame(&format!("{} after {}", standing.text(), duration(seconds)))];
    let values = standing.values.into_iter().collect();
    let held = Held { schema_version: crate::judge::SCHEMA_VERSION, expression: args.expression.to_string(), values, seconds };
    let parts = std::slice::from_ref(&held);
    shaped(out, args.form.output(), Shapes { text, whole: &held, parts, names: vec!["run".into()] })?;
    Ok(ExitCode::Done)
}

/// Asks again and again until it holds or the run is over.
async fn until(args: &WaitArgs, eye: &dyn Eye, last: &mut Last) -> Standing {
    let mut ticks = interval(Duration::from_millis(args.poll.max(POLL_MIN_MS)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // The run may not be there yet, or change its leader: that passes.
        match sight::ask(eye, &sight::run(args.poll)).await {
            Err(failure) => {
                if last.because.as_ref() != Some(&failure.sentence) {
                    talk(&format!("note: {}; asking again", failure.sentence));
                    last.because = Some(failure.sentence);
                }
            }
            Ok(view) => {
                let standing = args.expression.standing(&view);
                if standing.holds || standing.over {
                    return standing;
                }
                *last = Last { standing: Some(standing), because: None };
            }
        }
    }
}

fn timed_out(args: &WaitArgs, last: &Last, limit: Duration) -> Failure {
    let limit = duration(limit.as_secs_f64());
    match (&last.standing, &last.because) {
        (Some(standing), _) => Failure::new(
            ExitCode::Timeout,
            format!("{} did not come true within {limit}: now {}; see `everstep why`", args.expression, standing.text()),
        ),
        (None, because) => {
            let because = because.as_deref().unwrap_or("it takes too long to answer");
            Failure::new(ExitCode::Unreachable, format!("nobody answered within {limit}: {because}"))
        }
    }
}

async fn over(args: &WaitArgs, eye: &dyn Eye, standing: &Standing) -> Failure {
    let events = eye.events().await.unwrap_or_default();
    let outcome = events.iter().rev().find_map(|Recorded { event, .. }| match event {
        Event::Ended { outcome, because, .. } if outcome != "left" => Some((outcome.as_str(), because.as_str())),
        _ => None,
    });
    let (outcome, because) = outcome.unwrap_or(("ended", "nobody told why"));
    let code = if matches!(outcome, "failed" | "unusable") { ExitCode::Unhealthy } else { ExitCode::Failed };
    let told = crate::report::tame(because);
    Failure::new(code, format!("the run has ended ({outcome}: {told}), and {} is not true: {}", args.expression, standing.text()))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use everstep_actors::desk::question::Question;
    use everstep_actors::desk::view::View;

    use super::*;
    use crate::cli::desk::Form;
    use crate::judge::fixtures::{Fake, ended, healthy, run as of_run};
    use crate::judge::wait::Expression;

    fn args(expression: &str, json: bool) -> WaitArgs {
        WaitArgs { expression: Expression::parse(expression).unwrap(), timeout: 60_000, poll: 250, form: Form::json(json) }
    }

    fn at_step(step: u64, state: &str) -> View {
        of_run(healthy(2), "run", state, |run| run.step = step)
    }

    async fn told(args: &WaitArgs, eye: &Fake) -> (Result<ExitCode, Failure>, String, u128) {
        let (started, mut out) = (Instant::now(), Vec::new());
        let result = run(args, eye, &mut out).await;
        (result, String::from_utf8(out).unwrap(), started.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn it_asks_until_it_holds_and_tells_the_values() {
        let views = || (98..=100).map(|step| Ok(at_step(step, "training"))).collect();
        let (result, text, ms) = told(&args("step>=100", false), &Fake::new(views(), vec![Ok(vec![])])).await;
        assert_eq!((result, text.as_str(), ms / 10), (Ok(ExitCode::Done), "step=100 after 0.5 s\n", 50));
        let (_, json, _) = told(&args("step>=100 and state=training", true), &Fake::new(views(), vec![Ok(vec![])])).await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(
            (&json["values"]["step"], &json["values"]["state"], &json["expression"]),
            (&"100".into(), &"training".into(), &"step>=100 and state=training".into())
        );
    }

    /// A run at step 1 that keeps how old answers may be.
    #[derive(Default)]
    struct Asked(Mutex<Vec<Option<u64>>>);

    #[async_trait]
    impl Eye for Asked {
        async fn look(&self, question: &Question) -> Result<View, Failure> {
            self.0.lock().unwrap().push(question.at_most_ms);
            Ok(at_step(1, "training"))
        }
        async fn events(&self) -> Result<Vec<Recorded>, Failure> {
            Ok(Vec::new())
        }
    }

    #[tokio::test]
    async fn no_answer_is_older_than_the_time_between_two_questions() {
        let eye = Asked::default();
        assert_eq!(run(&args("step>=1", false), &eye, &mut Vec::new()).await, Ok(ExitCode::Done));
        assert_eq!(*eye.0.lock().unwrap(), [Some(250)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_true_in_time_says_how_it_stands() {
        let (result, text, ms) = told(&args("step>=1000", false), &Fake::of(at_step(40, "training"))).await;
        let failure = result.unwrap_err();
        assert_eq!((failure.code, text.as_str(), ms), (ExitCode::Timeout, "", 60_000));
        assert!(failure.sentence.contains("now step=40"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_not_there_yet_is_waited_for() {
        let views = vec![Err("there is no run yet".into()), Err("there is no run yet".into()), Ok(at_step(1, "training"))];
        assert_eq!(told(&args("step>=1", false), &Fake::new(views, vec![Ok(vec![])])).await.0, Ok(ExitCode::Done));
        let failure = told(&args("step>=1", false), &Fake::away("there is no run")).await.0.unwrap_err();
        assert!(failure.code == ExitCode::Unreachable && failure.sentence.contains("there is no run"), "{failure}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_has_ended_makes_nothing_true_any_more() {
        for (outcome, code) in [("done", ExitCode::Failed), ("failed", ExitCode::Unhealthy)] {
            let eye = Fake::new(
                vec![Ok(at_step(40, "training")), Ok(at_step(50, "ended"))],
                vec![Ok(vec![ended(1, 50, outcome), ended(2, 3, "left")])],
            );
            let (result, _, ms) = told(&args("step>=1000", false), &eye).await;
            let failure = result.unwrap_err();
            assert!(failure.code == code && ms < 1_000 && failure.sentence.contains(outcome), "{failure}");
        }
        assert_eq!(told(&args("state=ended", false), &Fake::of(at_step(50, "ended"))).await.0, Ok(ExitCode::Done));
    }
}
