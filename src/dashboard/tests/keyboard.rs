//! The page as somebody uses it who has only a keyboard, and as it looks on a phone.

use super::browser::chromium;
use super::pipe::Browser;
use super::*;

const FOCUSED: &str = "document.activeElement";

async fn live(ranks: u32) -> Option<(Server, Browser)> {
    seen(FakeEye::new(ranks, everstep_actors::clock::wall_ms())).await
}

async fn seen(eye: FakeEye) -> Option<(Server, Browser)> {
    let Some(program) = chromium() else {
        println!("skipped: there is no chromium in PATH, so the page was not used");
        return None;
    };
    let server = Server::start(eye, Limits::default(), false).await.poll();
    Some((server, Browser::start(&program).await))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_can_be_reached_with_a_keyboard() {
    let Some((server, mut page)) = live(4).await else { return };
    page.open(&format!("http://{}/", server.address), (1280, 900)).await;
    page.until("+document.documentElement.dataset.heard >= 2").await;

    page.key("/").await;
    page.until(&format!("{FOCUSED}.id === 'filter'")).await;
    page.write("state=failed").await;
    page.until("document.querySelectorAll('#actors tr').length === 1").await;
    assert_eq!(page.eval("document.querySelector('#actors td').textContent").await, "loader-1");
    page.key("Escape").await;
    page.until("document.querySelectorAll('#actors tr').length === 24").await;
    page.key("/").await;
    page.write("depth=").await;
    page.write("=").await;
    page.until("document.querySelectorAll('#actors tr').length === 1 && /No actor/.test(document.querySelector('#actors').textContent)")
        .await;
    page.key("Escape").await;
    page.key("/").await;
    page.write("=5").await;
    page.until(
        "!document.querySelector('#filter-wrong').hidden && /no condition/.test(document.querySelector('#filter-wrong').textContent)",
    )
    .await;
    page.key("Escape").await;
    page.until("document.querySelector('#filter-wrong').hidden && document.querySelectorAll('#actors tr').length === 24").await;

    assert!(page.complaints.iter().all(|told| told.contains("400 (Bad Request)")), "{:#?}", page.complaints);
    page.complaints.clear();

    page.eval("document.querySelector('#actors tr').focus()").await;
    page.key("ArrowDown").await;
    page.until(&format!("{FOCUSED} === document.querySelectorAll('#actors tr')[1]")).await;
    let reference = page.eval(&format!("{FOCUSED}.dataset.ref")).await;
    page.key("Enter").await;
    page.until("!document.querySelector('#panel').hidden && /messages waiting/.test(document.querySelector('#panel').textContent)").await;
    assert_eq!(page.eval("document.querySelector('#panel-title').textContent").await, reference);
    // Rows are made anew meanwhile: focus finds its row all the same.
    page.until("+document.documentElement.dataset.heard >= 5").await;
    page.key("Escape").await;
    page.until(&format!("document.querySelector('#panel').hidden && {FOCUSED}.dataset.ref === {reference}")).await;

    page.eval("document.querySelector('#members li').focus()").await;
    page.key("ArrowRight").await;
    page.key("Enter").await;
    page.until("/times the median/.test(document.querySelector('#panel').textContent)").await;
    assert_eq!(page.eval("document.querySelector('#panel-title').textContent").await, "rank/1");
    page.key("Escape").await;

    page.eval("document.querySelector('#c-loss svg').focus()").await;
    page.key("Home").await;
    page.until("/step 1 at/.test(document.querySelector('#c-loss').textContent)").await;

    page.eval("document.querySelector('th[data-field=\"name\"] button').click()").await;
    page.until("document.querySelector('#actors td').textContent === 'coordinator-0'").await;
    assert_eq!(page.eval("document.querySelector('th[data-field=\"name\"]').getAttribute('aria-sort')").await, "ascending");
    assert!(page.complaints.is_empty(), "{:#?}", page.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_phone_shows_500_ranks_without_scrolling_sideways_and_every_control_has_a_name() {
    let Some((server, mut page)) = live(500).await else { return };
    page.open(&format!("http://{}/", server.address), (360, 740)).await;
    let ready = page.eval("performance.getEntriesByName('ready')[0].startTime").await;
    println!("500 ranks are drawn after {ready} ms");
    assert!(ready.as_f64().is_some_and(|ms| ms < 10_000.0), "{ready} ms, for an unoptimised server on a busy machine");
    page.until("document.querySelectorAll('#members li').length === 501").await;
    assert_eq!(page.eval("document.scrollingElement.scrollWidth").await, 360);
    let nameless = "[...document.querySelectorAll('button, input, select, a, [role=img], [role=listbox], [role=option]')].filter(made => \
                    !(made.getAttribute('aria-label') || made.textContent.trim())).map(made => made.outerHTML).join()";
    assert_eq!(page.eval(nameless).await, "");
    assert_eq!(page.eval("document.querySelectorAll('#members [tabindex=\"0\"]').length").await, 1, "one tab stop for all members");
    page.eval("document.querySelectorAll('#members li')[499].click()").await;
    page.until("/times the median/.test(document.querySelector('#panel').textContent)").await;
    assert_eq!(page.eval("document.querySelector('#panel').getBoundingClientRect().width").await, 360);
    assert!(page.complaints.is_empty(), "{:#?}", page.complaints);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_phases_of_a_step_fill_their_bar_however_quick_it_is() {
    let Some((server, mut page)) = live(4).await else { return };
    page.open(&format!("http://{}/", server.address), (1280, 900)).await;
    for (compute, exchange) in [(3.0, 1.0), (0.03, 0.01), (0.000_3, 0.000_1)] {
        // Drawn and measured at once: the run of this page is drawn again in between.
        let widths = format!(
            "(() => {{ showPhases({{ compute: {compute}, exchange: {exchange} }}, {}); const width = made => made.getBoundingClientRect().width; const bar = \
             document.querySelector('#phases'); return [...bar.children].map(part => (width(part) / width(bar)).toFixed(2)).join(); }})()",
            compute + exchange
        );
        assert_eq!(page.eval(&widths).await, "0.75,0.25", "{compute} s and {exchange} s");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dark_or_light_is_remembered_and_a_lost_server_is_said() {
    let Some((server, mut page)) = live(4).await else { return };
    let address = format!("http://{}/", server.address);
    page.open(&address, (1280, 900)).await;
    let before = page.eval("document.documentElement.dataset.theme").await;
    page.eval("document.querySelector('#theme').click()").await;
    let after = page.eval("document.documentElement.dataset.theme").await;
    assert_ne!(before, after);
    page.open(&address, (1280, 900)).await;
    assert_eq!(page.eval("document.documentElement.dataset.theme").await, after);
    page.until("/^live/.test(document.querySelector('#fresh').textContent)").await;
    drop(server);
    page.until("/^stale for/.test(document.querySelector('#fresh').textContent)").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn why_nothing_is_computed_and_who_tells_it_stand_on_top() {
    let eye = FakeEye { store: true, ..FakeEye::new(4, everstep_actors::clock::wall_ms()) };
    let Some((server, mut page)) = seen(eye).await else { return };
    page.open(&format!("http://{}/", server.address), (1280, 900)).await;
    let because = page.eval("document.querySelector('#because').textContent").await;
    assert_eq!(because, "Nothing is computed: 2 of the 4 members that are needed are there; start 2 more nodes");
    assert!(page.eval("document.querySelector('#notes').textContent").await.as_str().unwrap().contains("this is what its store remembers"));
    assert_eq!(page.eval("document.querySelector('#pill').textContent").await, "silent");
    if let Some(folder) = std::env::var_os("EVERSTEP_SHOTS") {
        page.picture(&std::path::PathBuf::from(folder).join("page-store.png")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_cannot_be_seen_leaves_a_page_that_says_so() {
    let eye = FakeEye { fails: true, ..FakeEye::new(4, everstep_actors::clock::wall_ms()) };
    let Some((server, mut page)) = seen(eye).await else { return };
    page.open(&format!("http://{}/", server.address), (1280, 900)).await;
    page.until("/no member answers/.test(document.querySelector('#because').textContent)").await;
    assert_eq!(page.eval("document.querySelector('#pill').textContent").await, "unseen");
    if let Some(folder) = std::env::var_os("EVERSTEP_SHOTS") {
        page.picture(&std::path::PathBuf::from(folder).join("page-unseen.png")).await;
    }
}
