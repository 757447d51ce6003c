//! A process that gets no more memory: it is put into a group of its own that may have none, and the kernel ends it.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::launcher::lives;

/// Where groups with a limit of memory are made, and the file that sets it: the second version, then the first.
const PLACES: [(&str, &str); 2] = [("/sys/fs/cgroup", "memory.max"), ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")];
/// Less than anything that runs asks for within a step.
const LIMIT: &str = "65536";
/// The kernel is waited for so long, in seconds.
const MOST: i64 = 5;

/// A group of processes; it goes with its owner.
#[derive(Debug)]
struct Group {
    folder: PathBuf,
    limit: &'static str,
}

impl Group {
    /// A new one, which may have as much as it wants.
    fn new() -> Result<Self, String> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let name = format!("everstep-chaos-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let made = PLACES.into_iter().find_map(|(place, limit)| {
            let group = Self { folder: Path::new(place).join(&name), limit };
            let made = std::fs::create_dir(&group.folder).is_ok();
            // A folder without that file is none that limits memory.
            (made && group.folder.join(limit).exists()).then_some(group)
        });
        made.ok_or_else(|| {
            "no group of processes with a limit of memory can be made here: run as root, or play it in the local tier".into()
        })
    }

    fn write(&self, file: &str, what: &str) -> Result<(), String> {
        let file = self.folder.join(file);
        std::fs::write(&file, what).map_err(|error| format!("{}: {error}", file.display()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Empty by now; one that is not stays, and limits nobody else.
        let _ = std::fs::remove_dir(&self.folder);
    }
}

/// Why nobody can be starved here.
pub(super) fn refused() -> Option<String> {
    Group::new().err()
}

/// A process gets no more memory; returns when the kernel has ended it.
pub(super) fn starve(pid: u32) -> Result<(), String> {
    let group = Group::new()?;
    // The limit first: a group that holds more already may be refused one. What the process has stays where it was counted; what it asks for is counted here.
    group.write(group.limit, LIMIT)?;
    group.write("cgroup.procs", &pid.to_string())?;
    let process = i32::try_from(pid).ok().and_then(Pid::from_raw);
    if let Some(end) = process.and_then(|process| pidfd_open(process, PidfdFlags::empty()).ok()) {
        let most = Timespec { tv_sec: MOST, tv_nsec: 0 };
        // What is not heard of is looked at below.
        let _ = poll(&mut [PollFd::new(&end, PollFlags::IN)], Some(&most));
    }
    if lives(pid) { Err(format!("process {pid} has lived for {MOST} s without more memory")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn who_wants_more_memory_is_ended_by_the_kernel() {
        if let Some(because) = refused() {
            return println!("skipped: {because}");
        }
        let mut greedy = Command::new("sh").args(["-c", "x=0123456789; while :; do x=$x$x; done"]).spawn().unwrap();
        starve(greedy.id()).unwrap();
        assert_eq!(greedy.wait().unwrap().signal(), Some(9));
    }
}
