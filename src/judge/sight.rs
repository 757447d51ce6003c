//! What a judgement needs to see: a few questions, small also for a run of hundreds of ranks, put together to one view.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;

use everstep_actors::desk::question::{Comparison, Condition, Kind, Question};
use everstep_actors::desk::view::View;

use super::layout::talk;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;

/// Links of a large run are many: only the worst of each kind are looked at.
const LINKS: u64 = 200;

/// The run alone, as it was at most so many milliseconds ago.
pub(crate) fn run(at_most_ms: u64) -> Vec<Question> {
    vec![Question { kinds: vec![Kind::Run], at_most_ms: Some(at_most_ms), ..Question::default() }]
}

/// Who does what: the run, its nodes, ranks, actors and lanes, and the links that are worst in these ways.
fn at_work(worst: &[&str]) -> Vec<Question> {
    let kinds = vec![Kind::Run, Kind::Node, Kind::Rank, Kind::Actor, Kind::Lane];
    let links =
        |worst: &&str| Question { kinds: vec![Kind::Link], sort: Some((*worst).to_owned()), limit: Some(LINKS), ..Question::default() };
    let mut questions = vec![Question { kinds, ..Question::default() }];
    questions.extend(worst.iter().map(links));
    questions
}

/// For why the run waits or is slow.
pub(crate) fn pace() -> Vec<Question> {
    at_work(&["-heard_age_ms", "-rtt_ms", "-data_waiting"])
}

/// For the doctor: also checkpoints, shards, and what happened lately.
pub(crate) fn whole() -> Vec<Question> {
    let mut questions = at_work(&["-heard_age_ms", "-lost_packets"]);
    questions.push(Question { kinds: vec![Kind::Checkpoint], ..Question::default() });
    questions.push(Question { kinds: vec![Kind::Shard], ..Question::default() });
    questions.push(Question { kinds: vec![Kind::Event], ..Question::default() });
    questions
}

/// What is needed to tell about one thing.
pub(crate) fn of(typed: &str) -> Vec<Question> {
    let mut questions = at_work(&["-heard_age_ms"]);
    let kind = match typed.split('/').next() {
        Some("shard") => Kind::Shard,
        Some("checkpoint") => Kind::Checkpoint,
        Some("event") => Kind::Event,
        Some("link") => Kind::Link,
        _ => return questions,
    };
    let value = typed.split('/').nth(1).unwrap_or_default().to_owned();
    let filter = vec![Condition { field: "reference".into(), is: Comparison::Contains, value }];
    questions.push(Question { kinds: vec![kind], filter, ..Question::default() });
    questions
}

/// Asks all of them at once and puts the answers together; what could not be had is in [`View::missing`].
///
/// # Errors
/// Those of [`Eye::look`].
pub(crate) async fn ask(eye: &dyn Eye, questions: &[Question]) -> Result<View, Failure> {
    let mut whole: Option<View> = None;
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for view in together(questions.iter().map(|question| eye.look(question)).collect()).await {
        let mut view = view?;
        view.items.retain(|item| seen.insert(item.reference.clone()));
        match &mut whole {
            None => whole = Some(view),
            Some(whole) => {
                whole.items.append(&mut view.items);
                view.missing.retain(|missing| !whole.missing.contains(missing));
                whole.missing.append(&mut view.missing);
                whole.matched = whole.items.len() as u64;
            }
        }
    }
    whole.ok_or_else(|| Failure::new(ExitCode::Internal, "nothing was asked; please report it"))
}

/// Waits for all of them; each gets on while the others wait.
async fn together<T>(mut pending: Vec<Pin<Box<dyn Future<Output = T> + Send + '_>>>) -> Vec<T> {
    let mut done: Vec<Option<T>> = pending.iter().map(|_| None).collect();
    poll_fn(|context| {
        for (pending, done) in pending.iter_mut().zip(&mut done).filter(|(_, done)| done.is_none()) {
            if let Poll::Ready(answer) = pending.as_mut().poll(context) {
                *done = Some(answer);
            }
        }
        if done.iter().all(Option::is_some) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    done.into_iter().flatten().collect()
}

/// As [`ask`], and says on stderr what could not be had.
///
/// # Errors
/// As [`ask`].
pub(crate) async fn look(eye: &dyn Eye, questions: &[Question]) -> Result<View, Failure> {
    let view = ask(eye, questions).await?;
    view.missing.iter().for_each(|missing| talk(&format!("note: {missing}")));
    Ok(view)
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{Fake, healthy};
    use super::*;

    #[tokio::test]
    async fn answers_are_put_together_and_nothing_stands_twice() {
        let mut view = healthy(3);
        view.missing.push("node/x did not answer".into());
        let eye = Fake::of(view.clone());
        let seen = ask(&eye, &whole()).await.unwrap();
        assert_eq!((seen.items.len(), seen.missing.len()), (view.items.len(), 1));
        let links = ask(&eye, &of("link/n01/n03")).await.unwrap();
        assert_eq!(super::super::refer::resolve(&links, "link/n01/n03").unwrap().matches('/').count(), 2);
        assert_eq!(ask(&eye, &run(250)).await.unwrap().items.len(), 1);
        let away = Fake::away("nobody answers");
        assert_eq!(ask(&away, &pace()).await.unwrap_err().code, ExitCode::Unreachable);
        let gone = Failure::new(ExitCode::NotFound, "there is no such run");
        assert_eq!(ask(&Fake::blind(&gone), &pace()).await.unwrap_err(), gone, "what is not there is not what does not answer");
    }

    #[tokio::test]
    async fn all_questions_are_under_way_at_once() {
        let (first, second) = tokio::sync::oneshot::channel::<u8>();
        let waits: Pin<Box<dyn Future<Output = u8> + Send>> = Box::pin(async { second.await.unwrap() });
        let gives: Pin<Box<dyn Future<Output = u8> + Send>> = Box::pin(async { first.send(7).map(|()| 1).unwrap() });
        assert_eq!(together(vec![waits, gives]).await, [7, 1]);
    }
}
