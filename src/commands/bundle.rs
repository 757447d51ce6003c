//! `everstep bundle`: what a bug report needs, in one tar, with what is secret left out.

use std::io::Write as _;
use std::path::Path;

use everstep_actors::clock::wall_ms;
use everstep_actors::desk::question::Question;
use everstep_actors::net::tls::Role;

use super::output;
use crate::cli::desk::{At, BundleArgs};
use crate::cli::{ExitCode, Failure};
use crate::desk::client::Desk;
use crate::desk::eye::Eye;
use crate::report::bytes;

/// The newest events that go in.
const EVENTS_MAX: usize = 20_000;
/// Words in the names of keys whose values are left out.
const SECRET: [&str; 5] = ["secret", "token", "password", "credential", "access_key"];

/// Writes the tar.
///
/// # Errors
/// The run cannot be read at all, or the file cannot be written.
pub async fn run(args: &At<BundleArgs>) -> Result<ExitCode, Failure> {
    let desk = Desk::open(args.at.way(), Role::Viewer).await?;
    let mut parts: Vec<(&str, String)> = Vec::new();
    let version = format!("everstep {}\nmade {} ms after the Unix epoch\n", env!("CARGO_PKG_VERSION"), wall_ms());
    parts.push(("version.txt", version));
    let view = desk.look(&Question::default()).await?;
    let events = desk.events().await.unwrap_or_default();
    parts.push(("status.txt", crate::views::status::status(&view, &events)));
    parts.push(("view.json", serde_json::to_string_pretty(&view).unwrap_or_default()));
    let newest = &events[events.len().saturating_sub(EVENTS_MAX)..];
    parts.push(("events.jsonl", newest.iter().filter_map(|event| serde_json::to_string(event).ok()).map(|line| line + "\n").collect()));
    let record = desk.record().await?;
    parts.push(("epoch.json", serde_json::to_string_pretty(&record).unwrap_or_default()));
    if let Ok(recipe) = desk.store().get("recipe.toml", 1 << 20).await {
        parts.push(("recipe.toml", String::from_utf8_lossy(&recipe).into_owned()));
    }
    let logs = super::logs::lines(desk.store()).await.unwrap_or_default();
    parts.push(("logs.jsonl", logs.into_iter().map(|line| line + "\n").collect()));
    desk.close().await;
    let size = write(&args.what.output, parts)?;
    output::print(&format!("{}: {}; certificates, keys, weights and images are not in it", args.what.output.display(), bytes(size)))?;
    Ok(ExitCode::Done)
}

fn write(path: &Path, parts: Vec<(&str, String)>) -> Result<u64, Failure> {
    let failed =
        |error: std::io::Error| Failure::new(ExitCode::Failed, format!("{} cannot be written: {error}; give another -o", path.display()));
    let mut tar = tar::Builder::new(Vec::new());
    for (name, text) in parts {
        let text = redact(&text);
        let mut header = tar::Header::new_ustar();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(wall_ms() / 1_000);
        header.set_cksum();
        tar.append_data(&mut header, format!("everstep-bundle/{name}"), text.as_bytes()).map_err(failed)?;
    }
    let whole = tar.into_inner().map_err(failed)?;
    let mut file = std::fs::File::create(path).map_err(failed)?;
    file.write_all(&whole).map_err(failed)?;
    Ok(whole.len() as u64)
}

/// Leaves out the values of keys that sound secret, and what stands before `@` or after `?` in a location.
fn redact(text: &str) -> String {
    text.lines().map(|line| redact_line(line) + "\n").collect()
}

fn redact_line(line: &str) -> String {
    let lower = line.to_ascii_lowercase();
    let key = lower.split(['=', ':']).next().unwrap_or_default();
    if SECRET.iter().any(|word| key.contains(word)) && key.len() < 60 && key.len() < line.len() {
        return format!("{} (left out)", &line[..=key.len()]);
    }
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let end = after.find(|c: char| c.is_whitespace() || "\"'<>,".contains(c)).unwrap_or(after.len());
        let (location, tail) = after.split_at(end);
        let location = location.split_once('?').map_or_else(|| location.to_owned(), |(place, _)| format!("{place}?(left out)"));
        let location = location.rsplit_once('@').map_or_else(|| location.clone(), |(_, place)| format!("(left out)@{place}"));
        out += before;
        out += &location;
        rest = tail;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_left_out() {
        let text = "access_token = \"abc\"\nrun = \"s3://me:key@bucket/run?sig=123\", next\nplain = 3\n";
        let redacted = redact(text);
        assert!(!["abc", "me:key", "sig=123"].iter().any(|secret| redacted.contains(secret)), "{redacted}");
        assert!(redacted.contains("@bucket/run?") && redacted.contains(", next") && redacted.contains("plain = 3"), "{redacted}");
    }

    #[test]
    fn the_tar_holds_its_parts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("b.tar");
        write(&path, vec![("version.txt", "everstep\n".into())]).unwrap();
        let mut archive = tar::Archive::new(std::fs::File::open(&path).unwrap());
        let names: Vec<String> = archive.entries().unwrap().map(|entry| entry.unwrap().path().unwrap().display().to_string()).collect();
        assert_eq!(names, ["everstep-bundle/version.txt"]);
    }
}
