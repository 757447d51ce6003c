//! Colours and letters. Every state has a letter, so that nothing is told by colour alone.

use everstep_actors::event::words::Severity;
use ratatui::buffer::Buffer;
use ratatui::style::{Color, Modifier, Style};

/// A rank that takes this many times as long as the median is called slow.
pub(super) const SLOW_PACE: f64 = 1.5;

/// How things look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Theme {
    /// Whether there are colours.
    pub(super) colour: bool,
    /// Whether only ASCII is drawn.
    pub(super) ascii: bool,
}

impl Theme {
    /// As the environment says: `NO_COLOR`, and the locale.
    pub(super) fn of(variable: impl Fn(&str) -> Option<String>, ascii: bool) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(set);
        let utf8 = locale.is_some_and(|locale| {
            let locale = locale.to_ascii_lowercase();
            locale.contains("utf-8") || locale.contains("utf8")
        });
        Self { colour: set("NO_COLOR").is_none() && variable("TERM").as_deref() != Some("dumb"), ascii: ascii || !utf8 }
    }

    fn painted(self, colour: Color) -> Style {
        if self.colour { Style::new().fg(colour) } else { Style::new() }
    }

    /// Of a state.
    pub(super) fn state(self, state: &str) -> Style {
        match state {
            "training" | "computing" | "in" | "handling" | "held" | "intact" | "up" | "done" => self.painted(Color::Green),
            "waiting" | "loading" | "joining" | "standing by" | "paused" => self.painted(Color::Yellow),
            "draining" | "slow" | "behind" | "incomplete" => self.painted(Color::Magenta),
            "silent" | "failed" | "lost" | "damaged" => self.painted(Color::Red).add_modifier(Modifier::BOLD),
            _ => Style::new(),
        }
    }

    /// Of a severity.
    pub(super) fn severity(self, severity: Severity) -> Style {
        match severity {
            Severity::Info => Style::new(),
            Severity::Warning => self.painted(Color::Yellow),
            Severity::Error => self.painted(Color::Red).add_modifier(Modifier::BOLD),
        }
    }

    /// Of what has to be read first.
    pub(super) fn alarm(self) -> Style {
        let style = Style::new().add_modifier(Modifier::BOLD | Modifier::REVERSED);
        if self.colour { style.fg(Color::Yellow) } else { style }
    }

    /// Of what is selected.
    pub(super) fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// Of headings.
    pub(super) fn heading(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Of what can be overlooked.
    pub(super) fn quiet(self) -> Style {
        if self.colour { Style::new().fg(Color::DarkGray) } else { Style::new().add_modifier(Modifier::DIM) }
    }

    /// Of a curve.
    pub(super) fn curve(self) -> Style {
        self.painted(Color::Cyan)
    }
}

/// The letter of a rank's state.
pub(super) fn letter(state: &str) -> char {
    match state {
        "computing" => 'C',
        "slow" => 'S',
        "waiting" => 'w',
        "idle" => '.',
        "silent" => '!',
        "draining" => 'd',
        "joining" => 'j',
        "ended" => 'e',
        _ => '?',
    }
}

/// Replaces what is not ASCII: lines, blocks and dots of curves have a likeness, anything else becomes `?`.
pub(super) fn to_ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        let symbol = cell.symbol();
        if symbol.is_ascii() {
            continue;
        }
        let likeness = match symbol.chars().next().unwrap_or(' ') {
            '─' | '━' | '═' | '–' | '—' => '-',
            '│' | '┃' | '║' => '|',
            '\u{2500}'..='\u{257f}' => '+',
            '\u{2800}' => ' ',
            '\u{2801}'..='\u{28ff}' => '*',
            '\u{2580}'..='\u{259f}' => '#',
            '▸' => '+',
            '▾' => '-',
            '·' | '•' | '…' => '.',
            '→' => '>',
            '←' => '<',
            _ => '?',
        };
        cell.set_char(likeness);
    }
}
