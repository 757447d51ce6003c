//! Whose trunk is examined: a run's at one of its steps, or that of a file of weights.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use everstep_actors::protocol::ids::UnitId;

use super::run::{Run, Weights};
use crate::cli::{ExitCode, Failure, SubjectArgs, Widths};
use crate::config::{Override, Recipe};
use crate::setup;
use crate::train::Swav;
use crate::weights;

/// The sections that a file of weights says nothing about: none of them reaches a trunk in evaluation.
const RECIPE: &str = "run.steps = 1\ndata.train = \"none\"\nswav.freeze_prototypes = 0\n[[crops.group]]\ncount = 2\nsize = 224\nscale = [0.14, 1.0]\n[model]\n";

/// A trunk with what it takes to run it.
#[derive(Debug)]
pub enum Subject {
    /// A run's.
    Run {
        /// The run.
        run: Box<Run>,
        /// Steps committed; the newest by default.
        step: Option<u64>,
    },
    /// A file's.
    File {
        /// The file.
        path: PathBuf,
        /// A recipe of its trunk.
        recipe: Box<Recipe>,
        /// The same as a job.
        job: Box<Swav>,
    },
}

impl Subject {
    /// Opens what the command line names.
    ///
    /// # Errors
    /// As [`Run::open`]; [`ExitCode::Config`] for a name that no trunk has.
    pub fn open(args: &SubjectArgs) -> Result<Self, Failure> {
        match (&args.run, &args.weights) {
            (_, Some(path)) => Self::file(path, args),
            (Some(run), None) => Ok(Self::Run { run: Box::new(Run::open(run)?), step: args.step }),
            (None, None) => Err(Failure::new(ExitCode::Usage, "nothing to examine was named; give --run, or --weights with --arch")),
        }
    }

    fn file(path: &Path, args: &SubjectArgs) -> Result<Self, Failure> {
        let rounding = match args.rounding {
            Widths::Seer => "seer",
            Widths::Torchvision => "torchvision",
        };
        let over = |flag: &str, key: &str, text: String| Override { place: format!("{flag} {text}"), key: key.into(), text };
        let overrides = [
            over("--arch", "model.trunk", args.arch.clone().unwrap_or_default()),
            over("--rounding", "model.rounding", rounding.into()),
            over("--size", "crops.group.0.size", args.size.to_string()),
        ];
        let recipe = Recipe::from_text("the file's recipe", RECIPE, &overrides)?;
        let job = setup::workload(&recipe, 1)?;
        Ok(Self::File { path: path.to_owned(), recipe: Box::new(recipe), job: Box::new(job) })
    }

    /// Its recipe.
    pub fn recipe(&self) -> &Recipe {
        match self {
            Self::Run { run, .. } => run.recipe(),
            Self::File { recipe, .. } => recipe,
        }
    }

    /// What runs it.
    pub fn job(&self) -> &Swav {
        match self {
            Self::Run { run, .. } => run.job(),
            Self::File { job, .. } => job,
        }
    }

    /// The run's location or the file.
    pub fn place(&self) -> String {
        match self {
            Self::Run { run, .. } => run.place().to_owned(),
            Self::File { path, .. } => path.display().to_string(),
        }
    }

    /// The trunk's units at least, and the steps that a run had committed.
    ///
    /// # Errors
    /// As [`Run::weights`]; [`ExitCode::Config`] when the file cannot be read or holds another trunk.
    pub fn weights(&self) -> Result<(Option<u64>, Weights), Failure> {
        match self {
            Self::Run { run, step } => run.weights(*step).map(|(step, weights)| (Some(step), weights)),
            Self::File { path, job, .. } => {
                let config = |error| Failure::new(ExitCode::Config, error);
                let weights = weights::Weights::open(job.model(), path).map_err(config)?;
                let unit = |unit| weights.unit(UnitId(unit)).map_err(config);
                let units = (0..job.model().trunk().len() as u32).map(|id| Ok(Arc::new(unit(id)?.unwrap_or_default())));
                Ok((None, units.collect::<Result<_, Failure>>()?))
            }
        }
    }
}
