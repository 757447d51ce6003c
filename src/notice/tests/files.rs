//! Files and URLs of one's own.

use std::fs;
use std::path::Path;

use super::clouds::Own;
use super::fake::Said;
use super::*;
use crate::notice::file::look;

/// When files are written here, in milliseconds since the Unix epoch.
const WRITTEN_MS: u64 = 1_795_000_000_000;

fn put(path: &Path, text: &[u8]) {
    fs::write(path, text).unwrap();
    let written = std::time::UNIX_EPOCH + Duration::from_millis(WRITTEN_MS);
    fs::File::options().append(true).open(path).unwrap().set_modified(written).unwrap();
}

fn left(answer: Answer) -> Option<Duration> {
    match answer {
        Answer::Stands(Stands { kind: Kind::Request, left, .. }) => left,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_file_is_a_notice_while_it_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leave");
    assert_eq!(look(&path, 0), Answer::Clear);
    assert_eq!(look(&path.join("below"), 0), Answer::Clear);
    let put = |text: &[u8]| put(&path, text);
    put(b"");
    let because = format!("{} asks this node to leave", path.display());
    assert_eq!(look(&path, 0), Answer::Stands(Stands { kind: Kind::Request, left: None, because }));
    assert_eq!(look(&path.join("below"), 0), Answer::Clear, "a file has nothing below it");
    put(b"{\"deadline_s\": 12, \"because\": \"rack 7\\n is  moved\"}\n");
    let because = "rack 7 is moved".into();
    let expected = Answer::Stands(Stands { kind: Kind::Request, left: Some(seconds(12)), because });
    assert_eq!(look(&path, WRITTEN_MS), expected);
    assert_eq!(left(look(&path, WRITTEN_MS + 5_000)), Some(seconds(7)), "the time runs from the file's last change");
    assert_eq!(left(look(&path, WRITTEN_MS + 50_000)), Some(Duration::ZERO));
    assert_eq!(left(look(&path, WRITTEN_MS - 50_000)), Some(seconds(12)), "a clock that is behind gives no time away");
    for (text, expected) in
        [("{\"deadline_s\": -3}", Some(Duration::ZERO)), ("{\"deadline_s\": 1e300}", None), ("{\"deadline_s\": 1", None)]
    {
        put(text.as_bytes());
        assert_eq!(left(look(&path, WRITTEN_MS)), expected, "{text}");
    }
    put(&vec![b'x'; 1 << 20]);
    assert_eq!(left(look(&path, 0)), None);
    put(b"\xff\xfe");
    assert_eq!(left(look(&path, 0)), None);
    fs::remove_file(&path).unwrap();
    assert_eq!(look(&path, 0), Answer::Clear);
}

#[test]
fn what_is_no_file_is_silent() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(look(dir.path(), 0), Answer::Silent("it is no regular file".into()));
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0).unwrap();
    assert_eq!(look(&pipe, 0), Answer::Silent("it is no regular file".into()), "nobody writes to it: opening would wait for ever");
    let endless = dir.path().join("endless");
    std::os::unix::fs::symlink(&endless, &endless).unwrap();
    assert!(matches!(look(&endless, 0), Answer::Silent(_)));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_comes_and_goes_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leave");
    let net = Net::new(Own::new(Said::new(404, "")));
    let source = format!("file:{}", path.display());
    let mut notices = listen(&[&source], &net);
    assert_eq!(within(&mut notices, 5).await, None);
    fs::write(&path, "").unwrap();
    assert_eq!(preempted(&mut notices, 2).await, (Kind::Request, None));
    fs::remove_file(&path).unwrap();
    assert_eq!(cancelled(&mut notices, 2).await, source);
    assert!(net.asked().is_empty(), "no network is needed");
}

#[tokio::test(start_paused = true)]
async fn a_url_is_a_notice_while_it_answers_200() {
    const URL: &str = "http://warden:8080/leave?node=3";
    let net = Net::new(Own::new(Said::new(204, "")));
    let mut notices = listen(&[URL], &net);
    assert_eq!(within(&mut notices, 5).await, None);
    net.cloud.set(Said::new(200, ""));
    let because = format!("{URL} asks this node to leave");
    assert_eq!(within(&mut notices, 2).await, Some(Notice::Preempt { source: URL.into(), kind: Kind::Request, deadline: None, because }));
    net.cloud.set(Said::new(200, r#"{"deadline_s": 30.5, "because": "the rack is moved"}"#));
    assert_eq!(preempted(&mut notices, 2).await, (Kind::Request, Some(Duration::from_millis(30_500))));
    assert_eq!(within(&mut notices, 20).await, None, "the same answer counts from its first time");
    for silent in [Said::new(500, ""), Said::new(200, "<html>"), Said::new(401, ""), Said::new(301, "")] {
        net.cloud.set(silent);
        assert_eq!(within(&mut notices, 5).await, None);
    }
    net.cloud.set(Said::new(404, "not found"));
    assert_eq!(cancelled(&mut notices, 2).await, URL);
    assert_eq!(net.count("GET /leave"), net.asked().len());
}
