//! Examines published checkpoints beside the training, on a thread of its own.

use std::collections::BTreeMap;
use std::sync::Arc;

use everstep_actors::event::Event;
use everstep_actors::protocol::ids::Step;
use tokio::sync::mpsc;

use super::prepare::Prepared;
use crate::cli::{ExitCode, Failure};
use crate::data::Source;
use crate::examine::{self, Probe, Run};
use crate::report::names;

/// Images of the bank while training goes on: enough to see a trend, few enough to cost seconds.
const BANK_WHILE_TRAINING: usize = 2_000;
/// Images that are judged while training goes on.
const TEST_WHILE_TRAINING: usize = 500;

/// What the thread is asked.
enum Question {
    /// A glance at a checkpoint.
    Glance(Step),
    /// The full report on the last checkpoint, baselines and all.
    Report(Option<Step>),
}

/// The thread, from outside.
pub(super) struct Examiner {
    questions: std::sync::mpsc::Sender<Question>,
    answers: mpsc::Receiver<Event>,
}

impl Examiner {
    /// Starts the thread, where there are labelled images.
    pub(super) fn start(prepared: &Prepared) -> Result<Option<Self>, Failure> {
        let Some(test) = prepared.test.clone() else { return Ok(None) };
        if test.classes().is_empty() || prepared.train.classes().is_empty() {
            return Ok(None);
        }
        let (questions, asked) = std::sync::mpsc::channel();
        let (answer, answers) = mpsc::channel(64);
        let thread = Thread { location: prepared.run.clone(), steps: prepared.steps, train: prepared.train.clone(), test };
        let spawned = std::thread::Builder::new().name("examiner".into()).spawn(move || thread.work(&asked, &answer));
        spawned.map_err(|error| Failure::new(ExitCode::Internal, format!("the examiner's thread cannot be started: {error}")))?;
        Ok(Some(Self { questions, answers }))
    }

    /// Asks for a glance at a checkpoint. The thread takes them in turn.
    pub(super) fn examine(&self, step: Step) {
        // A thread that has ended has said why.
        let _ = self.questions.send(Question::Glance(step));
    }

    /// The next answer.
    pub(super) async fn next(&mut self) -> Option<Event> {
        match self.answers.recv().await {
            Some(event) => Some(event),
            // Nothing will come any more; the launcher goes on waiting for its nodes.
            None => std::future::pending().await,
        }
    }

    /// The last answers: the full report on the checkpoint after `last`, if there is one.
    pub(super) async fn finish(mut self, last: Option<Step>) -> Vec<Event> {
        let _ = self.questions.send(Question::Report(last));
        drop(self.questions);
        let mut events = Vec::new();
        while let Some(event) = self.answers.recv().await {
            events.push(event);
        }
        events
    }
}

struct Thread {
    location: String,
    steps: u64,
    train: Arc<Source>,
    test: Arc<Source>,
}

impl Thread {
    fn work(&self, asked: &std::sync::mpsc::Receiver<Question>, answer: &mpsc::Sender<Event>) {
        while let Ok(question) = asked.recv() {
            let (step, scores) = match question {
                Question::Glance(step) => (step, self.glance(step)),
                Question::Report(None) => return,
                Question::Report(Some(step)) => (step, self.report(step)),
            };
            let event = match scores {
                Ok(scores) => Event::Evaluated { step, scores },
                Err(failure) => {
                    Event::Waiting { because: format!("the trunk after step {} could not be examined: {}", step.0, failure.sentence) }
                }
            };
            if answer.blocking_send(event).is_err() {
                return;
            }
        }
    }

    fn probe(&self, run: &Run, whole: bool) -> Probe {
        let all = Probe::of(run.recipe());
        if whole { all } else { Probe { threads: 1, bank_max: Some(BANK_WHILE_TRAINING), test_max: Some(TEST_WHILE_TRAINING), ..all } }
    }

    fn glance(&self, step: Step) -> Result<BTreeMap<String, f64>, Failure> {
        let run = Run::open(&self.location)?;
        let (_, weights) = run.weights(Some(step.0))?;
        let knn = examine::knn_of(&run, &weights, &self.train, &self.test, &self.probe(&run, false))?;
        Ok([(names::KNN.to_owned(), knn)].into())
    }

    fn report(&self, step: Step) -> Result<BTreeMap<String, f64>, Failure> {
        let run = Run::open(&self.location)?;
        let (_, weights) = run.weights(Some(step.0))?;
        let probe = self.probe(&run, true);
        let mut scores = BTreeMap::new();
        scores.insert(names::KNN.to_owned(), examine::knn_of(&run, &weights, &self.train, &self.test, &probe)?);
        if step.0 >= self.steps {
            let baselines = examine::baselines(&run, &self.train, &self.test, &probe)?;
            scores.insert(names::KNN_RANDOM.to_owned(), baselines.random_init);
            scores.insert(names::KNN_PIXELS.to_owned(), baselines.raw_pixels);
            scores.insert(names::KNN_COLOURS.to_owned(), baselines.colour_histogram);
        }
        Ok(scores)
    }
}
