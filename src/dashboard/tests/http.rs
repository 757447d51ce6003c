//! Requests, one guarantee each.

use std::sync::atomic::Ordering::Relaxed;

use super::*;

fn short() -> Limits {
    Limits { connections: 4, listeners: 2, patience: Duration::from_millis(300), head: 8192 }
}

#[tokio::test]
async fn every_address_answers_with_what_it_is_for() {
    let server = Server::plain().await;
    for (target, kind, part) in [
        ("/", "text/html", "<title>everstep</title>"),
        ("/v1/view?kinds=rank", "application/json", "\"reference\":\"rank/3\""),
        ("/v1/events?limit=3", "application/json", "\"step_committed\""),
        ("/v1/curves", "application/json", "\"incidents\":[{"),
        ("/v1/schema", "application/json", "ActorView"),
        ("/metrics", "text/plain; version=0.0.4", "\neverstep_step 412\n"),
        ("/livez", "text/plain", "alive"),
        ("/readyz", "text/plain", "ready"),
    ] {
        let (status, head, body) = server.get(target).await;
        assert_eq!(status, 200, "{target}: {body}");
        assert!(head.contains(&format!("content-type: {kind}")), "{target}: {head}");
        assert!(body.contains(part), "{target}: {}", &body[..body.len().min(400)]);
        for header in
            ["x-content-type-options: nosniff", "x-frame-options: deny", "referrer-policy: no-referrer", "cache-control: no-store"]
        {
            assert!(head.contains(header), "{target} lacks {header}");
        }
    }
    assert_eq!(server.get("/v2/none").await.0, 404);
    assert_eq!(server.get("/v1/view?kinds=cat").await.0, 400);
}

#[tokio::test]
async fn the_page_may_run_its_own_script_only_and_its_nonce_is_new_each_time() {
    let server = Server::plain().await;
    let nonce = |head: &str| head.split("'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).map(str::to_owned).unwrap();
    let ((_, first, page), (_, second, _)) = (server.get("/").await, server.get("/").await);
    assert!(first.contains("default-src 'none'") && !first.contains("unsafe-"), "{first}");
    assert_ne!(nonce(&first), nonce(&second));
    assert_eq!(page.matches(&format!("nonce=\"{}\"", nonce(&first))).count(), 2);
}

#[tokio::test]
async fn filters_hold_before_limits_and_the_cut_is_said() {
    let server = Server::plain().await;
    let (_, _, body) = server.get("/v1/view?kinds=actor&filter=actor_kind=loader&sort=-depth&limit=2").await;
    let view: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((view["matched"].as_u64(), view["items"].as_array().unwrap().len()), (Some(4), 2));
    assert_eq!(view["items"][0]["state"], "failed");
    assert!(view["missing"][0].as_str().unwrap().contains("2 of 4"), "{}", view["missing"]);
}

#[tokio::test]
async fn events_are_bounded_newest_last_and_keep_their_numbers() {
    let server = Server::plain().await;
    let (_, _, body) = server.get("/v1/events?limit=2&without=step_committed").await;
    let told: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(told["items"].as_array().unwrap().len(), 2);
    assert_eq!(told["items"][1]["properties"]["event"], "evaluated");
    let since = told["items"][0]["properties"]["at_ms"].as_u64().unwrap();
    let (_, _, body) = server.get(&format!("/v1/events?since_ms={since}&without=step_committed")).await;
    let again: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((again["matched"].as_u64(), &again["items"]), (Some(2), &told["items"]));
}

#[tokio::test]
async fn nothing_but_get_is_answered() {
    let server = Server::plain().await;
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"] {
        let (status, head, _) = server.ask(method, "/v1/view", &[("content-length", "0")]).await;
        assert_eq!((status, head.contains("allow: get")), (405, true), "{method}");
    }
    assert_eq!(server.eye.looks.load(Relaxed), 0, "the run was not even asked");
}

#[tokio::test]
async fn a_foreign_host_is_refused_on_loopback() {
    let server = Server::plain().await;
    for target in ["/", "/v1/view", "/metrics", "/events"] {
        assert_eq!(server.ask("GET", target, &[("host", "evil.example")]).await.0, 403, "{target}");
    }
    assert_eq!(server.ask("GET", "/v1/view", &[("host", "localhost:1")]).await.0, 200);
}

#[tokio::test]
async fn without_the_token_nothing_is_told_but_that_the_process_lives() {
    let server = Server::start(FakeEye::new(4, 1_800_000_000_000), Limits::default(), true).await;
    for target in ["/", "/v1/view", "/v1/events", "/v1/curves", "/v1/schema", "/events", "/metrics", "/none", "/?token=0123"] {
        let (status, head, _) = server.get(target).await;
        assert_eq!((status, head.contains("www-authenticate: bearer")), (401, true), "{target}");
        assert!(!head.contains("set-cookie"));
    }
    assert_eq!(server.get("/livez").await.0, 200);
    let wrong = server.ask("GET", "/v1/view", &[("authorization", "Bearer 00000000000000000000000000000000")]).await;
    assert_eq!(wrong.0, 401);
    assert_eq!(server.ask("GET", "/v1/view", &[("authorization", &format!("Bearer {}", server.token))]).await.0, 200);
    let (status, head, page) = server.get(&format!("/?token={}", server.token)).await;
    assert_eq!(status, 200);
    assert!(head.contains("httponly; samesite=strict") && !page.contains(&server.token), "{head}");
    let cookie = head.split("set-cookie: ").nth(1).and_then(|rest| rest.split(';').next()).unwrap();
    assert_eq!(server.ask("GET", "/v1/view", &[("cookie", cookie)]).await.0, 200);
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_dropped() {
    let server = Server::start(FakeEye::new(4, 1_800_000_000_000), short(), false).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: ").await.unwrap();
    let told = closes(&mut slow).await;
    assert!(!told.contains("200 OK"), "{told}");
    let mut mute = server.connect().await;
    assert_eq!(closes(&mut mute).await, "", "one that says nothing at all");
}

#[tokio::test]
async fn a_client_that_keeps_a_connection_without_using_it_is_dropped() {
    let server = Server::start(FakeEye::new(4, 1_800_000_000_000), short(), false).await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(closes(&mut idle).await.ends_with("alive\n"));
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::plain().await;
    let large = "a".repeat(40_000);
    let (status, _, _) = server.ask("GET", "/v1/view", &[("x-large", &large)]).await;
    assert_eq!(status, 431);
    let many: Vec<(&str, &str)> = vec![("x", "y"); 200];
    assert_eq!(server.ask("GET", "/v1/view", &many).await.0, 431);
}

#[tokio::test]
async fn connections_are_bounded_and_their_places_come_back() {
    let limits = Limits { patience: Duration::from_secs(10), ..short() };
    let server = Server::start(FakeEye::new(4, 1_800_000_000_000), limits, false).await;
    let mut held = Vec::new();
    for _ in 0..limits.connections {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
        held.push(stream);
    }
    let mut one_more = server.connect().await;
    assert!(closes(&mut one_more).await.starts_with("HTTP/1.1 503"));
    drop(held);
    // The server sees the closed ones in its own time.
    while server.get("/livez").await.0 != 200 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn listeners_share_one_look_and_one_too_many_is_refused() {
    let limits = Limits { connections: 8, listeners: 3, ..Limits::default() };
    let server = Server::start(FakeEye::new(4, 1_800_000_000_000), limits, false).await.poll();
    let mut listeners = Vec::new();
    for _ in 0..3 {
        let mut stream = server.connect().await;
        stream.write_all(b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        listeners.push(stream);
    }
    let mut looks = Vec::new();
    for stream in &mut listeners {
        let mut told = String::new();
        while told.matches("event: view").count() < 3 {
            let mut buffer = vec![0; 1 << 16];
            let count = stream.read(&mut buffer).await.unwrap();
            assert!(count > 0, "{told}");
            told.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        assert!(told.contains("content-type: text/event-stream") && told.contains("\"rank/3\"") && !told.contains("actor/"));
        looks.push(server.eye.looks.load(Relaxed));
    }
    assert!(looks[0] <= 4, "three messages for three listeners took {looks:?} looks");
    assert_eq!(server.get("/events").await.0, 503);
}

#[tokio::test]
async fn however_many_ask_the_run_is_asked_once_for_each_part() {
    let server = Server::plain().await;
    let asked = (0..20).map(|_| server.get("/v1/view?kinds=run,actor"));
    let mut tasks = Vec::new();
    for ask in asked {
        tasks.push(ask.await.0);
    }
    assert!(tasks.iter().all(|status| *status == 200));
    let looks = server.eye.looks.load(Relaxed);
    // Two parts; a second look of each where the second turned in between.
    assert!(looks <= 4, "{looks}");
}

#[tokio::test]
async fn a_listener_that_reads_nothing_is_dropped() {
    let server =
        Server::start(FakeEye::new(4, 1_800_000_000_000), Limits { patience: Duration::from_millis(300), ..Limits::default() }, false)
            .await;
    let (client, taken) = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    };
    let mut patient = crate::dashboard::wire::Patient::new(taken, Duration::from_millis(200));
    let chunk = vec![0u8; 1 << 20];
    let error = loop {
        match patient.write(&chunk).await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    drop((client, server));
}

#[tokio::test]
async fn a_run_that_cannot_be_seen_is_said_so() {
    let eye = FakeEye { fails: true, ..FakeEye::new(4, 1_800_000_000_000) };
    let server = Server::start(eye, Limits::default(), false).await;
    assert_eq!((server.get("/readyz").await.0, server.get("/livez").await.0), (503, 200));
    let (status, _, body) = server.get("/v1/view").await;
    assert_eq!((status, body.trim()), (502, "no member answers, and the store cannot be read"));
    assert_eq!(server.get("/").await.0, 200, "the page itself comes, and says it");
}

#[tokio::test]
async fn an_address_in_use_is_said_with_the_remedy() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let args = crate::cli::dashboard::DashboardArgs { listen: taken.local_addr().unwrap(), token: false };
    let failure = crate::dashboard::run(&args, Arc::new(FakeEye::new(1, 1_800_000_000_000))).await.unwrap_err();
    assert!(failure.sentence.contains("choose another address with --listen"), "{failure}");
}

#[tokio::test]
async fn links_of_many_nodes_are_shown_node_by_node() {
    let server = Server::start(FakeEye::new(150, 1_800_000_000_000), Limits::default(), false).await;
    let (_, _, body) = server.get("/v1/view?kinds=link").await;
    let view: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(view["items"].as_array().unwrap().is_empty() && view["missing"][0].as_str().unwrap().contains("node by node"));
    let (_, _, ranks) = server.get("/v1/view?kinds=rank&filter=rank=7").await;
    let ranks: serde_json::Value = serde_json::from_str(&ranks).unwrap();
    let node = ranks["items"][0]["properties"]["node"].as_str().unwrap().to_owned();
    let (_, _, body) = server.get(&format!("/v1/view?kinds=link&under={node}")).await;
    let view: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(view["items"].as_array().unwrap().len(), 1);
}
