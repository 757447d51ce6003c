//! The stage of the process tier: launchers on hosts, and how faults reach their processes, networks and disks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use everstep_actors::checkpoint::Digest;
use everstep_actors::event::Event;
use everstep_actors::protocol::ids::{Epoch, NodeId};
use everstep_actors::protocol::record::{EpochRecord, Member};
use everstep_actors::store::faulty::SWITCH;
use rustix::process::Signal;

use super::disk::Disk;
use super::drowsy::Held;
use super::launcher::{Launcher, lives, signal, sizes, status};
use super::namespace::Network;
use super::starve::{self, starve};
use super::switch::Switch;
use super::{Program, RECIPE};
use crate::fault::{Fault, Kind, Mode};
use crate::scenario::Scenario;
use crate::stage::timeline::{Books, Committed, number};
use crate::stage::{Stage, Strike, Told, host};

mod strikes;

use strikes::{Undo, is_stall};

/// How often processes are looked at.
const LOOK: Duration = Duration::from_millis(25);
/// How often sizes are taken.
const MEASURE: Duration = Duration::from_secs(1);
/// Samples before a process's sizes are taken for settled, and samples that are kept.
const SETTLED: usize = 5;
const SAMPLES_MAX: usize = 4_096;
/// The exit code that asks for the same command again.
const TRY_AGAIN: i32 = 75;

/// A rank's process.
#[derive(Debug, Clone, Copy)]
struct Node {
    id: NodeId,
    pid: u32,
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Processes<'a> {
    scenario: &'a Scenario,
    program: &'a Program,
    run: PathBuf,
    network: Result<Network, String>,
    /// Before the disk and the launchers: what is held goes on before they end.
    undo: BTreeMap<u32, Undo>,
    held: Arc<Held>,
    disk: Option<Disk>,
    /// Where processes look whether answers of the store are lost, and for how many faults they are.
    answers: Switch,
    launchers: Vec<Launcher>,
    nodes: BTreeMap<u32, Node>,
    known: BTreeSet<NodeId>,
    epoch: u64,
    looked: Instant,
    measured: Instant,
    telling: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
    again: Vec<(Instant, Vec<u32>)>,
    last: Option<u64>,
    over: bool,
    /// Memory and open files of processes as they went on.
    pub(super) samples: BTreeMap<u32, Vec<(u64, u64)>>,
    /// Launchers that ended badly, and what they said.
    pub(super) ends: Vec<String>,
}

impl<'a> Processes<'a> {
    /// A stage for a scenario, without processes; its run lives in `run`.
    pub(super) fn new(
        scenario: &'a Scenario,
        program: &'a Program,
        run: PathBuf,
        network: Result<Network, String>,
    ) -> Result<Self, String> {
        let wants_disk = scenario.faults.iter().any(|fault| fault.kind == Kind::Store && fault.mode != Some(Mode::Unknown));
        let run_of = run.clone();
        std::fs::create_dir_all(&run).map_err(|error| format!("{}: {error}", run.display()))?;
        let stalls = scenario.faults.iter().any(is_stall);
        let disk = if wants_disk { Some(Disk::mount(&run, stalls)?) } else { None };
        let (telling, told) = mpsc::channel();
        Ok(Self {
            scenario,
            program,
            run,
            network,
            undo: BTreeMap::new(),
            held: Arc::default(),
            disk,
            answers: Switch::beside(&run_of),
            launchers: Vec::new(),
            nodes: BTreeMap::new(),
            known: BTreeSet::new(),
            epoch: 0,
            looked: Instant::now(),
            measured: Instant::now(),
            telling,
            told,
            again: Vec::new(),
            last: None,
            over: false,
            samples: BTreeMap::new(),
            ends: Vec::new(),
        })
    }

    fn launch(&mut self, machine: u32, zone: &str, slots: Vec<u32>) -> Result<(), String> {
        let mut command = match &mut self.network {
            Ok(network) => {
                network.host(machine)?;
                network.command(machine, &self.program.binary)
            }
            Err(_) => Command::new(&self.program.binary),
        };
        let cluster = &self.scenario.cluster;
        let address = if self.network.is_ok() { Network::address(machine).to_string() } else { "127.0.0.1".into() };
        // Who is to get another address listens at all that it has.
        let moves = self.scenario.faults.iter().any(|fault| fault.mode == Some(Mode::Moved));
        let bind = if moves { "0.0.0.0".into() } else { address.clone() };
        command.arg("train").arg(RECIPE).arg("--run").arg(&self.run).args(["--json", "--ranks", &slots.len().to_string()]);
        for set in self.program.settings(self.scenario).into_iter().chain([
            format!("cluster.host=h{machine}"),
            format!("cluster.zone={zone}"),
            format!("cluster.bind={bind}"),
            format!("cluster.advertise={address}"),
            format!("cluster.ranks_min={}", cluster.ranks_min),
            format!("cluster.ranks_max={}", cluster.ranks_max.min(65_536)),
            format!("cluster.replicas={}", cluster.replicas),
            format!("cluster.restart={}", cluster.relaunch),
        ]) {
            command.args(["--set", &set]);
        }
        command.current_dir(&self.program.folder).env(SWITCH, self.answers.path());
        self.launchers.push(Launcher::start(command, machine, slots, self.telling.clone())?);
        Ok(())
    }

    /// Learns from new records who sits where.
    fn find_nodes(&mut self) {
        while let Ok(body) = std::fs::read(self.run.join(EpochRecord::key(Epoch(self.epoch + 1)))) {
            let Ok(record) = serde_json::from_slice::<EpochRecord>(&body) else { return };
            self.epoch += 1;
            for member in record.everyone() {
                self.find_node(member);
            }
        }
    }

    fn find_node(&mut self, member: &Member) {
        if !self.known.insert(member.node) {
            return;
        }
        let Some((_, parent)) = status(member.pid) else { return };
        let slot =
            self.launchers.iter().find(|launcher| launcher.pid() == parent).and_then(|launcher| launcher.slots.get(member.slot as usize));
        if let Some(slot) = slot {
            self.nodes.insert(*slot, Node { id: member.node, pid: member.pid });
            // This stage holds the other end.
            let _ = self.telling.send(Told::Started(member.node, *slot));
        }
    }

    fn find_ends(&mut self) {
        for (slot, node) in self.nodes.clone() {
            if !lives(node.pid) {
                self.nodes.remove(&slot);
                let _ = self.telling.send(Told::Gone(node.id, false, "its process has ended".into()));
            }
        }
        let mut ended = Vec::new();
        self.launchers.retain_mut(|launcher| match launcher.ended() {
            Some(status) => {
                ended.push((launcher.slots.clone(), status, launcher.talk()));
                false
            }
            None => true,
        });
        for (slots, status, talk) in ended {
            match status.code() {
                Some(0) => {}
                Some(TRY_AGAIN) if self.scenario.cluster.relaunch => self.again.push((Instant::now() + Duration::from_millis(500), slots)),
                _ => self.ends.push(format!("a launcher ended with {status}: {talk}")),
            }
        }
        let steps = self.scenario.workload.steps;
        if self.launchers.is_empty() && self.again.is_empty() && self.last.is_some_and(|last| last + 1 >= steps) && !self.over {
            self.over = true;
            let _ = self.telling.send(Told::Done);
        }
    }

    fn measure(&mut self) {
        let pids = self.launchers.iter().map(Launcher::pid).chain(self.nodes.values().map(|node| node.pid));
        for pid in pids.collect::<Vec<_>>() {
            let samples = self.samples.entry(pid).or_default();
            if let Some(sizes) = sizes(pid).filter(|_| samples.len() < SAMPLES_MAX) {
                samples.push(sizes);
            }
        }
    }

    fn pids(&self, slots: &[u32]) -> Vec<u32> {
        slots.iter().filter_map(|slot| self.nodes.get(slot)).map(|node| node.pid).collect()
    }

    /// The hosts of places.
    fn hosts(&self, slots: &[u32]) -> BTreeSet<u32> {
        slots.iter().map(|slot| host(self.scenario, *slot).0).collect()
    }

    /// Tells the run something about its nodes, without waiting for the answer.
    fn operate(&self, slots: &[u32], verb: &str, more: &[String]) {
        for slot in slots {
            let Some(node) = self.nodes.get(slot) else { continue };
            let machine = host(self.scenario, *slot).0;
            let mut command = match &self.network {
                Ok(network) => network.command(machine, &self.program.binary),
                Err(_) => Command::new(&self.program.binary),
            };
            command.arg(verb).arg(node.id.to_string()).arg("--run").arg(&self.run).args(more);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir(&self.program.folder);
            if let Ok(mut child) = command.spawn() {
                std::thread::spawn(move || child.wait());
            }
        }
    }
}

impl Drop for Processes<'_> {
    fn drop(&mut self) {
        // Also where a play ends in the middle: what was held goes on before anything below it is taken away.
        self.finish();
    }
}

impl Books for Processes<'_> {
    fn digest(&mut self, committed: Committed<'_>) -> u64 {
        let bits: Vec<(&String, u64)> = committed.metrics.iter().map(|(name, value)| (name, value.to_bits())).collect();
        number(&Digest::of(format!("{bits:?}").as_bytes()))
    }

    fn used_its_own(&self, committed: Committed<'_>) -> bool {
        // Which they were is for the audit to say.
        committed.samples == self.scenario.workload.lanes * self.scenario.workload.samples_per_lane
    }
}

impl Stage for Processes<'_> {
    fn refuses(&self, fault: &Fault) -> Option<String> {
        let local = |what: &str| Some(format!("{what}: play it in the local tier"));
        let cluster = &self.scenario.cluster;
        let joins = self.scenario.faults.iter().any(|fault| fault.kind == Kind::Join);
        match (fault.kind, fault.mode) {
            (Kind::BitFlip | Kind::Nan, _) => local("the program has no door for it"),
            (Kind::Oom, _) => starve::refused(),
            (Kind::Store, _) if fault.target.is_some() => local("all processes share one disk"),
            (Kind::Cut | Kind::Link, _) if cluster.nodes <= cluster.nodes_per_host && !joins => Some(
                "all processes are on one machine, and nothing lies between them: lower nodes_per_host, or play it in the local tier"
                    .into(),
            ),
            (Kind::Cut | Kind::Link, _) => self.network.as_ref().err().map(|because| format!("{because}, or play it in the local tier")),
            _ => None,
        }
    }

    fn folder(&self) -> &Path {
        &self.run
    }

    fn start(&mut self, slots: &[u32]) -> Result<(), String> {
        let mut by_host: BTreeMap<(u32, String), Vec<u32>> = BTreeMap::new();
        for slot in slots {
            by_host.entry(host(self.scenario, *slot)).or_default().push(*slot);
        }
        by_host.into_iter().try_for_each(|((machine, zone), slots)| self.launch(machine, &zone, slots))
    }

    fn wait(&mut self, most: Duration) -> Vec<Told> {
        let now = Instant::now();
        if now >= self.looked + LOOK {
            self.looked = now;
            self.find_nodes();
            self.find_ends();
            let (due, rest): (Vec<_>, Vec<_>) = std::mem::take(&mut self.again).into_iter().partition(|(at, _)| *at <= now);
            self.again = rest;
            for (_, slots) in due {
                if let Err(because) = self.start(&slots) {
                    self.ends.push(because);
                }
            }
        }
        if now >= self.measured + MEASURE {
            self.measured = now;
            self.measure();
        }
        let first = self.told.recv_timeout(most).ok();
        let all: Vec<Told> = first.into_iter().chain(self.told.try_iter()).collect();
        for told in &all {
            if let Told::Event(recorded) = told {
                match recorded.event {
                    Event::StepCommitted { step, .. } => self.last = self.last.max(Some(step.0)),
                    // Who sits where is asked for the moment that it is known.
                    Event::EpochBegan { .. } => self.looked = now.checked_sub(LOOK).unwrap_or(now),
                    _ => {}
                }
            }
        }
        all
    }

    fn kill(&mut self, slots: &[u32], whole: bool) {
        if whole {
            let hosts = self.hosts(slots);
            self.launchers.retain_mut(|launcher| {
                let goes = hosts.contains(&launcher.host);
                if goes {
                    launcher.kill();
                }
                !goes
            });
        }
        self.pids(slots).into_iter().for_each(|pid| signal(pid, Signal::KILL));
        slots.iter().for_each(|slot| {
            self.nodes.remove(slot);
        });
    }

    fn starve(&mut self, slots: &[u32]) {
        for pid in self.pids(slots) {
            if let Err(because) = starve(pid) {
                self.ends.push(because);
            }
        }
        // Whoever is still there gets the signal without a reason.
        self.kill(slots, false);
    }

    fn revives(&self) -> bool {
        self.scenario.cluster.relaunch
    }

    fn drain(&mut self, slots: &[u32], lead: Option<Duration>) {
        let lead = lead.map(|lead| vec!["--deadline".to_owned(), lead.as_secs_f64().to_string()]);
        self.operate(slots, "drain", &lead.unwrap_or_default());
    }

    fn stay(&mut self, slots: &[u32]) {
        self.operate(slots, "undrain", &[]);
    }

    fn afflict(&mut self, strike: &Strike<'_>) -> Vec<u32> {
        let Some(undo) = self.begin(strike) else { return Vec::new() };
        self.undo.insert(strike.number, undo);
        strike.whom.clone()
    }

    fn relieve(&mut self, number: u32) -> u64 {
        self.undo.remove(&number).map_or(0, |undo| self.end(number, undo))
    }

    fn finish(&mut self) {
        let undone: Vec<u32> = self.undo.keys().copied().collect();
        for number in undone {
            self.relieve(number);
        }
        self.launchers.iter_mut().for_each(Launcher::kill);
        self.launchers.clear();
        self.nodes.clear();
    }
}

impl Processes<'_> {
    /// Processes that were watched long enough: memory and open files when they had settled, and at last.
    pub(super) fn settled(&self) -> impl Iterator<Item = (u32, (u64, u64), (u64, u64))> {
        self.samples.iter().filter(|(_, samples)| samples.len() >= 4 * SETTLED).map(|(pid, samples)| {
            let most =
                |samples: &[(u64, u64)]| samples.iter().fold((0, 0), |(memory, files), sample| (sample.0.max(memory), sample.1.max(files)));
            (*pid, most(&samples[SETTLED..2 * SETTLED]), most(&samples[samples.len() - SETTLED..]))
        })
    }
}
