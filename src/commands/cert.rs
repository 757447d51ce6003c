//! `everstep cert issue`: a certificate for a person who cannot read the run's authority.

use everstep_actors::net::tls::{Identity, Role, RunCa};

use super::output;
use crate::cli::desk::{At, CertCommand, CertRole, IssueArgs};
use crate::cli::{ExitCode, Failure};

/// Does it.
///
/// # Errors
/// As [`issue`].
pub fn run(command: &CertCommand) -> Result<ExitCode, Failure> {
    match command {
        CertCommand::Issue(args) => issue(args),
    }
}

/// Makes it.
///
/// # Errors
/// The run's authority is not there, or the file cannot be written.
pub fn issue(args: &At<IssueArgs>) -> Result<ExitCode, Failure> {
    let (at, args) = (&args.at, &args.what);
    let secrets = crate::launch::secrets(&at.run, at.secrets.as_deref())?;
    if !secrets.exists() {
        let place = secrets.display();
        return Err(Failure::new(ExitCode::NotFound, format!("the run's authority is not at {place}: give its place with --secrets")));
    }
    let config = |error: everstep_actors::net::tls::TlsError| Failure::new(ExitCode::Config, error);
    let ca = RunCa::load_or_create(&secrets, "run").map_err(config)?;
    let (role, can) = match args.role {
        CertRole::Viewer => (Role::Viewer, "look"),
        CertRole::Admin => (Role::Admin, "look and order"),
    };
    let identity = Identity::issue(&ca, role, args.ttl).map_err(config)?;
    identity.write(&args.output).map_err(config)?;
    let (file, run, time) = (args.output.display(), &at.run, crate::report::duration(args.ttl.as_secs_f64()));
    output::print(&format!("{file}: who has it may {can} for {time}: `everstep status --run {run} --certificate {file}`"))?;
    Ok(ExitCode::Done)
}
