//! The picture is well formed and holds what was recorded.

use super::super::progress::tests::{began, evaluated, lost, saved, step};
use super::*;

fn story() -> Vec<Recorded> {
    let mut events = vec![
        began(2, 0),
        evaluated(0, &[(names::KNN, 26.8), (names::KNN_RANDOM, 26.8), (names::KNN_PIXELS, 24.0), (names::KNN_COLOURS, 30.5)]),
    ];
    for s in 0..400u64 {
        let wobble = ((s * 37 % 17) as f64 - 8.0) * 0.006;
        events.push(step(s, s * 500, 4.0 + 0.6 * (-(s as f64) / 90.0).exp() + wobble));
        if s % 100 == 99 {
            events.push(evaluated(s + 1, &[(names::KNN, 27.0 + (s as f64).sqrt())]));
            events.push(saved(s + 1));
        }
        if s == 230 {
            events.extend([lost("killed <by> \"someone\" & 'co'\u{1}"), began(3, 231)]);
        }
    }
    events
}

/// Tags open and close in order and no text holds a bare `<` or `&`.
fn assert_well_formed(svg: &str) {
    let mut open: Vec<&str> = Vec::new();
    for part in svg.trim().split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("every tag ends");
        let name = tag.trim_matches('/').split(' ').next().unwrap();
        match (tag.starts_with('/'), tag.ends_with('/')) {
            (true, _) => assert_eq!(open.pop(), Some(name)),
            (false, false) => open.push(name),
            (false, true) => {}
        }
        for entity in text.split('&').skip(1) {
            assert!(["amp;", "lt;", "gt;", "quot;", "#39;"].iter().any(|known| entity.starts_with(known)), "{text}");
        }
    }
    assert!(open.is_empty(), "{open:?}");
    assert!(svg.chars().all(|c| !c.is_control() || c == '\n'), "no control character");
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "every number is finite");
}

#[test]
fn the_picture_is_whole_and_shows_everything() {
    let picture = svg("runs/demo <1>", 400, 100, &story());
    assert_well_formed(&picture);
    for part in ["ln K = 4.61", "random init 26.8", "raw pixels 24.0", "colour histogram 30.5", "images/s", "runs/demo &lt;1&gt;", ">step<"]
    {
        assert!(picture.contains(part), "{part}");
    }
    assert_eq!(picture.matches("<circle").count(), 5, "one dot per kNN");
    assert_eq!(picture.matches("class=\"saved\"").count(), 4);
    assert_eq!(picture.matches("class=\"bad\"").count(), 2);
    assert!(picture.contains("rank 1 lost: killed &lt;by&gt; &quot;someone&quot; &amp; &#39;co&#39; "));
    assert!(picture.contains("prefers-color-scheme:dark"));
    assert!(!picture.replace("http://www.w3.org/2000/svg", "").contains("http"), "nothing is fetched");
    assert!(!picture.contains("var("), "viewers without CSS variables would draw it all black");
    if let Some(path) = std::env::var_os("EVERSTEP_TEST_SVG") {
        std::fs::write(path, &picture).unwrap();
    }
}

#[test]
fn strange_runs_are_drawn_too() {
    assert_well_formed(&svg("", 0, 0, &[]));
    assert_well_formed(&svg("one", 1, 2, &[step(0, 0, 4.0)]));
    assert_well_formed(&svg("nan", 3, 100, &[step(0, 0, f64::NAN), step(1, 0, f64::INFINITY), evaluated(1, &[(names::KNN, f64::NAN)])]));
    assert_well_formed(&svg("huge", u64::MAX, 100, &[step(u64::MAX, 0, 4.0)]));
}

#[test]
fn the_picture_stays_small_for_a_long_run() {
    let long: Vec<Recorded> = (0..50_000).map(|s| step(s, s, 4.0)).chain((0..5000).map(|_| lost("storm"))).collect();
    let picture = svg("long", 50_000, 100, &long);
    assert!(picture.len() < 100_000, "{} bytes", picture.len());
    assert!(picture.contains("4800 more not drawn"));
}

#[test]
fn a_step_that_came_twice_counts_once() {
    let story = Story::new(&[step(0, 0, 4.0), step(1, 0, 3.0), step(1, 9, 2.0)]);
    assert_eq!(story.loss, BTreeMap::from([(1, 4.0), (2, 2.0)]));
}
