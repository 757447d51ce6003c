//! `everstep events`: what happened, told once, and what happens.

use std::io::Write;
use std::time::Duration;

use everstep_actors::clock::wall_ms;
use everstep_actors::desk::question::{Kind, Question};
use everstep_actors::desk::view::{Fields, Item};
use everstep_actors::event::words::Severity;
use everstep_actors::event::{Event, Recorded};
use tokio::time::{MissedTickBehavior, interval};

use crate::cli::events::{AtLeast, EventsArgs};
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::judge::layout::{data, json, talk};
use crate::judge::story::Story;
use crate::judge::telling;
use crate::views::output::Output;
use crate::views::select::{newest, question, sorts_what_ends};
use crate::views::talk::cut;

/// Events that are remembered so that they are not told twice while following.
const REMEMBERED: usize = 200_000;
/// The store is not read more often than this.
const POLL_MIN_MS: u64 = 100;

/// Prints events, oldest first; with `--follow` until interrupted or until nobody reads any more.
///
/// # Errors
/// What is asked for cannot be, the store cannot be read, or stdout not be written.
pub async fn run(args: &EventsArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    sorts_what_ends(args.follow, &args.selection)?;
    let asked = question(&[Kind::Event], &args.selection)?;
    let events = eye.events().await?;
    let known = events.iter().map(|recorded| recorded.at_ms);
    let known = known.clone().min().zip(known.max());
    let since_ms = args.since.map_or(0, |since| since.resolve(wall_ms(), known));
    let mut story = if args.follow { Story::bounded(REMEMBERED) } else { Story::default() };
    let mut shown = news(&mut story, events);
    shown.retain(|recorded| wanted(args, since_ms, recorded));
    let (shown, matched) = newest(shown, fields, &asked);
    if matched == 0 {
        talk("no such event is durable");
    }
    cut(shown.len(), matched).iter().for_each(|sentence| talk(sentence));
    if !print(args, &shown, out)? || !args.follow {
        return Ok(ExitCode::Done);
    }
    follow(args, &asked, eye, &mut story, since_ms, out).await
}

/// Those of the event as an item: `everstep get events` knows them by the same names.
fn fields(recorded: &Recorded) -> Fields {
    Item::of_event(recorded).fields()
}

async fn follow(
    args: &EventsArgs,
    asked: &Question,
    eye: &dyn Eye,
    story: &mut Story,
    since_ms: u64,
    out: &mut dyn Write,
) -> Result<ExitCode, Failure> {
    let asked = Question { limit: None, ..asked.clone() };
    let mut ticks = interval(Duration::from_millis(args.poll.max(POLL_MIN_MS)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut away: Option<String> = None;
    loop {
        ticks.tick().await;
        match eye.events().await {
            Ok(events) => {
                away = None;
                let mut shown = news(story, events);
                shown.retain(|recorded| wanted(args, since_ms, recorded));
                let (shown, _) = newest(shown, fields, &asked);
                if !print(args, &shown, out)? {
                    return Ok(ExitCode::Done);
                }
            }
            Err(Failure { sentence: because, .. }) => {
                if away.as_ref() != Some(&because) {
                    talk(&format!("note: {because}; trying again"));
                }
                away = Some(because);
            }
        }
    }
}

/// What the story did not know, in order of time.
fn news(story: &mut Story, mut events: Vec<Recorded>) -> Vec<Recorded> {
    events.sort_by_key(|recorded| recorded.at_ms);
    events.retain(|recorded| story.add(recorded));
    events
}

fn wanted(args: &EventsArgs, since_ms: u64, recorded: &Recorded) -> bool {
    let least = match args.severity {
        AtLeast::Info => Severity::Info,
        AtLeast::Warning => Severity::Warning,
        AtLeast::Error => Severity::Error,
    };
    let step = matches!(recorded.event, Event::StepCommitted { .. });
    recorded.at_ms >= since_ms && recorded.event.severity() >= least && (args.all || !step)
}

/// Whether somebody still reads.
fn print(args: &EventsArgs, events: &[Recorded], out: &mut dyn Write) -> Result<bool, Failure> {
    for recorded in events {
        let reads = match args.form.output() {
            Output::Json | Output::Jsonl => json(out, &telling::json(recorded))?,
            Output::Table => data(out, &telling::line(recorded, args.wide))?,
            Output::Wide => data(out, &telling::line(recorded, true))?,
            Output::Name => data(out, &Item::of_event(recorded).reference)?,
        };
        if !reads {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;
    use crate::cli::desk::Form;
    use crate::cli::selection::Selection;
    use crate::judge::fixtures::{Fake, NOW, by, committed, epoch, lost, save_failed, waits};
    use crate::judge::layout::WIDTH;
    use crate::judge::moment::Moment;

    fn args() -> EventsArgs {
        EventsArgs {
            follow: false,
            since: None,
            severity: AtLeast::Info,
            all: false,
            selection: Selection::default(),
            wide: false,
            form: Form::default(),
            poll: 1_000,
        }
    }

    fn events() -> Vec<Recorded> {
        let long = "x".repeat(200);
        let mut events = vec![waits(NOW, "for ranks"), epoch(NOW + 1_000, 1, 0, 2, "start"), committed(NOW + 2_000, 0, 1)];
        events.extend([
            by(2, epoch(NOW + 1_010, 1, 0, 2, "start")),
            lost(NOW + 3_000, 2, "\x1b[31mgone"),
            save_failed(NOW + 4_000, 5, &long),
        ]);
        events
    }

    async fn told(args: &EventsArgs) -> Vec<String> {
        let mut out = Vec::new();
        assert_eq!(run(args, &Fake::remembers(events()), &mut out).await, Ok(ExitCode::Done));
        String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn each_event_is_one_line_told_once_without_steps() {
        let lines = told(&args()).await;
        assert_eq!(lines.len(), 4, "{lines:#?}");
        assert!(lines[0].starts_with("2026-11-24T12:00:00Z  info     for ranks"), "{lines:#?}");
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH && !line.contains('\x1b')), "{lines:#?}");
        assert_eq!(told(&EventsArgs { all: true, ..args() }).await.len(), 5);
        assert!(told(&EventsArgs { wide: true, ..args() }).await[3].ends_with("xxx"), "nothing is cut");
    }

    #[tokio::test]
    async fn filters_hold_and_the_limit_keeps_the_newest() {
        assert_eq!(told(&EventsArgs { severity: AtLeast::Warning, ..args() }).await.len(), 2);
        assert_eq!(told(&EventsArgs { severity: AtLeast::Error, ..args() }).await.len(), 0);
        assert_eq!(told(&EventsArgs { since: Some(Moment::parse("12:00:03").unwrap()), ..args() }).await.len(), 2);
        let last = Selection { limit: Some(1), ..Selection::default() };
        let lines = told(&EventsArgs { selection: last.clone(), form: Form::json(true), ..args() }).await;
        let named = Form { output: Output::Name, json: false };
        let names = told(&EventsArgs { selection: last, form: named, ..args() }).await;
        assert!(names[0].starts_with("event/n") && names[0].ends_with(&(NOW + 4_000).to_string()), "{names:?}");
        let json: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(
            (lines.len(), &json["event"], &json["severity"], &json["at_ms"]),
            (1, &"checkpoint_failed".into(), &"warning".into(), &(NOW + 4_000).into())
        );
    }

    #[tokio::test]
    async fn fields_choose_and_sort_as_they_do_for_get_before_the_limit_cuts() {
        let asked = |filter: &str, sort: Option<&str>, limit: Option<u64>| EventsArgs {
            selection: Selection { filter: vec![filter.into()], sort: sort.map(str::to_owned), limit },
            form: Form { output: Output::Name, json: false },
            ..args()
        };
        let at = |names: Vec<String>| {
            let ms = names.iter().map(|name| name.rsplit('/').next().unwrap().parse::<u64>().unwrap() - NOW);
            ms.collect::<Vec<_>>()
        };
        assert_eq!(at(told(&asked("event=node_lost", None, None)).await), [3_000]);
        assert_eq!(at(told(&asked("sev=warning", Some("-time"), None)).await), [4_000, 3_000]);
        assert_eq!(at(told(&asked("severity=warning", Some("time"), Some(1))).await), [3_000]);
        assert_eq!(at(told(&asked("severity=info", None, Some(1))).await), [1_000], "the newest of those that match");
        let refused = |args: EventsArgs| async move { run(&args, &Fake::away("nobody is asked"), &mut Vec::new()).await.unwrap_err() };
        let wrong = refused(asked("sevrity=info", None, None)).await;
        assert!(wrong.code == ExitCode::Usage && wrong.sentence.contains("events have at_ms"), "{wrong}");
        assert_eq!(refused(EventsArgs { follow: true, ..asked("step>1", Some("step"), None) }).await.code, ExitCode::Usage);
    }

    /// Takes so many lines, then closes.
    struct Pipe(usize, Vec<u8>);
    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.0 -= usize::from(bytes.contains(&b'\n'));
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn following_tells_news_alone_until_nobody_reads() {
        let (mut more, mut most) = (events(), events());
        more.push(lost(NOW + 5_000, 1, "later"));
        most.extend([lost(NOW + 5_000, 1, "later"), waits(NOW + 6_000, "last"), waits(NOW + 7_000, "nobody reads this")]);
        let eye =
            Fake::new(vec![Err("unused".into())], vec![Ok(events()), Ok(events()), Err("the store is away".into()), Ok(more), Ok(most)]);
        let mut pipe = Pipe(6, Vec::new());
        assert_eq!(run(&EventsArgs { follow: true, ..args() }, &eye, &mut pipe).await, Ok(ExitCode::Done));
        let text = String::from_utf8(pipe.1).unwrap();
        assert_eq!(text.lines().count(), 6, "{text}");
        assert!(text.lines().nth(4).unwrap().contains("later") && text.lines().nth(5).unwrap().contains("last"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn following_tells_only_what_was_asked_for_and_a_limit_holds_for_the_beginning() {
        let mut more = events();
        more.extend([lost(NOW + 5_000, 1, "later"), waits(NOW + 6_000, "no loss"), lost(NOW + 7_000, 3, "last")]);
        more.push(lost(NOW + 8_000, 4, "nobody reads this"));
        let eye = Fake::new(vec![Err("unused".into())], vec![Ok(events()), Ok(more)]);
        let mut pipe = Pipe(3, Vec::new());
        let selection = Selection { filter: vec!["severity=warning".into()], limit: Some(1), ..Selection::default() };
        assert_eq!(run(&EventsArgs { follow: true, selection, ..args() }, &eye, &mut pipe).await, Ok(ExitCode::Done));
        let text = String::from_utf8(pipe.1).unwrap();
        let told = ["checkpoint", "later", "last"];
        assert!(text.lines().zip(told).all(|(line, word)| line.contains(word)) && text.lines().count() == 3, "{text}");
    }
}
