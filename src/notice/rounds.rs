//! Rounds of questions: each source in a task of its own, at its pace, and one place where the answers meet.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::aws::Aws;
use super::azure::Azure;
use super::file::Leave;
use super::gcp::{Gcp, Key};
use super::http::Client;
use super::standing::Standing;
use super::url::Endpoint;
use super::{Answer, Ask, Notice};
use crate::config::{NoticeSource, Preemption};

/// Answers that wait to be heard; sources are not asked further while none fits.
const WAITING_MAX: usize = 16;

/// The tasks that ask, and what they hear.
pub(super) struct Rounds {
    pace: Duration,
    heard: mpsc::Receiver<(String, Answer)>,
    teller: mpsc::Sender<(String, Answer)>,
    asking: JoinSet<()>,
}

impl Rounds {
    fn add(&mut self, name: impl Into<String>, source: impl Ask) {
        self.asking.spawn(ask_on(name.into(), source, self.pace, self.teller.clone()));
    }
}

/// Begins to ask every source of the section. The names are those of notices: Compute Engine is two sources.
pub(super) fn start(section: &Preemption, client: &Client) -> Rounds {
    let (teller, heard) = mpsc::channel(WAITING_MAX);
    let mut rounds = Rounds { pace: Duration::from_secs_f64(section.poll), heard, teller, asking: JoinSet::new() };
    let urls = &section.base_url;
    for source in &section.sources {
        let name = source.to_string();
        match source {
            NoticeSource::Aws => rounds.add(name, Aws::new(client.clone(), &urls.aws, section.aws_rebalance)),
            NoticeSource::Gcp => {
                for key in [Key::Preempted, Key::Maintenance] {
                    rounds.add(format!("{name}/{}", key.name()), Gcp::new(client.clone(), &urls.gcp, key));
                }
            }
            NoticeSource::Azure => rounds.add(name, Azure::new(client.clone(), &urls.azure, section.azure_resource.clone())),
            NoticeSource::File(path) => rounds.add(name, Leave { path: path.into() }),
            NoticeSource::Http(url) => rounds.add(name, Endpoint::new(client.clone(), url)),
        }
    }
    rounds
}

/// Hears the answers and tells what they change, until nobody listens. The tasks end with it.
pub(super) async fn run(rounds: Rounds, notices: mpsc::Sender<Notice>) {
    let Rounds { pace, mut heard, teller, asking: _asking } = rounds;
    drop(teller);
    let (begun, mut standing, mut silent) = (Instant::now(), Standing::default(), BTreeMap::new());
    loop {
        let (source, answer) = tokio::select! {
            () = notices.closed() => return,
            answer = heard.recv() => match answer {
                Some(answer) => answer,
                None => return,
            },
        };
        note_silence(&mut silent, &source, &answer, pace);
        if let Some(notice) = standing.hear(begun.elapsed(), &source, answer)
            && notices.send(notice).await.is_err()
        {
            return;
        }
    }
}

/// Asks at once and then at the pace; a question that takes longer than that is followed by the next.
async fn ask_on(name: String, mut source: impl Ask, pace: Duration, teller: mpsc::Sender<(String, Answer)>) {
    let mut ticks = interval(pace);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let answer = source.ask().await;
        if teller.send((name.clone(), answer)).await.is_err() {
            return;
        }
    }
}

/// One line when a source falls silent and one when it speaks again: who switched it on may have misspelt it.
fn note_silence(silent: &mut BTreeMap<String, bool>, source: &str, answer: &Answer, pace: Duration) {
    let now = matches!(answer, Answer::Silent(_));
    let before = silent.insert(source.to_owned(), now);
    match answer {
        Answer::Silent(why) if before != Some(true) => {
            tracing::warn!("{source} tells nothing about preemption ({why}); it is asked again every {pace:?}");
        }
        Answer::Stands(_) | Answer::Clear if before == Some(true) => tracing::info!("{source} tells about preemption now"),
        _ => {}
    }
}
