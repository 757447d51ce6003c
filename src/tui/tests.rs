//! Every page at every size, and every key, on a terminal made of memory.

mod fixtures;
mod given_back;
mod keys;

use std::sync::Arc;
use std::time::Duration;

use everstep_actors::desk::view::Scope;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use tokio::sync::{mpsc, watch};

use self::fixtures::{NOW_MS, Still, failed, run_mut};
use super::app::App;
use super::happenings::Digest;
use super::keys::PAGES;
use super::poll::{self, News};
use super::theme::Theme;
use super::{draw, show};
use crate::cli::tui::Page;

const COLOURS: Theme = Theme { colour: true, ascii: false };
const PLAIN: Theme = Theme { colour: false, ascii: false };

/// Asks what the page needs, twice: what is open is only known after the first answer.
fn ask(app: &mut App, run: &Still) {
    for _ in 0..2 {
        for ask in app.asks() {
            app.on_asked();
            app.on_view(&ask, run.answer(&ask.question()));
        }
    }
}

fn app(page: Page, run: &Still) -> App {
    let mut app = App::new(page);
    app.on_tick(NOW_MS);
    ask(&mut app, run);
    app.on_events(Ok(Digest::of(&run.events)));
    app
}

fn press(app: &mut App, code: KeyCode) {
    app.on_key(KeyEvent::new(code, KeyModifiers::NONE));
}

fn text(terminal: &Terminal<TestBackend>) -> String {
    let buffer = terminal.backend().buffer();
    let lines = buffer.content().chunks(usize::from(buffer.area.width).max(1));
    lines.map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned() + "\n").collect()
}

fn screen(app: &mut App, width: u16, height: u16, theme: Theme) -> String {
    app.on_resize(width, height);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw::draw(frame, app, theme)).unwrap();
    text(&terminal)
}

#[test]
fn every_page_shows_what_it_is_for_at_every_size_and_with_any_number_of_ranks() {
    for ranks in [4, 500] {
        let mut run = Still::of(ranks);
        run.items.retain(|item| item.reference != "actor/00000001/loader");
        run.items.push(failed(1));
        for page in PAGES {
            let mut app = app(page, &run);
            for (width, height) in [(80, 24), (120, 40), (40, 10)] {
                let screen = screen(&mut app, width, height, COLOURS);
                println!("{page:?} {ranks} ranks, {width} x {height}\n{screen}");
                assert!(screen.contains("quickstart") && screen.contains("step 1200/5000") && screen.contains("quit"), "{screen}");
                let wanted = match page {
                    Page::Overview => "24.0 % of 5000",
                    Page::Members => "C",
                    Page::Tree => "run quickstart",
                    Page::Actors => "1/loader",
                    Page::Events => "checkpoint of step 1150",
                    Page::Incidents => "incidents",
                };
                assert!(screen.contains(wanted), "{wanted}\n{screen}");
            }
        }
    }
}

#[test]
fn nothing_is_known_at_first_and_every_page_can_say_so() {
    for page in PAGES {
        let mut app = App::new(page);
        for (width, height) in [(80, 24), (120, 40), (40, 10)] {
            let screen = screen(&mut app, width, height, PLAIN);
            assert!(screen.contains("no answer yet") && screen.contains("quit"), "{screen}");
        }
        for code in [KeyCode::Down, KeyCode::Char('G'), KeyCode::Char('g'), KeyCode::Right, KeyCode::Left, KeyCode::Enter, KeyCode::PageUp]
        {
            press(&mut app, code);
        }
        screen(&mut app, 80, 24, PLAIN);
    }
}

#[test]
fn terminals_of_any_size_are_drawn_on() {
    let run = Still::of(500);
    for page in PAGES {
        let mut app = app(page, &run);
        app.help = page == Page::Tree;
        for (width, height) in [(1, 1), (39, 10), (40, 9), (41, 11), (300, 3), (55, 100), (300, 100), (80, 12), (80, 15), (80, 17)] {
            let screen = screen(&mut app, width, height, COLOURS);
            let small = width < 40 || height < 10;
            assert_eq!(small, !screen.contains("quickstart"), "{width} x {height}\n{screen}");
        }
        assert!(screen(&mut app, 39, 10, PLAIN).contains("too small"));
    }
}

#[test]
fn five_hundred_ranks_are_one_screen_with_a_letter_for_every_state() {
    let mut app = app(Page::Members, &Still::of(500));
    let screen = screen(&mut app, 80, 24, PLAIN);
    let letters: String = screen.lines().skip(3).take(10).collect();
    for letter in ['C', 'S', 'w', '!', 'd'] {
        assert_eq!(letters.matches(letter).count(), if letter == 'C' { 460 } else { 10 }, "{letter}\n{screen}");
    }
    for told in ["500 ranks", "10 silent", "10 draining", "10 slow", " 450 C"] {
        assert!(screen.contains(told), "{told}\n{screen}");
    }
}

#[test]
fn a_leader_that_is_silent_is_told_of_and_does_not_clear_the_screen() {
    let mut app = app(Page::Overview, &Still::of(4));
    app.on_asked();
    app.on_tick(NOW_MS + 1000);
    assert!(!screen(&mut app, 80, 24, PLAIN).contains("no answer"));
    app.on_tick(NOW_MS + 3200);
    let shown = screen(&mut app, 80, 24, PLAIN);
    assert!(shown.contains("no answer for 3 s") && shown.contains("step 1200/5000"), "{shown}");
    app.on_asked();
    app.on_tick(NOW_MS + 60_000);
    assert!(screen(&mut app, 80, 24, PLAIN).contains("no answer for 60 s"), "a question that is asked anew is still the same silence");
    app.on_failure("the leader cannot be reached: is the run still alive?".into());
    assert!(screen(&mut app, 80, 24, PLAIN).contains("cannot be reached"));
    ask(&mut app, &Still::of(4));
    assert_eq!(app.alarm(), None);
    ask(&mut app, &Still { scope: Scope::Store, ..Still::of(4) });
    assert!(screen(&mut app, 80, 24, PLAIN).contains("nobody answers: shown is what the store holds"));
}

#[test]
fn why_the_run_waits_is_the_second_line() {
    let mut run = Still::of(4);
    let (state, view) = run_mut(&mut run.items);
    *state = "waiting".into();
    view.waiting = Some("for 2 more nodes: 2 of at least 4 are in".into());
    let mut app = app(Page::Overview, &run);
    for (width, height) in [(80, 24), (40, 10)] {
        let screen = screen(&mut app, width, height, PLAIN);
        assert!(screen.contains("waits: for 2 more nodes"), "{screen}");
    }
}

#[test]
fn an_actor_that_failed_stands_first_and_names_the_root_of_it() {
    let mut run = Still::of(4);
    run.items.retain(|item| item.reference != "actor/00000001/loader");
    run.items.push(failed(1));
    let screen = screen(&mut app(Page::Actors, &run), 120, 40, PLAIN);
    let (row, cause) = (screen.find("00000001/loader"), screen.find("it only passes on: the disk is full"));
    assert!(row.is_some() && row < screen.find("00000003/rank") && cause.is_some() && screen.contains("began step 1200"), "{screen}");
}

#[test]
fn only_ascii_is_drawn_where_nothing_else_can_be_shown() {
    let theme = Theme { colour: false, ascii: true };
    for page in PAGES {
        let mut app = app(page, &Still::of(4));
        app.help = page == Page::Events;
        let screen = screen(&mut app, 120, 40, theme);
        assert!(screen.is_ascii() && !screen.contains('?') || app.help || screen.contains("? help"), "{screen}");
        assert!(screen.is_ascii(), "{screen}");
    }
}

#[test]
fn no_colour_means_none_and_nothing_drives_the_terminal() {
    for page in PAGES {
        let mut app = app(page, &Still::of(4));
        app.on_resize(80, 24);
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw::draw(frame, &app, PLAIN)).unwrap();
        for cell in terminal.backend().buffer().content() {
            assert!([cell.fg, cell.bg].iter().all(|colour| *colour == ratatui::style::Color::Reset), "{cell:?}");
            assert!(!cell.symbol().contains(char::is_control), "{cell:?}");
        }
    }
    let theme = |set: &[(&str, &str)]| {
        let set: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Theme::of(move |name| set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone()), false)
    };
    assert_eq!(theme(&[("NO_COLOR", "1"), ("LANG", "en_GB.UTF-8")]), PLAIN);
    assert_eq!(theme(&[("NO_COLOR", ""), ("LC_ALL", "C.utf8")]), COLOURS);
    assert_eq!(theme(&[("LC_ALL", "C"), ("LANG", "en_GB.UTF-8")]), Theme { colour: true, ascii: true });
}

/// A run that never answers.
#[derive(Debug)]
struct Mute;

#[async_trait::async_trait]
impl crate::desk::eye::Eye for Mute {
    async fn look(&self, _: &everstep_actors::desk::question::Question) -> Result<everstep_actors::desk::view::View, crate::cli::Failure> {
        std::future::pending().await
    }

    async fn events(&self) -> Result<Vec<everstep_actors::event::Recorded>, crate::cli::Failure> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn keys_work_while_nobody_answers() {
    let (news, told) = mpsc::channel(8);
    let mut app = App::new(Page::Overview);
    let (wanted, asks) = watch::channel(app.asks());
    tokio::spawn(poll::looks(Arc::new(Mute), asks, Duration::from_secs(1), news.clone()));
    tokio::spawn(poll::events(Arc::new(Mute), news.clone()));
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let operator = async {
        tokio::time::sleep(Duration::from_millis(3600)).await;
        news.send(News::Key(KeyEvent::new(KeyCode::Char('2'), KeyModifiers::NONE))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        news.send(News::Key(KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE))).await.unwrap();
    };
    let (shown, ()) = tokio::join!(show(&mut terminal, &mut app, told, &wanted, PLAIN), operator);
    shown.unwrap();
    let screen = text(&terminal);
    assert!(screen.contains("no answer for 3 s") && app.page == Page::Members, "{screen}");
}

#[tokio::test(start_paused = true)]
async fn a_page_is_asked_for_when_it_comes_to_the_front() {
    let (news, told) = mpsc::channel(8);
    let mut app = App::new(Page::Overview);
    let (wanted, asks) = watch::channel(app.asks());
    let run = Arc::new(Still::of(4));
    tokio::spawn(poll::looks(Arc::clone(&run) as _, asks, Duration::from_secs(3600), news.clone()));
    tokio::spawn(poll::events(run, news.clone()));
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    let operator = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        news.send(News::Key(KeyEvent::new(KeyCode::Char('4'), KeyModifiers::NONE))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(700)).await;
        news.send(News::Hangup).await.unwrap();
    };
    let (shown, ()) = tokio::join!(show(&mut terminal, &mut app, told, &wanted, PLAIN), operator);
    shown.unwrap();
    let screen = text(&terminal);
    assert!(screen.contains("12 actors by mailbox depth") && screen.contains("00000003/rank"), "{screen}");
}

#[tokio::test]
async fn a_rate_that_is_none_is_refused_before_the_terminal_is_touched() {
    for every in [0.0, -1.0, f64::NAN, 1e9] {
        let args = crate::cli::tui::TuiArgs { every, page: Page::Overview, ascii: false };
        let refused = super::run(&args, Arc::new(Mute)).await.unwrap_err();
        assert!(refused.code == crate::cli::ExitCode::Usage && refused.sentence.contains("--every"), "{refused}");
    }
}
