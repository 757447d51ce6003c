//! What each key does.

use super::*;
use crate::tui::app::Floor;

#[test]
fn pages_are_turned_by_digits_and_by_tab() {
    let mut app = app(Page::Overview, &Still::of(4));
    for (digit, page) in "123456".chars().zip(PAGES) {
        press(&mut app, KeyCode::Char(digit));
        assert_eq!(app.page, page);
    }
    press(&mut app, KeyCode::Tab);
    assert_eq!(app.page, Page::Overview);
    press(&mut app, KeyCode::BackTab);
    assert_eq!(app.page, Page::Incidents);
}

#[test]
fn there_are_three_ways_out_and_the_help_is_not_one() {
    for key in [
        KeyEvent::new(KeyCode::Char('q'), KeyModifiers::NONE),
        KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE),
        KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL),
    ] {
        let mut app = App::new(Page::Overview);
        app.on_key(key);
        assert!(app.quit, "{key:?}");
    }
    let mut app = App::new(Page::Overview);
    press(&mut app, KeyCode::Char('?'));
    assert!(app.help && screen(&mut app, 80, 24, PLAIN).contains("S slowly"));
    press(&mut app, KeyCode::Esc);
    assert!(!app.help && !app.quit);
}

#[test]
fn the_grid_is_walked_in_both_directions() {
    let mut app = app(Page::Members, &Still::of(500));
    app.on_resize(80, 24);
    press(&mut app, KeyCode::Down);
    press(&mut app, KeyCode::Right);
    assert_eq!(app.rank, 51);
    press(&mut app, KeyCode::Char('G'));
    assert_eq!(app.rank, 499);
    press(&mut app, KeyCode::Down);
    assert_eq!(app.rank, 499);
    press(&mut app, KeyCode::PageUp);
    assert_eq!(app.rank, 249);
    ask(&mut app, &Still::of(500));
    let shown = screen(&mut app, 80, 24, PLAIN);
    assert!(shown.contains("rank/249") && shown.contains("host-249") && shown.contains("996 computing"), "{shown}");
    app.on_resize(120, 40);
    press(&mut app, KeyCode::Up);
    assert_eq!(app.rank, 149, "a row is 100 ranks now");
}

#[test]
fn the_tree_opens_down_to_an_actor_and_asks_only_for_what_is_open() {
    let run = Still::of(500);
    let mut app = app(Page::Tree, &run);
    assert_eq!(app.asks().len(), 1, "nothing but the run is open: {:?}", app.asks());
    for _ in 0..4 {
        press(&mut app, KeyCode::Down);
    }
    press(&mut app, KeyCode::Enter);
    ask(&mut app, &run);
    assert_eq!(app.asks().len(), 2);
    press(&mut app, KeyCode::Right);
    assert_eq!(app.tree.selected, "rank/3");
    press(&mut app, KeyCode::Right);
    ask(&mut app, &run);
    let shown = screen(&mut app, 80, 24, PLAIN);
    assert!(shown.contains("lane/12") && shown.contains("2.40 times the median"), "{shown}");
    press(&mut app, KeyCode::Left);
    for _ in 0..3 {
        press(&mut app, KeyCode::Down);
    }
    let shown = screen(&mut app, 120, 40, PLAIN);
    assert!(shown.contains("step for 2.3 s") && shown.contains("3 of 1024 wait, the oldest for 1.5 s"), "{shown}");
    press(&mut app, KeyCode::Left);
    assert_eq!(app.tree.selected, fixtures::node(3));
    press(&mut app, KeyCode::Left);
    assert_eq!(app.asks().len(), 1);
}

#[test]
fn actors_are_sorted_filtered_and_stay_selected() {
    let run = Still::of(500);
    let mut app = app(Page::Actors, &run);
    let shown = screen(&mut app, 80, 24, PLAIN);
    assert!(shown.contains("the first 500 of 1500 actors by mailbox depth"), "{shown}");
    press(&mut app, KeyCode::Down);
    let selected = app.actors.selected.clone();
    assert_eq!(selected.as_deref(), Some("actor/000001f2/rank"));
    press(&mut app, KeyCode::Char('s'));
    assert_eq!((app.actors.sort.name(), &app.actors.selected), ("oldest message", &selected));
    press(&mut app, KeyCode::Char('/'));
    "f3/q".chars().for_each(|letter| press(&mut app, KeyCode::Char(letter)));
    press(&mut app, KeyCode::Backspace);
    assert!(screen(&mut app, 80, 24, PLAIN).contains("/f3/_"));
    press(&mut app, KeyCode::Enter);
    ask(&mut app, &run);
    let shown = screen(&mut app, 80, 24, PLAIN);
    assert!(shown.contains("6 actors") && shown.contains("000001f3/loader") && !shown.contains("000001f2"), "{shown}");
    press(&mut app, KeyCode::Char('/'));
    press(&mut app, KeyCode::Esc);
    assert!(app.actors.filter.is_empty() && !app.quit);
}

#[test]
fn events_follow_until_somebody_looks_back() {
    let mut app = app(Page::Events, &Still::of(4));
    let newest = "the disk is full";
    assert!(screen(&mut app, 80, 24, PLAIN).contains("following"));
    press(&mut app, KeyCode::Char('k'));
    let shown = screen(&mut app, 80, 24, PLAIN);
    assert!(!shown.contains("following") && shown.contains("epoch 2 began"), "{shown}");
    press(&mut app, KeyCode::Char('w'));
    let shown = screen(&mut app, 80, 24, PLAIN);
    assert!(shown.contains(newest) && !shown.contains("epoch_began") && app.floor == Floor::Warnings, "{shown}");
    press(&mut app, KeyCode::Char('w'));
    press(&mut app, KeyCode::Char('w'));
    assert!(screen(&mut app, 80, 24, PLAIN).contains("step 1199 committed"));
}

#[test]
fn incidents_are_chosen_and_explained() {
    let mut app = app(Page::Incidents, &Still::of(4));
    let shown = screen(&mut app, 80, 24, PLAIN);
    assert!(shown.contains("2 incidents stalled 20 s") && shown.contains("the disk is full"), "{shown}");
    press(&mut app, KeyCode::Char('k'));
    assert_eq!(app.incident, Some(0));
    let shown = screen(&mut app, 80, 24, PLAIN);
    assert!(shown.contains("was lost: silent for 3 s") && shown.contains("node/n02020202") && shown.contains("##"), "{shown}");
    press(&mut app, KeyCode::Char('G'));
    assert_eq!(app.incident, None);
}

#[test]
fn trouble_among_many_ranks_is_one_key_away_and_its_place_in_the_tree_another() {
    let run = Still::of(500);
    let mut app = app(Page::Members, &run);
    let mut found = Vec::new();
    for _ in 0..6 {
        press(&mut app, KeyCode::Char('n'));
        found.push(app.rank);
    }
    assert_eq!(found, [1, 3, 7, 9, 51, 53], "waits, is slow, drains, is silent");
    app.rank = 499;
    press(&mut app, KeyCode::Char('n'));
    assert_eq!(app.rank, 1);
    press(&mut app, KeyCode::Enter);
    ask(&mut app, &run);
    let shown = screen(&mut app, 80, 24, PLAIN);
    assert!(app.page == Page::Tree && shown.contains(" rank/1 (4 of") && shown.contains("loader"), "{shown}");
    press(&mut app, KeyCode::Char('4'));
    ask(&mut app, &run);
    press(&mut app, KeyCode::Enter);
    ask(&mut app, &run);
    let shown = screen(&mut app, 80, 24, PLAIN);
    assert!(shown.contains(" actor/000001f3/rank (") && shown.contains("499 of 1024 wait"), "{shown}");
}

#[tokio::test(start_paused = true)]
async fn a_garbled_screen_is_drawn_anew() {
    let (news, told) = mpsc::channel(8);
    let mut app = App::new(Page::Overview);
    let (wanted, _asks) = watch::channel(app.asks());
    let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
    terminal.draw(|frame| draw::draw(frame, &app, PLAIN)).unwrap();
    // Something else wrote over it, which the terminal's own memory does not know.
    let cell = ratatui::buffer::Cell::new("#");
    ratatui::backend::Backend::draw(terminal.backend_mut(), [(70, 20, &cell)].into_iter()).unwrap();
    assert!(text(&terminal).contains('#'));
    let operator = async {
        news.send(News::Key(KeyEvent::new(KeyCode::Char('l'), KeyModifiers::CONTROL))).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        news.send(News::Hangup).await.unwrap();
    };
    let (shown, ()) = tokio::join!(show(&mut terminal, &mut app, told, &wanted, PLAIN), operator);
    shown.unwrap();
    assert!(!text(&terminal).contains('#'));
}
