//! How a command ends: a code for machines, a sentence for people.

use std::error::Error;
use std::fmt;

use everstep_actors::checkpoint::CheckpointError;
use everstep_actors::store::StoreError;

use crate::config::{ConfigError, Difference};

/// The process's exit code. Schedulers requeue on 75 and give up on 78.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done, or stopped on request.
    Done = 0,
    /// Failed, for a reason that has no code of its own.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// There is no such run, checkpoint or file.
    NotFound = 3,
    /// The run cannot be reached.
    Unreachable = 4,
    /// The run, or a checkpoint, is not well.
    Unhealthy = 5,
    /// What was waited for did not come in time.
    Timeout = 6,
    /// The request would do harm.
    Refused = 7,
    /// Everstep is at fault.
    Internal = 70,
    /// The same command again resumes the run.
    TryAgain = 75,
    /// Config or data are wrong: trying again will not help.
    Config = 78,
}

impl ExitCode {
    /// The code that a process of ours ended with; `None` for one that it never ends with by itself.
    pub fn of(code: Option<i32>) -> Option<Self> {
        let all = [
            Self::Done,
            Self::Failed,
            Self::Usage,
            Self::NotFound,
            Self::Unreachable,
            Self::Unhealthy,
            Self::Timeout,
            Self::Refused,
            Self::Internal,
            Self::TryAgain,
            Self::Config,
        ];
        all.into_iter().find(|known| code == Some(*known as i32))
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Why a command ended: prints as `error: <one sentence>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What the process exits with.
    pub code: ExitCode,
    /// What went wrong, where, and what to do, in one sentence.
    pub sentence: String,
}

impl Failure {
    /// A failure; the causes of an error belong into its own sentence. Line breaks become spaces.
    pub fn new(code: ExitCode, sentence: impl fmt::Display) -> Self {
        let sentence = sentence.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Self { code, sentence }
    }

    /// The refusal to go on with another recipe: names the keys that differ in a way that changes the mathematics.
    /// `None` if the run can go on.
    pub fn from_differences(run: &str, differences: &[Difference]) -> Option<Self> {
        let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
        let refused = differences.iter().filter(|difference| !difference.allowed());
        let keys: Vec<String> = refused.map(|d| format!("`{}` ({} there, {} here)", d.key, show(&d.old), show(&d.new))).collect();
        let sentence = || {
            let keys = keys.join(", ");
            format!("{run} was begun with another recipe, which differs in {keys}: restore the values or give another --run")
        };
        (!keys.is_empty()).then(|| Self::new(ExitCode::Config, sentence()))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error: {}", self.sentence)
    }
}

impl Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(ExitCode::Config, error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match error {
            StoreError::NotFound { .. } | StoreError::NotAFolder { .. } => ExitCode::NotFound,
            StoreError::Unsupported { .. } | StoreError::NotExclusive { .. } => ExitCode::Config,
            StoreError::TooLarge { .. } => ExitCode::Unhealthy,
            StoreError::Unavailable { .. } => ExitCode::Unreachable,
            StoreError::BadKey { .. } => ExitCode::Internal,
            StoreError::ReadOnly { .. } | StoreError::Denied { .. } | StoreError::Full { .. } => ExitCode::Failed,
        };
        Self::new(code, error)
    }
}

impl From<CheckpointError> for Failure {
    fn from(error: CheckpointError) -> Self {
        let code = match error {
            CheckpointError::Store(error) => return error.into(),
            CheckpointError::Absent { .. } => ExitCode::NotFound,
            CheckpointError::CutShort { .. } => ExitCode::Failed,
            CheckpointError::Damaged { .. }
            | CheckpointError::NewerFormat { .. }
            | CheckpointError::Incomplete(_)
            | CheckpointError::OtherState { .. } => ExitCode::Unhealthy,
        };
        Self::new(code, error)
    }
}
