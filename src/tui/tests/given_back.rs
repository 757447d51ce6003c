//! A real terminal, taken over by a process of its own, and given back however that ends.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use everstep_actors::desk::question::Question;
use everstep_actors::desk::view::View;
use everstep_actors::event::Recorded;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcgetattr, tcsetwinsize};

use super::fixtures::Still;
use crate::cli::Failure;
use crate::cli::tui::{Page, TuiArgs};
use crate::desk::eye::Eye;

/// Says to the process that has the terminal whether what it asks is to panic.
const HOW: &str = "EVERSTEP_TEST_TERMINAL";
/// A busy machine gets there within this.
const DEADLINE: Duration = Duration::from_secs(60);
/// Modes change and processes end without a word on the screen.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// What is written: the other screen taken, and left; the cursor shown again.
const ENTERED: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";
const SHOWN: &str = "\x1b[?25h";

/// An eye that is put out after a moment.
struct Panics;

#[async_trait]
impl Eye for Panics {
    async fn look(&self, _: &Question) -> Result<View, Failure> {
        tokio::time::sleep(Duration::from_millis(500)).await;
        panic!("as it was told");
    }
    async fn events(&self) -> Result<Vec<Recorded>, Failure> {
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "has the terminal in the tests of this file"]
async fn takes_the_terminal_over() {
    let Ok(how) = std::env::var(HOW) else { return };
    let eye: Arc<dyn Eye> = if how == "panics" { Arc::new(Panics) } else { Arc::new(Still::of(3)) };
    let _ = super::super::run(&TuiArgs { every: 0.2, page: Page::Overview, ascii: false }, eye).await;
}

/// A terminal as a terminal program sees it, and what was written to it so far.
struct Pty {
    keyboard: File,
    terminal: File,
    seen: Arc<(Mutex<Vec<u8>>, Condvar)>,
}

impl Pty {
    fn open() -> Self {
        let own = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&own).unwrap();
        unlockpt(&own).unwrap();
        let name = ptsname(&own, Vec::new()).unwrap().into_string().unwrap();
        let terminal = File::options().read(true).write(true).open(name).unwrap();
        tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let keyboard = File::from(own);
        let (seen, mut screen) = (Arc::new((Mutex::new(Vec::new()), Condvar::new())), keyboard.try_clone().unwrap());
        let into = Arc::clone(&seen);
        // Ends with the terminal: nobody waits for it.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut buffer) {
                into.0.lock().unwrap().extend_from_slice(&buffer[..read]);
                into.1.notify_all();
            }
        });
        Self { keyboard, terminal, seen }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen.0.lock().unwrap()).into_owned()
    }

    /// Everything that a program can change of it.
    fn modes(&self) -> String {
        let modes = tcgetattr(&self.terminal).unwrap();
        format!(
            "{:?} {:?} {:?} {:?} {:?}",
            modes.input_modes, modes.output_modes, modes.control_modes, modes.local_modes, modes.special_codes
        )
    }

    fn shell(&self) -> Stdio {
        self.terminal.try_clone().unwrap().into()
    }

    fn start(&self, how: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tui::tests::given_back::takes_the_terminal_over", "--ignored", "--nocapture"])
            .env(HOW, how)
            .stdin(self.shell())
            .stdout(self.shell())
            .stderr(self.shell())
            .spawn()
            .unwrap()
    }

    /// Looks again whenever something is written, and now and then.
    fn until(&self, what: &str, mut is: impl FnMut() -> bool) {
        let began = Instant::now();
        while !is() {
            assert!(began.elapsed() < DEADLINE, "{what}: {:?}", self.text());
            let (seen, news) = &*self.seen;
            drop(news.wait_timeout(seen.lock().unwrap(), LOOK_AGAIN).unwrap());
        }
    }
}

/// Has the terminal taken over, ends that in this way, and sees that everything is as before.
fn ends(how: &str, end: impl FnOnce(&mut Pty, &Child)) {
    let mut pty = Pty::open();
    let before = pty.modes();
    let mut child = pty.start(how);
    pty.until("it takes the terminal over", || pty.text().contains(ENTERED) && pty.modes() != before);
    end(&mut pty, &child);
    pty.until("it ends", || child.try_wait().unwrap().is_some());
    let gave_back = || pty.text().rfind(LEFT) > pty.text().rfind(ENTERED) && pty.text().rfind(SHOWN) > pty.text().rfind(ENTERED);
    pty.until("the other screen is left and the cursor shown", gave_back);
    assert_eq!(pty.modes(), before, "the terminal is what it was after {how}");
}

#[test]
fn the_terminal_is_given_back_when_the_operator_leaves() {
    ends("waits", |pty, _| pty.keyboard.write_all(b"q").unwrap());
}

#[test]
fn the_terminal_is_given_back_when_the_process_is_told_to_end() {
    ends("waits", |_, child| {
        let pid = rustix::process::Pid::from_child(child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    });
}

#[test]
fn the_terminal_is_given_back_by_a_panic_before_it_says_anything() {
    let mut text = String::new();
    ends("panics", |pty, _| {
        pty.until("it panics", || pty.text().contains("as it was told"));
        text = pty.text();
    });
    assert!(text.find(LEFT) < text.find("as it was told"), "the reason is not lost with the other screen: {text:?}");
}
