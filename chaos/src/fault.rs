//! The faults that a scenario may ask for: one vocabulary for all tiers.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::scenario::{Span, Target, Trigger};

/// What is done to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// SIGKILL. The launcher sees it and tells the other processes of its host. With `restart` the same place is started again.
    Kill,
    /// The machines of the targets end at once, launchers with them: nobody is told.
    KillHost,
    /// The kernel ends them, for want of memory. In the tiers without processes as `kill`.
    Oom,
    /// SIGSTOP, and SIGCONT after `for`.
    Stop,
    /// No datagram passes between `from` and `to` (without `to`: everyone else), for `for`; with `one_way` in that direction only.
    /// With a `mode` the machines of `from` are cut off from everyone else in that way.
    Cut,
    /// The path between `from` and `to` loses, delays, duplicates and reorders.
    Link,
    /// So many new nodes come.
    Join,
    /// The targets are to leave, in `lead` if that is set; with `cancel` the notice is taken back after that long.
    Drain,
    /// The targets' work stands still while their heartbeats go on. With a `mode` where a node does not see it of itself.
    Hang,
    /// The targets compute `factor` times slower.
    Slow,
    /// The store is in trouble for `for`: see `mode`; for the targets alone if there are any.
    Store,
    /// The newest checkpoint in the store is damaged: see `mode`.
    Checkpoint,
    /// A bit turns over in one shard of the targets: see `mode`.
    BitFlip,
    /// A gradient becomes not a number.
    Nan,
}

/// How.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Cut: the interfaces of the machines go down, and come up again. Where machines share one, no datagram passes.
    Down,
    /// Cut: the machines get other addresses, and their old ones later. Where machines share one, no datagram passes.
    Moved,
    /// Hang: a lane stands still while it waits for others. Where lanes have no threads of their own, as any hang.
    Waiting,
    /// Store: it does not answer.
    Away,
    /// Store: it answers after seconds.
    Late,
    /// Store: every other write is done, or not, and its answer is lost.
    Unknown,
    /// Store: it reads and refuses writes.
    ReadOnly,
    /// Store: it reads, takes small objects, and refuses parts of checkpoints.
    Full,
    /// Checkpoint: a part ends early.
    Torn,
    /// Checkpoint: a bit of a part is another one.
    Flipped,
    /// Bit flip: of a copy at rest.
    Copy,
    /// Bit flip: of a new version while it is computed.
    Update,
}

/// One fault of a scenario. Which keys a kind takes is checked when it is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// When.
    pub at: Trigger,
    /// What.
    pub kind: Kind,
    /// Whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
    /// Paths: from whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Target>,
    /// Paths: to whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Target>,
    /// Paths: in one direction only.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_way: bool,
    /// How long.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Span>,
    /// How.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Kills: how long after it the place is started again; without it never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Span>,
    /// Drains: the time that is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lead: Option<Span>,
    /// Drains: when it is taken back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancel: Option<Span>,
    /// Joins: how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Slowness: how many times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<u32>,
    /// Paths: share of datagrams that are lost.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Paths: added to each passage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Span>,
    /// Paths: share of messages that come twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate: Option<f64>,
    /// Paths: messages are overtaken by others sent up to so much later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reorder: Option<Span>,
    /// How often the fault strikes, its target drawn anew each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// Time between two strikes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Span>,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Kill => "kill",
            Self::KillHost => "kill_host",
            Self::Oom => "oom",
            Self::Stop => "stop",
            Self::Cut => "cut",
            Self::Link => "link",
            Self::Join => "join",
            Self::Drain => "drain",
            Self::Hang => "hang",
            Self::Slow => "slow",
            Self::Store => "store",
            Self::Checkpoint => "checkpoint",
            Self::BitFlip => "bit_flip",
            Self::Nan => "nan",
        };
        f.write_str(name)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Down => "down",
            Self::Moved => "moved",
            Self::Waiting => "waiting",
            Self::Away => "away",
            Self::Late => "late",
            Self::Unknown => "unknown",
            Self::ReadOnly => "read_only",
            Self::Full => "full",
            Self::Torn => "torn",
            Self::Flipped => "flipped",
            Self::Copy => "copy",
            Self::Update => "update",
        })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Some(mode) = self.mode {
            write!(f, " {mode}")?;
        }
        if let Some(target) = &self.target {
            write!(f, " of {target}")?;
        }
        if let Some(from) = &self.from {
            let arrow = if self.one_way { "->" } else { "--" };
            write!(f, " {from} {arrow} {}", self.to.as_ref().map_or_else(|| "everyone else".into(), ToString::to_string))?;
        }
        if self.kind == Kind::Join {
            write!(f, " of {} new nodes", self.count.unwrap_or(1))?;
        }
        if let Some(factor) = self.factor {
            write!(f, " by {factor}")?;
        }
        let spans = [("in", self.lead), ("taken back after", self.cancel), ("for", self.lasts), ("restarted after", self.restart)];
        spans.into_iter().filter_map(|(word, span)| Some((word, span?))).try_for_each(|(word, span)| write!(f, ", {word} {span}"))?;
        let shares = [("losing", self.loss), ("doubling", self.duplicate)];
        shares.into_iter().filter_map(|(word, share)| Some((word, share?))).try_for_each(|(word, share)| write!(f, ", {word} {share}"))?;
        let times = [("delayed", self.delay), ("overtaken", self.reorder)];
        times.into_iter().filter_map(|(word, span)| Some((word, span?))).try_for_each(|(word, span)| write!(f, ", {word} by {span}"))
    }
}

impl Kind {
    /// Whether a run in which only such faults strike puts nobody out.
    pub fn is_harmless(self) -> bool {
        matches!(self, Self::Link | Self::Join | Self::Slow | Self::Store | Self::Checkpoint | Self::Nan)
    }

    /// Modes that the kind takes.
    fn modes(self) -> &'static [Mode] {
        match self {
            Self::Cut => &[Mode::Down, Mode::Moved],
            Self::Hang => &[Mode::Waiting],
            Self::Store => &[Mode::Away, Mode::Late, Mode::Unknown, Mode::ReadOnly, Mode::Full],
            Self::Checkpoint => &[Mode::Torn, Mode::Flipped],
            Self::BitFlip => &[Mode::Copy, Mode::Update],
            _ => &[],
        }
    }
}

impl Fault {
    /// A fault of a kind, with everything else left out.
    pub fn new(at: Trigger, kind: Kind) -> Self {
        Self {
            at,
            kind,
            target: None,
            from: None,
            to: None,
            one_way: false,
            lasts: None,
            mode: None,
            restart: None,
            lead: None,
            cancel: None,
            count: None,
            factor: None,
            loss: None,
            delay: None,
            duplicate: None,
            reorder: None,
            times: None,
            every: None,
        }
    }

    /// How long it lasts; a second where nobody said.
    pub fn lasts(&self) -> Duration {
        self.lasts.map_or(Duration::from_secs(1), |span| span.0)
    }

    /// When each strike comes, after the first.
    pub fn strikes(&self) -> impl Iterator<Item = Duration> {
        let every = self.every.map_or(Duration::from_secs(1), |span| span.0);
        (0..self.times.unwrap_or(1)).map(move |strike| every * strike)
    }

    /// Whether the keys go with the kind.
    pub(crate) fn check(&self) -> Result<(), String> {
        use Kind::{BitFlip, Checkpoint, Cut, Drain, Hang, Join, Kill, KillHost, Link, Nan, Oom, Slow, Stop, Store};
        let keys: [(&str, bool, &[Kind]); 14] = [
            ("target", self.target.is_some(), &[Kill, KillHost, Oom, Stop, Drain, Hang, Slow, Store, BitFlip, Nan]),
            ("from", self.from.is_some(), &[Cut, Link]),
            ("to", self.to.is_some(), &[Cut, Link]),
            ("one_way", self.one_way, &[Cut, Link]),
            ("for", self.lasts.is_some(), &[Stop, Cut, Link, Hang, Slow, Store]),
            ("mode", self.mode.is_some(), &[Cut, Hang, Store, Checkpoint, BitFlip]),
            ("restart", self.restart.is_some(), &[Kill, KillHost, Oom, Drain]),
            ("lead", self.lead.is_some(), &[Drain]),
            ("cancel", self.cancel.is_some(), &[Drain]),
            ("count", self.count.is_some(), &[Join]),
            ("factor", self.factor.is_some(), &[Slow]),
            ("loss", self.loss.is_some(), &[Link]),
            ("delay", self.delay.is_some(), &[Link]),
            ("duplicate or reorder", self.duplicate.is_some() || self.reorder.is_some(), &[Link]),
        ];
        if let Some((key, ..)) = keys.iter().find(|(_, there, kinds)| *there && !kinds.contains(&self.kind)) {
            return Err(format!("it takes no `{key}`"));
        }
        let needs = matches!(self.kind, Kill | KillHost | Oom | Stop | Drain | Hang | Slow | BitFlip | Nan);
        if needs && self.target.is_none() {
            return Err("say whom: `target`".into());
        }
        if matches!(self.kind, Cut | Link) && self.from.is_none() {
            return Err("say which paths: `from`, and `to` unless it is everyone else".into());
        }
        let modes = self.kind.modes();
        // A cut and a hang are some without any.
        let plain = matches!(self.kind, Cut | Hang) && self.mode.is_none();
        if !modes.is_empty() && !plain && !self.mode.is_some_and(|mode| modes.contains(&mode)) {
            let names: Vec<String> = modes.iter().map(ToString::to_string).collect();
            return Err(format!("say how: `mode`, one of {}", names.join(", ")));
        }
        if self.kind == Cut && self.mode.is_some() && (self.to.is_some() || self.one_way) {
            return Err("a machine is cut off from everyone, both ways: leave `to` and `one_way` out, or `mode`".into());
        }
        let shares = [self.loss, self.duplicate].into_iter().flatten();
        if shares.into_iter().any(|share| !(0.0..1.0).contains(&share)) {
            return Err("loss and duplicate are shares, at least 0 and below 1".into());
        }
        Ok(())
    }
}
