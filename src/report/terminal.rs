//! The one place that writes: lines to stdout and stderr, and the bar.

use std::io::{self, IsTerminal as _, Write as _};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::progress::{Line, Style};

/// Where lines go: data to stdout, talk to stderr, and the bar beneath the talk.
#[derive(Debug)]
pub struct Terminal {
    bar: Option<ProgressBar>,
}

impl Terminal {
    /// The fitting style: JSON if asked for, a bar where stderr is a terminal, plain lines elsewhere.
    pub fn style(json: bool) -> Style {
        match json {
            true => Style::Json,
            false if io::stderr().is_terminal() => Style::Bar,
            false => Style::Plain,
        }
    }

    /// For a run of `total` steps.
    pub fn new(style: Style, total: u64) -> Self {
        let bar = (style == Style::Bar).then(|| {
            let template = "{bar:8.cyan/dim} {pos}/{len}  {wide_msg}";
            let look = ProgressStyle::with_template(template).expect("the template is a constant that the tests draw");
            ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr()).with_style(look)
        });
        Self { bar }
    }

    /// Shows a line. A closed pipe ends the output, not the run.
    pub fn show(&self, line: &Line) {
        match line {
            Line::Data(text) => drop(writeln!(io::stdout().lock(), "{text}")),
            Line::Talk(text) => self.beside_the_bar(|| drop(writeln!(io::stderr().lock(), "{text}"))),
            Line::Bar { position, message } => {
                if let Some(bar) = &self.bar {
                    bar.set_position(*position);
                    bar.set_message(message.clone());
                }
            }
        }
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }

    fn beside_the_bar(&self, write: impl FnOnce()) {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_can_be_drawn_and_removed() {
        let terminal = Terminal::new(Style::Bar, 10);
        terminal.show(&Line::Bar { position: 3, message: "loss".into() });
        let bar = terminal.bar.as_ref().unwrap();
        assert_eq!((bar.position(), bar.length(), bar.message().as_str()), (3, Some(10), "loss"));
        terminal.finish();
        assert!(bar.is_finished());
        assert!(Terminal::new(Style::Plain, 10).bar.is_none());
    }

    #[test]
    fn json_is_used_when_asked_for() {
        assert_eq!(Terminal::style(true), Style::Json);
    }
}
