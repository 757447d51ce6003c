//! `everstep tui`: the run in a terminal, live. State, drawing and the terminal are apart, so that two of them can be tested without
//! the third.

mod actors;
mod app;
mod ask;
mod draw;
mod happenings;
mod history;
mod keys;
mod poll;
mod sight;
mod terminal;
#[cfg(test)]
mod tests;
mod theme;
mod tree;

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use everstep_actors::clock::wall_ms;
use ratatui::Terminal;
use ratatui::backend::Backend;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::cli::tui::TuiArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use app::App;
use ask::Ask;
use poll::News;
use terminal::{Screen, Signals};
use theme::Theme;

/// Ages on the screen move on at least this often.
const REDRAW_EVERY: Duration = Duration::from_millis(500);

/// Shows the run until the operator leaves.
///
/// # Errors
/// There is no terminal, or it cannot be taken over.
pub async fn run(args: &TuiArgs, eye: Arc<dyn Eye>) -> Result<ExitCode, Failure> {
    if !(0.1..=3600.0).contains(&args.every) {
        return Err(Failure::new(ExitCode::Usage, format!("--every {}: use 0.1 to 3600 seconds", args.every)));
    }
    if !Screen::possible() {
        let sentence = "the terminal interface needs a terminal for its input and output: use `everstep status` or `everstep top --once`";
        return Err(Failure::new(ExitCode::Usage, sentence));
    }
    let theme = Theme::of(|name| std::env::var(name).ok(), args.ascii);
    let (news, told) = mpsc::channel(256);
    let mut app = App::new(args.page);
    let (wanted, asks) = watch::channel(app.asks());
    let mut tasks = JoinSet::new();
    tasks.spawn(poll::looks(Arc::clone(&eye), asks, Duration::from_secs_f64(args.every), news.clone()));
    tasks.spawn(poll::events(eye, news.clone()));
    let lost = |error: &dyn Display| Failure::new(ExitCode::Failed, format!("the terminal cannot be used: {error}"));
    let signals = Signals::caught().map_err(|error| lost(&error))?;
    let signals = tokio::spawn(signals.told(news.clone()));
    let mut screen = Screen::open(news).map_err(|error| lost(&error))?;
    let ended = tokio::select! {
        shown = show(&mut screen.terminal, &mut app, told, &wanted, theme) => shown.map_err(|error| lost(&error)),
        // They go on for ever: one that ended has panicked, and said so.
        _ = tasks.join_next() => Err(Failure::new(ExitCode::Internal, "the terminal interface stopped asking: please report it")),
    };
    signals.abort();
    drop(screen);
    ended.map(|()| ExitCode::Done)
}

/// Draws, takes in what is told, and draws again.
async fn show<B: Backend>(
    terminal: &mut Terminal<B>,
    app: &mut App,
    mut told: mpsc::Receiver<News>,
    wanted: &watch::Sender<Vec<Ask>>,
    theme: Theme,
) -> Result<(), B::Error> {
    // The clock on the wall may jump; ages on the screen must not.
    let (began_ms, began) = (wall_ms(), Instant::now());
    let mut redraw = interval(REDRAW_EVERY);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let size = terminal.size()?;
    app.on_resize(size.width, size.height);
    loop {
        app.on_tick(began_ms + began.elapsed().as_millis() as u64);
        if std::mem::take(&mut app.garbled) {
            terminal.clear()?;
        }
        terminal.draw(|frame| draw::draw(frame, app, theme))?;
        let first = tokio::select! {
            news = told.recv() => Some(news.unwrap_or(News::Hangup)),
            _ = redraw.tick() => None,
        };
        app.on_tick(began_ms + began.elapsed().as_millis() as u64);
        // What came meanwhile is taken in before the next drawing: a slow terminal must not make keys late.
        let mut next = first;
        while let Some(news) = next {
            take_in(app, news);
            next = told.try_recv().ok();
        }
        if app.quit {
            return Ok(());
        }
        let asks = app.asks();
        wanted.send_if_modified(|known| {
            let differs = *known != asks;
            *known = asks;
            differs
        });
    }
}

fn take_in(app: &mut App, news: News) {
    match news {
        News::Asked => app.on_asked(),
        News::View(ask, view) => app.on_view(&ask, *view),
        News::Failed(because) => app.on_failure(because),
        News::Events(read) => app.on_events(*read),
        News::Key(key) => app.on_key(key),
        News::Resize(columns, rows) => app.on_resize(columns, rows),
        News::Hangup => app.quit = true,
    }
}
