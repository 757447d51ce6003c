//! `everstep top`: the ranks, the slowest first, again and again.

mod table;

use std::io::{self, ErrorKind, IsTerminal as _, Write};
use std::time::Duration;

use everstep_actors::desk::question::{Comparison, Condition, Kind, Question};
use everstep_actors::desk::view::View;
use tokio::time::{sleep, timeout};

use crate::cli::top::TopArgs;
use crate::cli::{ExitCode, Failure};
use crate::desk::eye::Eye;
use crate::views::output::{Output, render};
use table::{Before, Table};

/// A run that does not answer within this is asked again.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Mailboxes in one answer: more than one for each of a thousand nodes.
const MAILBOXES_MAX: u64 = 2000;
/// A terminal whose size is not known.
const USUAL: (u16, u16) = (80, 24);

/// Where tables go.
struct Paper<'a> {
    out: &'a mut dyn Write,
    talk: &'a mut dyn Write,
    /// Columns and rows where it is a terminal that is drawn on again and again.
    screen: Option<(u16, u16)>,
    told: Vec<String>,
}

/// Prints tables of the ranks.
///
/// # Errors
/// What is asked for cannot be, the run cannot be reached when the first table is to be printed, or the output takes no more.
pub async fn run(args: &TopArgs, eye: &dyn Eye, out: &mut dyn Write) -> Result<ExitCode, Failure> {
    if !(0.1..=86_400.0).contains(&args.every) {
        return Err(Failure::new(ExitCode::Usage, format!("--every {}: use 0.1 to 86400 seconds", args.every)));
    }
    let asked = table::list().question(&args.selection)?;
    let redraws = io::stdout().is_terminal() && !args.once && args.output == Output::Table;
    let screen = redraws.then(|| ratatui::crossterm::terminal::size().unwrap_or(USUAL));
    let mut stderr = io::stderr();
    let mut paper = Paper { out, talk: &mut stderr, screen, told: Vec::new() };
    rounds(args, &asked, eye, &mut paper).await
}

async fn rounds(args: &TopArgs, asked: &Question, eye: &dyn Eye, paper: &mut Paper<'_>) -> Result<ExitCode, Failure> {
    let rounds = if args.once { Some(1) } else { args.count };
    let (mut done, mut before) = (0, Before::default());
    loop {
        let answered = look(eye).await;
        if paper.screen.is_some() {
            paper.screen = Some(ratatui::crossterm::terminal::size().unwrap_or(USUAL));
        }
        let printed = match answered {
            Ok((view, mailboxes)) => {
                // The screen holds three lines of head and one that is free.
                let fits = paper.screen.map(|(_, rows)| usize::from(rows).saturating_sub(5).max(1));
                let table = Table::of(&view, &mailboxes, &before, asked, fits);
                before = Before::of(&view);
                match args.output {
                    Output::Table => paper.print(&table),
                    Output::Name => paper.write(&render(&table.shown, &[Kind::Rank], Output::Name), &table.talk),
                    other => paper.write(&render(&table.shown, &[Kind::Rank, Kind::Node], other), &table.talk),
                }
            }
            Err(failure) if done == 0 => return Err(failure),
            Err(failure) => paper.say(&[failure.sentence]),
        };
        match printed {
            Ok(()) => {}
            // Who read it has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(ExitCode::Done),
            Err(error) => {
                let sentence = format!("the output cannot be written ({error}); free space or direct it elsewhere");
                return Err(Failure::new(ExitCode::Failed, sentence));
            }
        }
        done += 1;
        if rounds.is_some_and(|rounds| done >= rounds) {
            return Ok(ExitCode::Done);
        }
        sleep(Duration::from_secs_f64(args.every)).await;
    }
}

/// The run, its nodes and ranks; and the actors in whose mailboxes something waits.
async fn look(eye: &dyn Eye) -> Result<(View, View), Failure> {
    let all = Question { kinds: vec![Kind::Run, Kind::Node, Kind::Rank], ..Question::default() };
    let waits = Condition { field: "depth".into(), is: Comparison::AtLeast, value: "1".into() };
    let mailboxes = Question {
        kinds: vec![Kind::Actor],
        filter: vec![waits],
        sort: Some("-depth".into()),
        limit: Some(MAILBOXES_MAX),
        ..Question::default()
    };
    let asked = async { Ok((eye.look(&all).await?, eye.look(&mailboxes).await?)) };
    timeout(ANSWER_WITHIN, asked)
        .await
        .unwrap_or_else(|_| Err(Failure::new(ExitCode::Unreachable, format!("no answer within {} s", ANSWER_WITHIN.as_secs()))))
}

impl Paper<'_> {
    fn print(&mut self, table: &Table) -> io::Result<()> {
        let Some((columns, rows)) = self.screen else {
            writeln!(self.out, "{}", table.lines.join("\n"))?;
            self.out.flush()?;
            return self.say(&table.talk);
        };
        let cut = |line: &String| line.chars().take(columns.into()).collect::<String>();
        // From the corner over what was there, each line cleared to its end, and at last what is beneath.
        write!(self.out, "\x1b[H")?;
        for line in table.lines.iter().chain(&table.talk).take(usize::from(rows).saturating_sub(1)) {
            writeln!(self.out, "{}\x1b[K", cut(line))?;
        }
        write!(self.out, "\x1b[J")?;
        self.out.flush()
    }

    fn write(&mut self, text: &str, talk: &[String]) -> io::Result<()> {
        self.out.write_all(text.as_bytes())?;
        self.out.flush()?;
        self.say(talk)
    }

    /// To stderr, and not the same again with every table.
    fn say(&mut self, talk: &[String]) -> io::Result<()> {
        if self.told != talk {
            for line in talk {
                writeln!(self.talk, "{line}")?;
            }
            self.told = talk.to_vec();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
