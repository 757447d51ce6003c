//! The terminal: taken over at the beginning, given back whatever happens.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use super::poll::News;

/// How long the thread that reads keys may take to notice that nobody wants them.
const NOTICE_WITHIN: Duration = Duration::from_millis(100);

/// Raw mode and the other screen; dropping it gives both back.
#[derive(Debug)]
pub(super) struct Screen {
    /// To draw on.
    pub(super) terminal: DefaultTerminal,
    stop: Arc<AtomicBool>,
    keys: Option<JoinHandle<()>>,
}

impl Screen {
    /// Whether there is a terminal to take over.
    pub(super) fn possible() -> bool {
        io::stdin().is_terminal() && io::stdout().is_terminal()
    }

    /// Takes the terminal over; a panic gives it back before it says anything.
    pub(super) fn open(news: mpsc::Sender<News>) -> io::Result<Self> {
        let terminal = ratatui::try_init().inspect_err(|_| ratatui::restore())?;
        let stop = Arc::new(AtomicBool::new(false));
        let mut screen = Self { terminal, stop: Arc::clone(&stop), keys: None };
        let thread = std::thread::Builder::new().name("keys".into());
        screen.keys = Some(thread.spawn(move || read_keys(&stop, &news))?);
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // What is typed from now on belongs to the shell.
        if let Some(keys) = self.keys.take() {
            let _ = keys.join();
        }
        ratatui::restore();
    }
}

fn read_keys(stop: &AtomicBool, news: &mpsc::Sender<News>) {
    while !stop.load(Ordering::Relaxed) {
        let read = match event::poll(NOTICE_WITHIN) {
            Ok(false) => continue,
            Ok(true) => event::read(),
            Err(error) => Err(error),
        };
        let told = match read {
            Ok(Event::Key(key)) if key.kind != KeyEventKind::Release => News::Key(key),
            Ok(Event::Resize(columns, rows)) => News::Resize(columns, rows),
            Ok(_) => continue,
            Err(_) => News::Hangup,
        };
        let over = matches!(told, News::Hangup);
        // The receiver is gone before this thread is waited for.
        if news.blocking_send(told).is_err() || over {
            return;
        }
    }
}

/// The signals that end a process, caught so that the terminal is given back first.
#[derive(Debug)]
pub(super) struct Signals([Signal; 3]);

impl Signals {
    /// Caught from here on: before the terminal is taken over, or one that comes in between leaves it taken.
    pub(super) fn caught() -> io::Result<Self> {
        Ok(Self([signal(SignalKind::terminate())?, signal(SignalKind::hangup())?, signal(SignalKind::interrupt())?]))
    }

    /// Tells of the first that comes.
    pub(super) async fn told(self, news: mpsc::Sender<News>) {
        let [mut end, mut hangup, mut interrupt] = self.0;
        tokio::select! {
            _ = end.recv() => {}
            _ = hangup.recv() => {}
            _ = interrupt.recv() => {}
        }
        let _ = news.send(News::Hangup).await;
    }
}
