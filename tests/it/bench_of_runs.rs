//! What the stories share: a recipe of seconds, the program with a deadline, its lines.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// No story takes longer than this on a busy machine; a program that hangs is killed and the test fails.
const DEADLINE: Duration = Duration::from_secs(180);

/// The recipe of all stories.
pub(crate) const RECIPE: &str = "
[run]
steps = 14
[data.make]
dir = \"made\"
images = 300
test = 0
size = 32
[batch]
lanes = 4
images_per_lane = 4
[[crops.group]]
count = 2
size = 24
scale = [0.2, 1.0]
[[crops.group]]
count = 2
size = 16
scale = [0.05, 0.3]
[crops]
blur = 0.5
[model]
head = [32, 16]
prototypes = 30
stages = { widths = [16, 32], depths = [1, 1], group_width = 8 }
[swav]
epsilon = 0.03
iterations = 5
freeze_prototypes = 3
[checkpoint]
every = 4
keep = 10
";

/// A folder with the recipe in it.
pub(crate) struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    /// The runs compute on flex, or on the device that `EVERSTEP_TEST_DEVICE` names.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let device = std::env::var("EVERSTEP_TEST_DEVICE").unwrap_or_else(|_| "flex".into());
        std::fs::write(folder.path().join("recipe.toml"), format!("{RECIPE}[device]\nname = \"{device}\"\n")).unwrap();
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        // What is measured may be another build than what is tested.
        let program = std::env::var_os("EVERSTEP_PROGRAM").unwrap_or_else(|| env!("CARGO_BIN_EXE_everstep").into());
        let mut command = Command::new(program);
        command.args(line.split_whitespace()).current_dir(self.folder.path()).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs `everstep LINE` to its end.
    pub(crate) fn run(&self, line: &str) -> Ran {
        Running::new(self.command(line).spawn().unwrap(), line).end()
    }

    /// Starts `everstep LINE`.
    pub(crate) fn start(&self, line: &str) -> Running {
        Running::new(self.command(line).spawn().unwrap(), line)
    }

    /// The digest of a run's newest state.
    pub(crate) fn digest(&self, run: &str) -> String {
        let ran = self.run(&format!("digest --run {run}"));
        assert_eq!(ran.code, 0, "{ran:?}");
        ran.stdout.trim().to_owned()
    }
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ran {
    #[expect(dead_code, reason = "shown when a story fails")]
    pub(crate) line: String,
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// The events of a kind, in order.
    pub(crate) fn events(&self, kind: &str) -> Vec<serde_json::Value> {
        let values = self.stdout.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        values.filter(|value| value["event"] == kind).collect()
    }

    /// The one sentence on standard error, checked to be one.
    pub(crate) fn sentence(&self) -> &str {
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "one sentence: {self:?}");
        errors[0]
    }
}

/// A program that runs, its lines of standard output as they come.
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    stderr: Option<std::thread::JoinHandle<String>>,
    line: String,
    seen: Vec<String>,
}

impl Running {
    fn new(mut child: Child, line: &str) -> Self {
        let (into, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| into.send(line)));
        let mut errors = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            text
        });
        Self { child, lines, stderr: Some(stderr), line: line.into(), seen: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of JSON for which `wanted` holds.
    pub(crate) fn until(&mut self, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => {
                    let value = serde_json::from_str(&line).unwrap_or(serde_json::Value::Null);
                    self.seen.push(line);
                    if wanted(&value) {
                        return value;
                    }
                }
                Err(error) => {
                    let _ = self.child.kill();
                    let (status, told) = (self.child.wait(), self.stderr.take().map(|told| told.join()));
                    panic!("`everstep {}` did not come so far ({error}, {status:?}): {:#?}, {told:?}", self.line, self.seen);
                }
            }
        }
    }

    /// The newest line so far for which `wanted` holds.
    pub(crate) fn newest(&self, wanted: impl Fn(&serde_json::Value) -> bool) -> Option<serde_json::Value> {
        self.seen.iter().rev().filter_map(|line| serde_json::from_str(line).ok()).find(|value| wanted(value))
    }

    /// Waits until the step has been committed.
    pub(crate) fn until_step(&mut self, step: u64) {
        self.until(|event| event["event"] == "step_committed" && event["step"].as_u64() >= Some(step));
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ran {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => self.seen.push(line),
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let _ = self.child.kill();
                    panic!("`everstep {}` hangs: {:#?}", self.line, self.seen);
                }
            }
        }
        let status = self.child.wait().unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        let line = std::mem::take(&mut self.line);
        Ran { line, code: status.code().unwrap_or(-1), stdout: self.seen.join("\n"), stderr }
    }
}

impl Drop for Running {
    /// A story that fails leaves nothing running: without its launcher a node leaves by itself.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent: Output = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).output().unwrap();
    assert!(sent.status.success(), "{sent:?}");
}

/// The files below a folder whose path holds `part`.
pub(crate) fn files(folder: &Path, part: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, part));
        } else if path.to_string_lossy().contains(part) {
            found.push(path);
        }
    }
    found.sort();
    found
}
