//! The commands that look at runs and data. Each prints to stdout and returns what the process ends with.

use std::future::Future;
use std::io::Write;
use std::sync::Arc;

use everstep_actors::desk::order::Order;
use everstep_actors::net::tls::Role;

use crate::cli::{Command, ExitCode, Failure, RunAt};
use crate::desk::client::Desk;
use crate::desk::watch;
use crate::{dashboard, launch, tui};

pub mod audit;
pub mod bundle;
pub mod cert;
pub mod chaos;
pub mod checkpoint;
pub mod data;
pub mod describe;
pub mod digest;
pub mod doctor;
pub mod eval;
pub mod events;
pub mod explain;
pub mod export;
pub mod fork;
pub mod get;
pub mod goodput;
pub mod history;
pub mod logs;
pub mod metrics;
pub mod orders;
pub mod output;
pub mod plan;
pub mod schema;
pub mod shell;
pub mod status;
pub mod tensorboard;
pub mod top;
#[cfg(feature = "otel")]
pub mod traces;
pub mod tree;
pub mod wait;
pub mod why;

/// Runs a command.
///
/// # Errors
/// One sentence with the exit code.
pub fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Train(args) => return launch::train(&args),
        Command::Plan(args) => plan::run(&args)?,
        Command::Node => return launch::node::run(),
        Command::Audit(args) => return audit::run(&args),
        Command::Chaos(command) => return chaos::run(&command),
        Command::Fork(args) => fork::run(&args)?,
        Command::Eval(command) => eval::run(&command)?,
        Command::Export(args) => export::run(&args)?,
        Command::Digest(args) => digest::run(&args)?,
        Command::Checkpoint(command) => return checkpoint::run(&command),
        Command::Data(command) => data::run(&command)?,
        Command::Explain(args) => return explain::run(&args, &mut std::io::stdout().lock()),
        Command::Schema => return schema::run(&mut std::io::stdout().lock()),
        Command::Completions(args) => return shell::completions(&args),
        Command::Man(args) => return shell::man(&args),
        Command::Cert(args) => return cert::run(&args),
        operator => return wait_for(operate(operator)),
    }
    Ok(ExitCode::Done)
}

/// The commands of the operator's desk.
async fn operate(command: Command) -> Result<ExitCode, Failure> {
    /// Looks once or again and again.
    macro_rules! watched {
        ($args:expr, $room:ident) => {{
            let args = $args;
            let desk = open(&args.at).await?;
            let desk = if args.watch { desk.at_pace(watch::EVERY.as_secs_f64()) } else { desk };
            let look = || async {
                let mut text = Vec::new();
                let result = $room::run(&args.what, &desk, &mut text).await;
                (text, result)
            };
            ended(&desk, watch::run(args.watch, look)).await
        }};
    }
    /// Writes as it goes.
    macro_rules! at_once {
        ($args:expr, $room:ident $(, $every:ident)?) => {{
            let args = $args;
            let desk = open(&args.at).await?;
            $(let desk = desk.at_pace(args.what.$every);)?
            let mut out = std::io::stdout();
            ended(&desk, $room::run(&args.what, &desk, &mut out as &mut dyn Write)).await
        }};
    }
    /// Keeps the way to the run for as long as it is looked at.
    macro_rules! face {
        ($args:expr, $room:ident $(, $every:ident)?) => {{
            let args = $args;
            let desk = open(&args.at).await?;
            $(let desk = desk.at_pace(args.what.$every);)?
            let desk = Arc::new(desk);
            ended(&desk, $room::run(&args.what, desk.clone())).await
        }};
    }
    match command {
        Command::Status(args) => watched!(args, status),
        Command::Get(args) => watched!(args, get),
        Command::Describe(args) => watched!(args, describe),
        Command::Tree(args) => watched!(args, tree),
        Command::Why(args) => watched!(args, why),
        Command::Doctor(args) => watched!(args, doctor),
        Command::History(args) => watched!(args, history),
        Command::Goodput(args) => watched!(args, goodput),
        Command::Wait(args) => at_once!(args, wait),
        Command::Events(args) => at_once!(args, events),
        Command::Top(args) => at_once!(args, top, every),
        Command::Metrics(args) => at_once!(args, metrics),
        Command::Tensorboard(args) => at_once!(args, tensorboard),
        #[cfg(feature = "otel")]
        Command::Traces(args) => at_once!(args, traces),
        Command::Tui(args) => face!(args, tui, every),
        Command::Dashboard(args) => face!(args, dashboard),
        Command::Logs(args) => logs::run(&args).await,
        Command::Bundle(args) => bundle::run(&args).await,
        Command::Drain(args) => orders::drain(&args).await,
        Command::Undrain(args) => orders::undrain(&args).await,
        Command::Kill(args) => orders::kill(&args).await,
        Command::Pause(args) => orders::to_leader(&args, &Order::Pause).await,
        Command::Resume(args) => orders::to_leader(&args, &Order::Resume).await,
        Command::Stop(args) => orders::stop(&args).await,
        _ => Err(Failure::new(ExitCode::Internal, "this command is none of the operator's desk")),
    }
}

async fn open(at: &RunAt) -> Result<Desk, Failure> {
    Desk::open(at.way(), Role::Viewer).await
}

async fn ended(desk: &Desk, command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let result = command.await;
    desk.close().await;
    result
}

fn wait_for(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(ExitCode::Internal, format!("no threads can be started: {error}")))?;
    let result = runtime.block_on(command);
    // A read of the store that still runs holds nobody up.
    runtime.shutdown_background();
    result
}
