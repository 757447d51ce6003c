//! `everstep eval`: what a trunk has learned, on labelled images.

use std::fmt::Write as _;

use serde::Serialize;

use super::output::{print, print_json};
use crate::cli::{EvalCommand, Failure, KnnArgs, ProbeArgs, PrototypesArgs};
use crate::eval::knn::Knn;
use crate::eval::linear::{self, Linear};
use crate::examine::{Exam, Labelled, LeftOut, Probe, PrototypeUse, Run, Subject, open_source, prototype_use};
use crate::report::tame;

/// What is told of an evaluation.
#[derive(Debug, Serialize)]
struct Outcome<R> {
    method: &'static str,
    /// The run, or the file of weights.
    run: String,
    /// Steps that the run had committed.
    step: Option<u64>,
    #[serde(flatten)]
    result: R,
    /// Test images of classes that the train images do not have: counted as wrong.
    test_of_other_classes: u64,
    left_out_of_train: LeftOut,
    left_out_of_test: LeftOut,
}

/// Evaluates and prints.
///
/// # Errors
/// As [`Subject::open`], [`Subject::weights`], [`open_source`] and [`Exam`]'s functions.
pub fn run(command: &EvalCommand) -> Result<(), Failure> {
    match command {
        EvalCommand::Knn(KnnArgs { probe, k, temperature }) => {
            let vote = |recipe: Probe| Probe { k: *k as usize, temperature: *temperature, ..recipe };
            evaluate(probe, "knn", vote, |exam, features| exam.vote(features), knn_text)
        }
        EvalCommand::Linear(probe) => {
            let fit = |exam: &Exam<'_>, features: &_| exam.probe(features, &linear::Settings::default());
            evaluate(probe, "linear", |recipe| recipe, fit, linear_text)
        }
        EvalCommand::Prototypes(args) => prototypes(args),
    }
}

/// The use of a run's prototypes over images.
#[derive(Debug, Serialize)]
struct Use {
    run: String,
    step: u64,
    #[serde(flatten)]
    result: PrototypeUse,
}

fn prototypes(args: &PrototypesArgs) -> Result<(), Failure> {
    let run = Run::open(&args.state.run)?;
    let source = open_source(&args.data)?;
    let (step, weights) = run.weights(args.state.step)?;
    let result = prototype_use(run.job(), &weights, &source, &Probe::of(run.recipe()))?;
    if args.json {
        return print_json(&Use { run: args.state.run.clone(), step, result });
    }
    let PrototypeUse { entropy, prototypes, unused, largest, images, left_out } = result;
    let place = &args.state.run;
    let text = format!(
        "prototypes of {place} at step {step}: {:.1} % of the entropy of even use\n  \
         {images} images; {unused} of {prototypes} prototypes unused, the most used one is nearest to {:.1} %\n",
        100.0 * entropy,
        100.0 * largest
    );
    let mut left = String::new();
    unreadable(&mut left, "", &left_out);
    print(&(text + &left))
}

fn evaluate<R: Serialize>(
    args: &ProbeArgs,
    method: &'static str,
    probe: impl FnOnce(Probe) -> Probe,
    result: impl FnOnce(&Exam<'_>, &(Labelled, Labelled)) -> Result<R, Failure>,
    text: impl FnOnce(&Outcome<R>) -> String,
) -> Result<(), Failure> {
    let subject = Subject::open(&args.subject)?;
    let (train, test) = (open_source(&args.train)?, open_source(&args.test)?);
    let exam = Exam::new(&train, &test, &probe(Probe::of(subject.recipe())))?;
    let (step, weights) = subject.weights()?;
    let features = exam.features(subject.job(), &weights)?;
    let outcome = Outcome {
        method,
        run: subject.place(),
        step,
        result: result(&exam, &features)?,
        test_of_other_classes: exam.strangers(),
        left_out_of_train: features.0.left_out,
        left_out_of_test: features.1.left_out,
    };
    match args.json {
        true => print_json(&outcome),
        false => print(&(text(&outcome) + &remarks(&outcome))),
    }
}

fn whose<R>(outcome: &Outcome<R>) -> String {
    outcome.step.map_or_else(|| outcome.run.clone(), |step| format!("{} at step {step}", outcome.run))
}

fn knn_text(outcome: &Outcome<Knn>) -> String {
    let Knn { top1, k, temperature, train, test, classes } = outcome.result;
    let of = whose(outcome);
    format!(
        "kNN of {of}: {top1:.2} % of {test} test images\n  \
         {k} neighbours among {train} train images of {classes} classes, temperature {temperature}\n"
    )
}

fn linear_text(outcome: &Outcome<Linear>) -> String {
    let Linear { top1, rate, tried, epochs, train, test, classes } = &outcome.result;
    let of = whose(outcome);
    let tried: Vec<String> = tried.iter().map(|(rate, top1)| format!("{rate} ({top1:.2} %)")).collect();
    format!(
        "linear probe of {of}: {top1:.2} % of {test} test images\n  \
         best of the learning rates {} on the test images: {rate}\n  \
         {epochs} passes over {train} train images of {classes} classes\n",
        tried.join(", ")
    )
}

/// What was not used, if anything.
fn remarks<R>(outcome: &Outcome<R>) -> String {
    let mut text = String::new();
    if outcome.test_of_other_classes > 0 {
        let images = outcome.test_of_other_classes;
        let _ = writeln!(text, "  {images} test images are of classes that the train images do not have, and count as wrong");
    }
    for (set, left_out) in [("train", &outcome.left_out_of_train), ("test", &outcome.left_out_of_test)] {
        if left_out.unlabelled > 0 {
            let _ = writeln!(text, "  {} {set} images without a label were left out", left_out.unlabelled);
        }
        unreadable(&mut text, set, left_out);
    }
    text
}

fn unreadable(text: &mut String, set: &str, left_out: &LeftOut) {
    let Some(bad) = left_out.unreadable.first() else { return };
    let (count, name, space) = (left_out.unreadable.len(), tame(&bad.name), if set.is_empty() { "" } else { " " });
    let _ = writeln!(text, "  {count} {set}{space}images that cannot be decoded were left out, for instance {name}: {}", tame(&bad.reason));
}
