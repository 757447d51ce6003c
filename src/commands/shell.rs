//! Completions for shells, and man pages.

use clap::{Command, CommandFactory as _};

use super::output;
use crate::cli::desk::{CompletionsArgs, ManArgs};
use crate::cli::{Cli, ExitCode, Failure};

/// Prints the completions of a shell.
///
/// # Errors
/// stdout cannot be written.
pub fn completions(args: &CompletionsArgs) -> Result<ExitCode, Failure> {
    output::print(&completed(args.shell))?;
    Ok(ExitCode::Done)
}

fn completed(shell: clap_complete::Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "everstep", &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Prints the main man page, or writes one a command into a folder.
///
/// # Errors
/// stdout or the folder cannot be written.
pub fn man(args: &ManArgs) -> Result<ExitCode, Failure> {
    let failed = |error: std::io::Error| Failure::new(ExitCode::Failed, format!("man pages cannot be written: {error}"));
    let Some(dir) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
        output::print(&String::from_utf8_lossy(&page))?;
        return Ok(ExitCode::Done);
    };
    std::fs::create_dir_all(dir).map_err(failed)?;
    let mut root = Cli::command();
    root.build();
    for (name, command) in pages(&root, "everstep") {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).title(name.clone()).render(&mut page).map_err(failed)?;
        std::fs::write(dir.join(format!("{name}.1")), page).map_err(failed)?;
    }
    Ok(ExitCode::Done)
}

/// All commands that people see, by the names of their pages.
fn pages(command: &Command, name: &str) -> Vec<(String, Command)> {
    let mut all = vec![(name.to_owned(), command.clone())];
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        all.extend(pages(sub, &format!("{name}-{}", sub.get_name())));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completions_and_man_pages_of_lists_name_the_flags_that_choose() {
        let bash = completed(clap_complete::Shell::Bash);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(man(&ManArgs { dir: Some(folder.path().to_owned()) }), Ok(ExitCode::Done));
        for name in ["get", "events", "history", "goodput", "doctor", "logs", "top"] {
            let page = std::fs::read_to_string(folder.path().join(format!("everstep-{name}.1"))).unwrap();
            let case = bash.split(&format!("everstep__subcmd__{name})")).nth(1).unwrap();
            let flags = case.lines().find(|line| line.trim_start().starts_with("opts=")).unwrap();
            for flag in ["filter", "sort", "limit"] {
                assert!(page.contains(&format!("\\-\\-{flag}")), "{name} --{flag}: {page}");
                assert!(flags.contains(&format!(" --{flag} ")), "{name} --{flag}: {flags}");
            }
        }
    }
}
