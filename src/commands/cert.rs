//! `everstep cert`: certificates for people, and for nodes that cannot read the run's authority.

mod deny;

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use everstep_actors::net::join::{Given, JoinDesk};
use everstep_actors::net::tls::{Denied, Identity, JoinToken, Role, RunCa, TlsError, Tokens};

use super::output;
use crate::cli::desk::{At, CertCommand, CertRole, IssueArgs, RunAt, ServeArgs, TokenArgs};
use crate::cli::{ExitCode, Failure};

/// A node's certificate: it comes back for the next one when two thirds of this are over.
const NODE_CERTIFICATE_FOR: Duration = Duration::from_secs(24 * 3_600);

/// Does it.
///
/// # Errors
/// The run's authority is not there, or a file cannot be written, or the address cannot be listened on.
pub fn run(command: &CertCommand) -> Result<ExitCode, Failure> {
    match command {
        CertCommand::Issue(args) => issue(args),
        CertCommand::Token(args) => token(args),
        CertCommand::Serve(args) => super::wait_for(serve(args)),
        CertCommand::Deny(args) => super::wait_for(deny::deny(args)),
        CertCommand::Denied(args) => super::wait_for(deny::denied(args)),
    }
}

fn config(error: TlsError) -> Failure {
    Failure::new(ExitCode::Config, error)
}

/// The run's authority. None is made here: a certificate of another authority opens nothing.
fn authority(at: &RunAt) -> Result<(RunCa, std::path::PathBuf), Failure> {
    let secrets = crate::launch::secrets(&at.run, at.secrets.as_deref())?;
    let absent = || {
        let place = secrets.display();
        Failure::new(ExitCode::NotFound, format!("the run's authority is not at {place}: give its place with --secrets"))
    };
    let ca = RunCa::load(&secrets).map_err(config)?.ok_or_else(absent)?;
    Ok((ca, secrets))
}

fn issue(args: &At<IssueArgs>) -> Result<ExitCode, Failure> {
    let (ca, _) = authority(&args.at)?;
    let (at, args) = (&args.at, &args.what);
    let (role, can) = match args.role {
        CertRole::Viewer => (Role::Viewer, "look"),
        CertRole::Admin => (Role::Admin, "look and order"),
    };
    let identity = Identity::issue(&ca, role, args.ttl).map_err(config)?;
    identity.write(&args.output).map_err(config)?;
    let (file, run, time) = (args.output.display(), &at.run, crate::report::duration(args.ttl.as_secs_f64()));
    output::print(&format!("{file}: who has it may {can} for {time}: `everstep status --run {run} --certificate {file}`"))?;
    say(&format!("its id is {0}: `everstep cert deny {0} --run {run}` ends it sooner", identity.id()));
    Ok(ExitCode::Done)
}

fn token(args: &At<TokenArgs>) -> Result<ExitCode, Failure> {
    let (ca, _) = authority(&args.at)?;
    for _ in 0..args.what.count {
        output::print(&JoinToken::mint(&ca, args.what.ttl).map_err(config)?)?;
    }
    Ok(ExitCode::Done)
}

async fn serve(args: &At<ServeArgs>) -> Result<ExitCode, Failure> {
    let (ca, secrets) = authority(&args.at)?;
    // Tokens that were spent are kept beside the authority: none is good twice, whoever serves.
    let tokens = Tokens::kept_in(Arc::new(ca), NODE_CERTIFICATE_FOR, &secrets).map_err(config)?;
    let denied = Arc::new(Denied::default());
    deny::read(&args.at.run, &denied).await?;
    let tokens = tokens.without(denied.clone());
    let desk = JoinDesk::bind(args.what.listen, tokens).map_err(|error| Failure::new(ExitCode::Failed, error))?;
    say(&format!("certificates are given for tokens at {}; Ctrl-C ends it", args.what.listen));
    tokio::select! {
        () = desk.serve(|given: Given| say(&given.to_string())) => {}
        () = deny::keep_reading(&args.at.run, &denied) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitCode::Done)
}

/// Talk goes to stderr, which may be closed.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
