//! What can be wrong with a recipe.

use thiserror::Error;

/// A value that cannot work: which key, what is wrong, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{key}` {problem}: {remedy}")]
pub struct Invalid {
    /// The full key (`section.key`).
    pub key: String,
    /// What is wrong, as the rest of a sentence that begins with the key.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
}

/// Why a recipe cannot be used. Every text is one sentence with place and remedy.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path} cannot be read ({why}): give the path of a recipe such as configs/quickstart.toml")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        why: String,
    },
    /// The file is no TOML.
    #[error("{place}: this is no TOML ({why}): correct the line")]
    Syntax {
        /// `file:line:column`.
        place: String,
        /// What the parser said.
        why: String,
    },
    /// The file or an override says something that cannot be.
    #[error("{place}: {invalid}")]
    Invalid {
        /// `file:line:column`, or the flag.
        place: String,
        /// Key, problem and remedy.
        invalid: Invalid,
    },
    /// The recipe cannot be written as TOML.
    #[error("the resolved recipe cannot be written as TOML ({why}): keep integers below 2^63")]
    Unwritable {
        /// What the writer said.
        why: String,
    },
}
