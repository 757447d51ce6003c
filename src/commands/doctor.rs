//! `everstep doctor`: all lints, and whether a fault stands.

use std::io::Write;

use everstep_actors::desk::answer::choose;
use everstep_actors::desk::view::Fields;

use crate::cli::doctor::DoctorArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::judge::doctor::{Finding, Lint};
use crate::judge::layout::{Shapes, shaped, talk};
use crate::judge::{doctor, sight};
use crate::views::fields;
use crate::views::output::Output;
use crate::views::select::List;
use crate::views::talk::{cut, nothing};

/// Prints the catalogue of lints; needs no run.
///
/// # Errors
/// What is asked for cannot be, or stdout cannot be written.
pub fn list(args: &DoctorArgs, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    let asked = List { name: "lints", fields: fields::of::<Lint>(), headings: &[] }.question(&args.selection)?;
    let (lints, matched) = choose(doctor::CATALOGUE.to_vec(), Fields::of, &asked);
    cut(lints.len(), matched).iter().for_each(|sentence| talk(sentence));
    let names = lints.iter().map(|lint| lint.name.to_owned()).collect();
    shaped(out, args.form.output(), Shapes { text: doctor::catalogue(&lints), whole: &lints, parts: &lints, names })?;
    Ok(ExitCode::Done)
}

/// Prints what the lints find; [`ExitCode::Unhealthy`] when a fault stands.
///
/// # Errors
/// What is asked for cannot be, or nothing can be seen of the run.
pub async fn run(args: &DoctorArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    if args.list {
        return list(args, out);
    }
    let asked = List { name: "findings", fields: fields::of::<Finding>(), headings: &[] }.question(&args.selection)?;
    let view = sight::look(eye, &sight::whole()).await?;
    let events = eye.events().await.unwrap_or_else(|failure| {
        talk(&format!("note: {}; lints of events see only what the leader remembers", failure.sentence));
        Vec::new()
    });
    let mut diagnosis = doctor::diagnose(&view, &events);
    let matched;
    (diagnosis.findings, matched) = choose(diagnosis.findings, Fields::of, &asked);
    cut(diagnosis.findings.len(), matched).iter().for_each(|sentence| talk(sentence));
    if matched == 0 && !asked.filter.is_empty() {
        talk(&nothing("findings", &args.selection.filter));
    }
    let names = diagnosis.findings.iter().map(|finding| finding.reference.clone()).collect();
    let form = args.form.output();
    shaped(out, form, Shapes { text: diagnosis.text(), whole: &diagnosis, parts: &diagnosis.findings, names })?;
    if form != Output::Json {
        for (lint, because) in &diagnosis.left_out {
            talk(&format!("note: {lint} did not look: {because}"));
        }
    }
    Ok(if diagnosis.healthy { ExitCode::Done } else { ExitCode::Unhealthy })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::desk::Form;
    use crate::cli::selection::Selection;
    use crate::judge::fixtures::{Fake, checkpoint, committed, healthy, run as of_run};

    async fn told(eye: &Fake, list: bool, json: bool) -> (ExitCode, String) {
        let mut out = Vec::new();
        let code = run(&DoctorArgs { list, selection: Selection::default(), form: Form::json(json) }, eye, &mut out).await.unwrap();
        (code, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn a_fault_ends_it_with_five_and_health_with_zero() {
        let (code, text) = told(&Fake::of(healthy(3)), false, false).await;
        assert!(code == ExitCode::Done && text.starts_with("healthy"), "{text}");
        let damaged = Fake::new(vec![Ok(checkpoint(healthy(3), "checkpoint/95", "damaged", |_| {}))], vec![Ok(vec![committed(1, 0, 1)])]);
        let (code, text) = told(&damaged, false, false).await;
        assert!(code == ExitCode::Unhealthy && text.contains("fault checkpoint-damaged"), "{text}");
        let (code, json) = told(&damaged, false, true).await;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((code, &json["healthy"], &json["findings"][0]["grade"]), (ExitCode::Unhealthy, &false.into(), &"fault".into()));
    }

    #[tokio::test]
    async fn the_catalogue_needs_no_run() {
        let (code, text) = told(&Fake::away("gone"), true, false).await;
        assert!(code == ExitCode::Done && text.contains("actor-stuck (fault)"), "{text}");
        let (_, json) = told(&Fake::away("gone"), true, true).await;
        let all: Vec<serde_json::Value> = serde_json::from_str(&json).unwrap();
        assert_eq!((all.len(), all[0].get("threshold").is_some()), (doctor::CATALOGUE.len(), true));
        assert_eq!(
            run(&DoctorArgs { list: false, selection: Selection::default(), form: Form::default() }, &Fake::away("gone"), &mut Vec::new())
                .await
                .unwrap_err()
                .code,
            ExitCode::Unreachable
        );
    }

    #[tokio::test]
    async fn what_is_chosen_makes_no_sick_run_look_well() {
        let sick = checkpoint(of_run(healthy(3), "run", "paused", |run| run.paused = true), "checkpoint/95", "damaged", |_| {});
        let eye = Fake::new(vec![Ok(sick)], vec![Ok(vec![committed(1, 0, 1)])]);
        let asked = async |list: bool, filter: &str, sort: Option<&str>, output: Output| {
            let selection = Selection { filter: vec![filter.into()], sort: sort.map(str::to_owned), limit: Some(1) };
            let mut out = Vec::new();
            let code = run(&DoctorArgs { list, selection, form: Form { output, json: false } }, &eye, &mut out).await;
            code.map(|code| (code, String::from_utf8(out).unwrap()))
        };
        let (code, names) = asked(false, "grade=note", None, Output::Name).await.unwrap();
        assert_eq!((code, names.as_str()), (ExitCode::Unhealthy, "run\n"));
        let (_, first) = asked(false, "lint~e", Some("-reference"), Output::Table).await.unwrap();
        assert!(first.starts_with("1 fault, 1 note: ") && first.contains("note run-paused") && !first.contains("damaged"), "{first}");
        let (code, lint) = asked(true, "grade=fault", Some("-name"), Output::Jsonl).await.unwrap();
        assert!(code == ExitCode::Done && lint.lines().count() == 1 && lint.contains("\"grade\":\"fault\""), "{lint}");
        let wrong = asked(false, "kind=x", None, Output::Table).await.unwrap_err();
        assert_eq!(wrong.sentence, "there is no field `kind` for --filter: findings have grade, lint, reference, remedy, says");
    }

    #[tokio::test]
    async fn without_events_the_rest_is_looked_at() {
        let eye = Fake::new(vec![Ok(healthy(2))], vec![Err("the store is away".into())]);
        let (code, json) = told(&eye, false, true).await;
        assert!(code == ExitCode::Done && json.contains("\"left_out\":{\"checkpoint-failing\""), "{json}");
    }
}
