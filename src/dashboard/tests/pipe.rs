//! A browser that is driven through two pipes, as Chromium's `--remote-debugging-pipe` has it: JSON messages that end with a zero byte.

use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::pipe::{OpenOptions, Receiver, Sender};
use tokio::process::{Child, Command};

/// One page of a browser.
pub(super) struct Browser {
    to: Sender,
    from: BufReader<Receiver>,
    page: Option<String>,
    sent: u64,
    /// What the console said that is a complaint.
    pub(super) complaints: Vec<String>,
    _child: Child,
    _folder: tempfile::TempDir,
}

impl Browser {
    pub(super) async fn start(program: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (into, out) = (folder.path().join("in"), folder.path().join("out"));
        assert!(Command::new("mkfifo").args([&into, &out]).status().await.unwrap().success());
        let to = OpenOptions::new().read_write(true).open_sender(&into).unwrap();
        let from = BufReader::new(OpenOptions::new().read_write(true).open_receiver(&out).unwrap());
        // The shell gives the pipes the numbers 3 and 4.
        let child = Command::new("sh")
            .args(["-c", "in=$1; out=$2; shift 2; exec \"$@\" 3<\"$in\" 4>\"$out\"", "sh"])
            .args([&into, &out])
            .arg(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--remote-debugging-pipe", "--no-first-run"])
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut browser = Self { to, from, page: None, sent: 0, complaints: Vec::new(), _child: child, _folder: folder };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" })).await["targetId"].clone();
        let session = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true })).await;
        browser.page = session["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.call(domain, json!({})).await;
        }
        browser
    }

    /// Calls a method and waits for its result; what the page says meanwhile is kept.
    async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.sent += 1;
        let mut message = json!({ "id": self.sent, "method": method, "params": parameters });
        if let Some(page) = &self.page {
            message["sessionId"] = page.as_str().into();
        }
        self.to.write_all(&[message.to_string().as_bytes(), b"\0"].concat()).await.unwrap();
        loop {
            let mut bytes = Vec::new();
            let read = self.from.read_until(0, &mut bytes);
            let count = tokio::time::timeout(std::time::Duration::from_secs(60), read).await.expect("the browser is silent").unwrap();
            assert!(count > 0, "the browser is gone");
            bytes.pop();
            let mut told: Value = serde_json::from_slice(&bytes).unwrap();
            if told["id"] == self.sent {
                assert!(told["error"].is_null(), "{method}: {}", told["error"]);
                return told["result"].take();
            }
            let level = told["params"]["type"].as_str().or_else(|| told["params"]["entry"]["level"].as_str()).unwrap_or_default();
            match told["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(told["params"].to_string()),
                Some("Runtime.consoleAPICalled" | "Log.entryAdded") if ["error", "warning", "assert"].contains(&level) => {
                    self.complaints.push(told["params"].to_string());
                }
                _ => {}
            }
        }
    }

    /// Opens an address in a window of this size.
    pub(super) async fn open(&mut self, address: &str, (width, height): (u32, u32)) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size).await;
        self.call("Page.navigate", json!({ "url": address })).await;
        self.until("document.documentElement?.dataset.ready === 'yes'").await;
    }

    /// The value of an expression.
    pub(super) async fn eval(&mut self, expression: &str) -> Value {
        let asked = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let mut told = self.call("Runtime.evaluate", asked).await;
        assert!(told["exceptionDetails"].is_null(), "{expression}: {}", told["exceptionDetails"]);
        told["result"]["value"].take()
    }

    /// Waits within the page until an expression holds.
    pub(super) async fn until(&mut self, expression: &str) {
        let script = format!(
            "new Promise((done, fail) => {{ const end = performance.now() + 20000; (function look() {{ if ({expression}) done(true); \
             else if (performance.now() > end) fail(new Error('it never comes to hold')); else setTimeout(look, 25); }})(); }})"
        );
        self.eval(&script).await;
    }

    /// Presses a key.
    pub(super) async fn key(&mut self, key: &str) {
        let text = if key.chars().count() == 1 { key } else { "" };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            self.call("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key, "text": text })).await;
        }
    }

    /// Types a text.
    pub(super) async fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text })).await;
    }

    /// Writes a picture of the window.
    pub(super) async fn picture(&mut self, file: &Path) {
        let told = self.call("Page.captureScreenshot", json!({ "format": "png" })).await;
        std::fs::write(file, decoded(told["data"].as_str().unwrap())).unwrap();
    }
}

/// Base64 as bytes.
fn decoded(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|known| *known == byte)) {
        bits = bits << 6 | digit as u32;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}
