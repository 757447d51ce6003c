//! What happens before the first process is started: recipe, images, the run's location, its past.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use everstep_actors::event::Recorded;
use everstep_actors::roles::log;
use everstep_actors::store::{Created, Store, StoreError};

use super::wire::Ticket;
use crate::cli::{ExitCode, Failure, TrainArgs};
use crate::config::{Recipe, differences};
use crate::data::Source;
use crate::data::make::{self, Spec};
use crate::setup;

/// A resolved recipe is some kilobytes.
const RECIPE_BYTES_MAX: u64 = 1 << 20;

/// Parts of the rendering after which a line is told.
const PARTS: usize = 4;

/// A run that can start.
pub(super) struct Prepared {
    /// The run's recipe, with the data in its place.
    pub recipe: Recipe,
    /// The same as TOML.
    pub resolved: String,
    /// Where the run lives, as the user named it.
    pub run: String,
    /// The same, opened.
    pub store: Store,
    /// Where its certificate authority lives; nothing where tokens let this machine in.
    pub secrets: Option<PathBuf>,
    /// What lets this machine's processes in, one for each start.
    pub tickets: Option<Vec<Ticket>>,
    /// Where the index of its images is kept.
    pub cache: Option<PathBuf>,
    /// Steps of the run.
    pub steps: u64,
    /// The images to learn from.
    pub train: Arc<Source>,
    /// The labelled images to examine the trunk with, if there are any.
    pub test: Option<Arc<Source>>,
    /// This machine's name.
    pub host: String,
    /// What happened before.
    pub history: Vec<Recorded>,
}

/// Reads and checks everything, makes the images where the recipe says so, and creates or reopens the run.
///
/// # Errors
/// One sentence with the place and the remedy.
pub(super) fn prepare(args: &TrainArgs, runtime: &tokio::runtime::Runtime, talk: &(dyn Fn(String) + Sync)) -> Result<Prepared, Failure> {
    let mut recipe = Recipe::load_with(&args.config, &args.overrides()?)?;
    if let Some(spec) = recipe.data.make.take() {
        let (train, test) = made(&spec, talk)?;
        recipe.data.train = Some(train);
        recipe.data.test = test;
    }
    let run = args.location();
    let config = |error: StoreError| Failure::new(ExitCode::Config, error);
    let store = Store::open(&run).map_err(config)?;
    let tickets = tickets(args)?;
    let secrets = if tickets.is_none() { Some(super::secrets(&run, args.secrets.as_deref())?) } else { None };
    let cache = recipe.data.cache.clone().map(PathBuf::from).or_else(|| store.folder().map(|folder| folder.join("index")));
    let train = setup::source(recipe.data.train.as_deref().unwrap_or_default(), cache.as_deref())?;
    let test = recipe.data.test.as_deref().map(|place| setup::source(place, cache.as_deref())).transpose()?;
    let invalid = |invalid: crate::config::Invalid| Failure::new(ExitCode::Config, format!("{}: {invalid}", args.config.display()));
    let steps = recipe.steps(train.len()).map_err(invalid)?;
    // Learn of what does not fit before any process is started.
    let job = setup::beginning(&recipe, steps, talk)?;
    setup::loader(&recipe, train.clone(), Arc::new(|_| {}))?;
    drop(job);
    let resolved = recipe.resolved()?;
    let history = runtime.block_on(async {
        claim(&store, &run, &recipe, &resolved).await?;
        log::read(&store).await.map_err(config)
    })?;
    let host = recipe.cluster.host.clone().unwrap_or_else(host);
    Ok(Prepared { recipe, resolved, run, store, secrets, tickets, cache, steps, train, test, host, history })
}

/// The tokens of `--token-file`, one a line, for `--join`.
fn tickets(args: &TrainArgs) -> Result<Option<Vec<Ticket>>, Failure> {
    let (Some(address), Some(path)) = (&args.join, &args.token_file) else { return Ok(None) };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::new(ExitCode::Config, format!("{} cannot be read: {error}; name a file with one token a line", path.display()))
    })?;
    let tokens = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut tickets: Vec<Ticket> = tokens.map(|token| Ticket { address: address.clone(), token: token.to_owned() }).collect();
    if tickets.is_empty() {
        return Err(Failure::new(ExitCode::Config, format!("{} holds no token: mint some with `everstep cert token`", path.display())));
    }
    // The first line is taken first.
    tickets.reverse();
    Ok(Some(tickets))
}

/// Renders the procedural data set, or finds it made.
fn made(spec: &crate::config::Make, talk: &(dyn Fn(String) + Sync)) -> Result<(String, Option<String>), Failure> {
    let dir = Path::new(&spec.dir);
    let wanted = Spec { seed: spec.seed, train: spec.images as usize, test: spec.test as usize, size: spec.size, ..Spec::default() };
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    talk(format!("images: {} of {1}×{1} pixels in {2}", wanted.train + wanted.test, spec.size, dir.display()));
    let told = AtomicUsize::new(0);
    let progress = |done: usize, all: usize| {
        let part = done * PARTS / all.max(1);
        // Threads report out of order: what is told only grows.
        if told.fetch_max(part, Ordering::Relaxed) < part {
            talk(format!("{done} of {all} images are made"));
        }
    };
    make::make(dir, &wanted, threads, &progress).map_err(|error| Failure::new(ExitCode::Config, error))?;
    let pattern = |split: &str| dir.join(format!("{split}-*.tar")).display().to_string();
    Ok((pattern("train"), (spec.test > 0).then(|| pattern("test"))))
}

/// Writes the recipe of a new run, or checks that an old one's recipe means the same.
async fn claim(store: &Store, run: &str, recipe: &Recipe, resolved: &str) -> Result<(), Failure> {
    let config = |error: StoreError| Failure::new(ExitCode::Config, error);
    let Created::Exists(saved) = store.create("recipe.toml", Bytes::from(resolved.to_owned())).await.map_err(config)? else {
        return Ok(());
    };
    if saved.len() as u64 > RECIPE_BYTES_MAX {
        return Err(Failure::new(ExitCode::Config, format!("{} is too large to be a recipe: give another --run", store.at("recipe.toml"))));
    }
    let saved = Recipe::from_text(&store.at("recipe.toml"), &String::from_utf8_lossy(&saved), &[])?;
    Failure::from_differences(run, &differences(&saved, recipe)).map_or(Ok(()), Err)
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
