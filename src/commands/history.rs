//! `everstep history`: what was at a moment of the past, and all incidents.

use std::io::Write;

use everstep_actors::clock::wall_ms;
use everstep_actors::desk::view::Fields;

use crate::cli::history::HistoryArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::judge::history::{History, Then, at, timeline};
use crate::judge::incidents::{Incident, of};
use crate::judge::layout::{Shapes, shaped, talk};
use crate::judge::story::Story;
use crate::views::fields;
use crate::views::select::{List, newest};
use crate::views::talk::{cut, nothing};

/// Prints the run at a moment, or its incidents.
///
/// # Errors
/// What is asked for cannot be, or the store cannot be read.
pub async fn run(args: &HistoryArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let asked = list().question(&args.selection)?;
    if args.at.is_some() && !args.incidents && args.selection.is_given() {
        let sentence =
            "--filter, --sort and --limit choose incidents, and --at tells none: add --incidents, or see `everstep events --since`";
        return Err(Failure::new(ExitCode::Usage, sentence));
    }
    let events = eye.events().await?;
    let story = Story::of(&events);
    if story.is_empty() {
        talk("no events are durable: the run has not begun, or is older than they are kept");
    }
    let then = args.at.map(|moment| at(&story, moment.resolve(wall_ms(), story.known_ms()), args.around));
    let all = (args.at.is_none() || args.incidents).then(|| of(&story));
    let calm = all.as_ref().is_some_and(Vec::is_empty);
    let incidents = all.map(|all| newest(all, Fields::of, &asked)).map(|(incidents, matched)| {
        cut(incidents.len(), matched).iter().for_each(|sentence| talk(sentence));
        if matched == 0 && !calm {
            talk(&nothing("incidents", &args.selection.filter));
        }
        incidents
    });
    let mut text = then.as_ref().map(Then::text).unwrap_or_default();
    if let Some(incidents) = &incidents {
        if calm && !story.is_empty() {
            talk("no incidents: every step followed the one before");
        }
        text.extend((!text.is_empty() && !incidents.is_empty()).then(String::new));
        text.extend(timeline(incidents));
    }
    let moments = then.iter().map(serde_json::to_value);
    let parts = moments.chain(incidents.iter().flatten().map(serde_json::to_value)).filter_map(Result::ok).collect::<Vec<_>>();
    let members = then.iter().flat_map(|then| &then.members).map(|member| member.node.clone());
    let names = members.chain(incidents.iter().flatten().flat_map(|incident| incident.nodes.clone())).collect();
    let whole = History { schema_version: crate::judge::SCHEMA_VERSION, at: then, incidents };
    shaped(out, args.form.output(), Shapes { text, whole: &whole, parts: &parts, names })?;
    Ok(ExitCode::Done)
}

fn list() -> List {
    let headings = &[("no", "number"), ("began", "start_ms"), ("stalled", "stalled_s"), ("redone", "steps_redone")];
    List { name: "incidents", fields: fields::of::<Incident>(), headings }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::desk::Form;
    use crate::cli::selection::Selection;
    use crate::judge::fixtures::{Fake, NOW, committed, epoch, lost};
    use crate::judge::moment::Moment;
    use crate::views::output::Output;

    fn eye() -> Fake {
        let events =
            vec![epoch(NOW, 1, 0, 2, "start"), committed(NOW + 1_000, 0, 1), lost(NOW + 2_000, 2, "silent"), committed(NOW + 9_000, 1, 1)];
        Fake::remembers(events)
    }

    async fn told(eye: &Fake, at: Option<&str>, incidents: bool, json: bool) -> String {
        let mut out = Vec::new();
        let args = HistoryArgs {
            at: at.map(|text| Moment::parse(text).unwrap()),
            around: 5_000,
            incidents,
            selection: Selection::default(),
            form: Form::json(json),
        };
        assert_eq!(run(&args, eye, &mut out).await, Ok(ExitCode::Done));
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn a_time_of_the_day_is_the_run_s_own_however_long_ago() {
        let text = told(&eye(), Some("12:00:03"), false, false).await;
        assert!(text.contains("2026-11-24T12:00:03Z") && text.contains("state      waiting") && !text.contains("BEGAN"), "{text}");
        let both = told(&eye(), Some("12:00:03"), true, false).await;
        assert!(both.starts_with(&text) && both.contains("BEGAN"), "{both}");
    }

    #[tokio::test]
    async fn without_a_moment_it_tells_the_incidents() {
        let text = told(&eye(), None, false, false).await;
        assert!(text.lines().count() == 2 && text.contains("n02020202") && text.contains("loss"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&told(&eye(), None, false, true).await).unwrap();
        assert_eq!((&json["incidents"][0]["kind"], &json["at"]), (&"loss".into(), &serde_json::Value::Null));
        let json: serde_json::Value = serde_json::from_str(&told(&eye(), Some("2026-11-24T12:00:03"), false, true).await).unwrap();
        assert_eq!((&json["at"]["state"], &json["at"]["around"][0]["event"]), (&"waiting".into(), &"epoch_began".into()));
        assert_eq!(told(&Fake::remembers(vec![]), None, false, false).await, "");
    }

    #[tokio::test]
    async fn incidents_are_chosen_and_sorted_by_what_they_have_before_the_limit_cuts() {
        let mut events = vec![epoch(NOW, 1, 0, 2, "start"), committed(NOW + 1_000, 0, 1)];
        for (number, stall_ms) in [(1, 2_000), (2, 9_000), (3, 5_000)] {
            let at_ms = NOW + 100_000 * number;
            events.push(committed(at_ms - 1_000, 2 * number - 1, 1));
            events.extend([lost(at_ms, 2, "silent"), committed(at_ms + stall_ms, 2 * number, 1)]);
        }
        let eye = Fake::remembers(events);
        let asked = |filter: &[&str], sort: Option<&str>, limit: Option<u64>| {
            let filter = filter.iter().map(|text| (*text).to_owned()).collect();
            let selection = Selection { filter, sort: sort.map(str::to_owned), limit };
            HistoryArgs { at: None, around: 5_000, incidents: false, selection, form: Form { output: Output::Jsonl, json: false } }
        };
        let numbers = async |args: HistoryArgs| {
            let mut out = Vec::new();
            run(&args, &eye, &mut out).await.unwrap();
            let incidents = String::from_utf8(out).unwrap();
            incidents.lines().map(|line| serde_json::from_str::<Incident>(line).unwrap().number).collect::<Vec<_>>()
        };
        assert_eq!(numbers(asked(&[], None, Some(2))).await, [2, 3], "the newest, oldest first");
        assert_eq!(numbers(asked(&[], Some("-stalled"), None)).await, [2, 3, 1]);
        assert_eq!(numbers(asked(&["kind=loss", "stalled>3s"], Some("stalled"), Some(1))).await, [3]);
        assert_eq!(numbers(asked(&["kind=hang"], None, None)).await, [0; 0]);
        let at = HistoryArgs { at: Some(Moment::parse("-1m").unwrap()), ..asked(&["kind=loss"], None, None) };
        let refused = run(&at, &eye, &mut Vec::new()).await.unwrap_err();
        assert!(refused.code == ExitCode::Usage && refused.sentence.contains("add --incidents"), "{refused}");
        let wrong = run(&asked(&["node=x"], None, None), &Fake::away("nobody is asked"), &mut Vec::new()).await.unwrap_err();
        assert!(wrong.sentence.contains("incidents have cause, end_ms"), "{wrong}");
    }
}
