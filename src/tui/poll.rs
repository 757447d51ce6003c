//! Asks the run and reads the store, beside the interface and never in its way.

use std::sync::Arc;
use std::time::Duration;

use everstep_actors::desk::view::{Scope, View};
use ratatui::crossterm::event::KeyEvent;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::ask::Ask;
use super::happenings::Digest;
use crate::desk::eye::Eye;

/// A question that is open for so long is given up and asked anew.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// What only the store tells does not change by itself, and reading it costs more than a question.
const STORE_EVERY: Duration = Duration::from_secs(5);
/// Reading the store goes on for at most a tenth of the time.
const EVENTS_EVERY: Duration = Duration::from_secs(5);

/// What the interface is told.
#[derive(Debug)]
pub(super) enum News {
    /// A question is on its way.
    Asked,
    /// Its answer.
    View(Ask, Box<View>),
    /// There will be no answer.
    Failed(String),
    /// What happened, or why that cannot be read.
    Events(Box<Result<Digest, String>>),
    /// A key was pressed.
    Key(KeyEvent),
    /// The terminal has another size.
    Resize(u16, u16),
    /// The terminal is gone, or the process is told to end.
    Hangup,
}

/// Asks what the page in front needs, every so often and at once when that changes. Questions never overlap.
pub(super) async fn looks(eye: Arc<dyn Eye>, mut wanted: watch::Receiver<Vec<Ask>>, every: Duration, news: mpsc::Sender<News>) {
    let mut asks = wanted.borrow_and_update().clone();
    let mut pause = every;
    loop {
        for ask in &asks {
            if news.send(News::Asked).await.is_err() {
                return;
            }
            let question = ask.question();
            let told = match timeout(GIVE_UP_AFTER, eye.look(&question)).await {
                Ok(Ok(view)) => {
                    pause = if view.scope == Scope::Store { every.max(STORE_EVERY) } else { every };
                    News::View(ask.clone(), Box::new(view))
                }
                Ok(Err(failure)) => News::Failed(failure.sentence),
                // For how long nobody has answered is counted by who shows it.
                Err(_) => break,
            };
            let failed = matches!(told, News::Failed(_));
            if news.send(told).await.is_err() {
                return;
            }
            if failed {
                break;
            }
        }
        tokio::select! {
            () = sleep(pause) => asks = wanted.borrow_and_update().clone(),
            changed = wanted.changed() => {
                if changed.is_err() {
                    return;
                }
                // Only what is new is asked at once: a key that moves must not fetch the whole run again.
                let before = std::mem::take(&mut asks);
                asks = wanted.borrow_and_update().iter().filter(|ask| !before.contains(ask)).cloned().collect();
            }
        }
    }
}

/// Reads what is durable, again and again.
pub(super) async fn events(eye: Arc<dyn Eye>, news: mpsc::Sender<News>) {
    loop {
        let began = Instant::now();
        let read = match eye.events().await {
            // Of a long run there are millions: they are made small away from the threads that answer.
            Ok(events) => tokio::task::spawn_blocking(move || Digest::of(&events)).await.map_err(|error| error.to_string()),
            Err(failure) => Err(failure.sentence),
        };
        if news.send(News::Events(Box::new(read))).await.is_err() {
            return;
        }
        sleep(EVENTS_EVERY.max(began.elapsed() * 10)).await;
    }
}
