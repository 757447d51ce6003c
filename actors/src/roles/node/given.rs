//! Answers that were given a moment ago: many who ask the same are answered by one gathering, which says itself of when it is.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::desk::question::Question;

/// So old an answer may be for who does not say: nobody sees half a second.
const MOMENT: Duration = Duration::from_millis(500);
/// So old it may be for who says that it looks again and again. Who waits for something says that it wants to know it sooner.
const OLDEST: Duration = Duration::from_secs(1);
/// Different questions that are remembered at most.
const QUESTIONS_MAX: usize = 64;

/// A packed answer, once it is there; who asks meanwhile waits for it.
pub(super) type Packed = Arc<OnceCell<Vec<u8>>>;

/// The answers of the last moment by their questions.
#[derive(Debug, Default)]
pub(super) struct Given {
    news: AtomicU64,
    answers: Mutex<BTreeMap<String, (Instant, u64, Packed)>>,
}

impl Given {
    /// Something happened that is no step: whoever asks from now on sees it.
    pub(super) fn outdate(&self) {
        self.news.fetch_add(1, Ordering::SeqCst);
    }

    /// The answer that was given to this question, if it is young enough for who asks now; or room for a new one.
    pub(super) fn to(&self, question: &Question) -> Packed {
        // A leader shares what it makes of its members' answers: shared twice it would be twice as old.
        if question.own {
            return Packed::default();
        }
        let at_most = question.at_most_ms.map_or(MOMENT, Duration::from_millis);
        // It is the same question, however old the answer may be.
        let Ok(asked) = serde_json::to_string(&Question { at_most_ms: None, ..question.clone() }) else { return Packed::default() };
        let news = self.news.load(Ordering::SeqCst);
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.retain(|_, (began, of, _)| *of == news && began.elapsed() < OLDEST);
        if let Some((_, _, packed)) = answers.get(&asked).filter(|(began, ..)| began.elapsed() < at_most) {
            return packed.clone();
        }
        let packed = Packed::default();
        if answers.len() < QUESTIONS_MAX || answers.contains_key(&asked) {
            answers.insert(asked, (Instant::now(), news, packed.clone()));
        }
        packed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desk::question::Kind;

    fn about(kind: Kind, at_most: Option<Duration>) -> Question {
        Question { kinds: vec![kind], at_most_ms: at_most.map(|at_most| at_most.as_millis() as u64), ..Question::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_shared_for_a_moment_and_no_longer_than_nothing_happens() {
        let (given, run) = (Given::default(), about(Kind::Run, None));
        let first = given.to(&run);
        assert!(Arc::ptr_eq(&first, &given.to(&run)));
        assert!(!Arc::ptr_eq(&first, &given.to(&about(Kind::Actor, None))), "another question");
        tokio::time::advance(MOMENT - Duration::from_millis(1)).await;
        assert!(Arc::ptr_eq(&first, &given.to(&run)));
        tokio::time::advance(Duration::from_millis(1)).await;
        let second = given.to(&run);
        assert!(!Arc::ptr_eq(&first, &second), "the moment is over");
        given.outdate();
        assert!(!Arc::ptr_eq(&second, &given.to(&run)), "something happened");
    }

    #[tokio::test(start_paused = true)]
    async fn who_wants_to_know_sooner_gets_a_younger_answer_and_all_have_that_one_then() {
        let (given, at_most) = (Given::default(), Duration::from_millis(100));
        let (run, sooner) = (about(Kind::Run, None), about(Kind::Run, Some(at_most)));
        let first = given.to(&sooner);
        tokio::time::advance(at_most - Duration::from_millis(1)).await;
        assert!(Arc::ptr_eq(&first, &given.to(&sooner)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(Arc::ptr_eq(&first, &given.to(&run)), "the moment is not over");
        let second = given.to(&sooner);
        assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &given.to(&run)));
        assert!(!Arc::ptr_eq(&second, &given.to(&about(Kind::Run, Some(Duration::ZERO)))), "none is shared");
    }

    #[tokio::test(start_paused = true)]
    async fn who_looks_again_and_again_shares_an_older_answer_and_never_one_of_a_second_ago() {
        let (given, patient) = (Given::default(), about(Kind::Rank, Some(Duration::from_secs(3_600))));
        let first = given.to(&about(Kind::Rank, None));
        tokio::time::advance(OLDEST - Duration::from_millis(1)).await;
        assert!(Arc::ptr_eq(&first, &given.to(&patient)));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!Arc::ptr_eq(&first, &given.to(&patient)));
    }

    #[test]
    fn what_a_node_tells_of_itself_is_told_anew() {
        let (given, own) = (Given::default(), Question { own: true, ..Question::default() });
        assert!(!Arc::ptr_eq(&given.to(&own), &given.to(&own)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_is_bounded() {
        let given = Given::default();
        (0..2 * QUESTIONS_MAX as u64).for_each(|n| drop(given.to(&Question { limit: Some(n), ..Question::default() })));
        assert_eq!(given.answers.lock().unwrap().len(), QUESTIONS_MAX);
        tokio::time::advance(OLDEST).await;
        drop(given.to(&about(Kind::Run, None)));
        assert_eq!(given.answers.lock().unwrap().len(), 1, "the old ones went");
    }
}
