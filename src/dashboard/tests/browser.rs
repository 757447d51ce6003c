//! The page in a real browser, where there is one.

use std::path::{Path, PathBuf};

use super::fake::STEP;
use super::*;
use crate::dashboard::query;

const NAMES: [&str; 5] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

pub(super) fn chromium() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let places = std::env::split_paths(&path).collect::<Vec<_>>();
    NAMES.into_iter().flat_map(|name| places.iter().map(move |place| place.join(name))).find(|file| file.is_file())
}

/// What the browser made of an address: its output, and what it said.
async fn browse(browser: &Path, url: &str, size: &str, how: &[&str]) -> (String, String) {
    let profile = tempfile::tempdir().unwrap();
    // Less virtual time than the three seconds after which a lost stream is opened again.
    let run = tokio::process::Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr", "--v=0"])
        .args(["--virtual-time-budget=2500", "--no-first-run", "--disable-background-networking", "--hide-scrollbars"])
        .arg(format!("--window-size={size}"))
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(how)
        .arg(url)
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(60), run).await.expect("the browser does not end").unwrap();
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

async fn server(ranks: u32, with_token: bool) -> Server {
    Server::start(FakeEye::new(ranks, everstep_actors::clock::wall_ms()), Limits::default(), with_token).await.poll_briefly()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_draws_the_run_without_a_complaint() {
    let Some(browser) = chromium() else {
        println!("skipped: there is no chromium in PATH, so the page was not drawn");
        return;
    };
    for (ranks, size, with_token) in [(4, "1280,2600", false), (500, "360,2600", true)] {
        let server = server(ranks, with_token).await;
        let token = if with_token { format!("?token={}", server.token) } else { String::new() };
        let url = format!("http://{}/{token}#rank/1", server.address);
        let (dom, talk) = browse(&browser, &url, size, &["--dump-dom"]).await;
        let complaints: Vec<&str> = talk.lines().filter(|line| line.contains("CONSOLE")).collect();
        assert!(complaints.is_empty(), "the console says {complaints:#?}");
        assert!(dom.contains("data-ready=\"yes\""), "the page did not come to an end: {}\n{talk}", &dom[..dom.len().min(2000)]);
        assert!(dom.contains("data-heard=\"3\""), "three messages of the stream were heard");
        assert!(dom.contains(&format!("<span>{STEP}</span>")), "the step is shown");
        assert!(dom.contains("Training in epoch 3"), "the state line");
        let last = ranks - 1;
        assert!(dom.contains(&format!("data-ref=\"rank/{last}\"")), "rank {last}");
        assert!(dom.contains("/loader-1\""), "the failed loader is on top of the actors");
        assert_eq!(dom.matches("class=\"line\"").count(), 4, "four curves");
        assert!(dom.contains("held up for"), "the incident");
        assert!(dom.contains("id=\"panel-title\" tabindex=\"-1\">rank/1<"), "the details that the address names");
        // What others wrote stays text.
        assert!(dom.contains("&lt;img src=x") && !dom.contains("<img"), "markup came through");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes pictures of the page into the folder that $EVERSTEP_SHOTS names"]
async fn pictures_of_the_page() {
    let folder = PathBuf::from(std::env::var_os("EVERSTEP_SHOTS").expect("$EVERSTEP_SHOTS names a folder"));
    let browser = chromium().expect("pictures need chromium in PATH");
    for ranks in [4, 500] {
        let server = server(ranks, false).await;
        let actors = server.desk.sight.view(&query::question("kinds=actor&filter=state=failed").unwrap()).await.unwrap();
        for (theme, dark) in [("light", "1"), ("dark", "0")] {
            for (name, size, hash) in [
                ("wide", "1280,2050", ""),
                ("phone", "360,3300", ""),
                ("detail", "1280,900", actors.items[0].reference.as_str()),
                ("detail-phone", "360,800", "rank/2"),
            ] {
                let file = folder.join(format!("page-{ranks}-{name}-{theme}.png"));
                let shot = format!("--screenshot={}", file.display());
                let scheme = format!("--blink-settings=preferredColorScheme={dark}");
                browse(&browser, &format!("http://{}/#{hash}", server.address), size, &[&shot, &scheme]).await;
                assert!(file.is_file(), "{}", file.display());
            }
        }
    }
}
