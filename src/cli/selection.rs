//! What of a list is shown, and in which order: the same for all commands that list.

use clap::Args;

/// How a filter reads, for the end of a command's help.
macro_rules! grammar {
    () => {
        "\
A filter compares a field: = != < <= > >= and ~ (contains). Numbers take units: 'rss>1.5GB', 'oldest>2s'. What has no such field
does not match. "
    };
}
pub(crate) use grammar;

/// Which rows of a list are wanted. Filters hold before the limit cuts, and what it cut is said on standard error.
#[derive(Debug, Clone, Default, Args)]
pub struct Selection {
    /// Only those for which this holds, such as 'step>=3'; repeatable, and then all must hold
    #[arg(long, value_name = "FIELD=VALUE")]
    pub filter: Vec<String>,
    /// The field to sort by, with - in front for the greatest first
    #[arg(long, value_name = "FIELD", allow_hyphen_values = true)]
    pub sort: Option<String>,
    /// At most so many, counted after filtering; of what comes in order of time the newest
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
}

impl Selection {
    /// Whether anything was asked for.
    pub fn is_given(&self) -> bool {
        !self.filter.is_empty() || self.sort.is_some() || self.limit.is_some()
    }
}
