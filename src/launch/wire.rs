//! What a launcher and its nodes say to each other over pipes: one JSON object a line.

use serde::{Deserialize, Serialize};

/// Launcher → node, first line: what to run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Briefing {
    /// The resolved recipe, TOML.
    pub recipe: String,
    /// Where the run lives.
    pub run: String,
    /// Folder of the run's certificate authority; not looked at with a ticket.
    pub secrets: String,
    /// What lets in a machine that cannot read the authority.
    pub ticket: Option<Ticket>,
    /// Folder of the index of the images.
    pub cache: Option<String>,
    /// Steps of the run.
    pub steps: u64,
    /// Place on this host, from 0.
    pub slot: u32,
    /// How often the process of this place has been started anew.
    pub restarts: u32,
    /// Failure domain.
    pub host: String,
}

/// What a node gets its certificate for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ticket {
    /// Where certificates are given out.
    pub address: String,
    /// The token, good once.
    pub token: String,
}

/// Launcher → node, every line after the first. The end of the pipe means that the launcher is gone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "order")]
pub enum Word {
    /// End the run in good order.
    Stop {
        /// One sentence.
        because: String,
    },
    /// Hand over what is held and leave the run, which goes on without this machine.
    Leave {
        /// One sentence.
        because: String,
        /// Milliseconds until the machine is gone, if that is known.
        deadline_ms: Option<u64>,
    },
    /// Stay after all.
    Stay,
    /// A process of this launcher has died.
    Died {
        /// Which.
        pid: u32,
        /// How.
        because: String,
    },
}
