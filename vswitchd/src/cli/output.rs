//! Printing: tables, JSON, YAML, colour where a person looks.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;

use super::args::Format;

/// Where lines and notices go, and how.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// What was asked for.
    pub format: Format,
    colour: bool,
    colour_notices: bool,
}

/// How a line is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing special.
    Plain,
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Not as it should be.
    Bad,
}

impl Tone {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

/// Rows of cells under a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Column names.
    pub header: Vec<&'static str>,
    /// Cells, with the tone of their row.
    pub rows: Vec<(Tone, Vec<String>)>,
}

impl Output {
    /// Colour only on a terminal, and not with NO_COLOR (no-color.org).
    #[must_use]
    pub fn new(format: Format) -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self {
            format,
            colour: wanted && io::stdout().is_terminal(),
            colour_notices: wanted && io::stderr().is_terminal(),
        }
    }

    /// Never colour: for tests.
    #[must_use]
    pub fn plain(format: Format) -> Self {
        Self { format, colour: false, colour_notices: false }
    }

    /// Whether objects are wanted, not text.
    #[must_use]
    pub fn is_object(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// Prints an object as JSON or YAML.
    ///
    /// # Errors
    /// Those of stdout.
    pub fn object(&self, object: &impl Serialize) -> io::Result<()> {
        let text = match self.format {
            Format::Yaml => serde_norway::to_string(object).map_err(io::Error::other)?,
            Format::Json | Format::Table | Format::Wide => {
                serde_json::to_string_pretty(object).map_err(io::Error::other)?
            }
        };
        self.line(Tone::Plain, text.trim_end())
    }

    /// Prints a line.
    ///
    /// # Errors
    /// Those of stdout.
    pub fn line(&self, tone: Tone, text: &str) -> io::Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{}", self.painted(tone, text))
    }

    /// A text in the colour of a tone, where colour is shown.
    #[must_use]
    pub fn painted(&self, tone: Tone, text: &str) -> String {
        match tone.code() {
            Some(code) if self.colour => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }

    /// Prints rows in columns that align.
    ///
    /// # Errors
    /// Those of stdout.
    pub fn rows(&self, rows: &Rows) -> io::Result<()> {
        let mut out = io::stdout().lock();
        for (tone, line) in rows.lines() {
            writeln!(out, "{}", self.painted(tone, &line))?;
        }
        Ok(())
    }

    /// Prints a notice to stderr.
    pub fn notice(&self, text: &str) {
        // There is nowhere left to say that stderr is closed.
        drop(writeln!(io::stderr().lock(), "{text}"));
    }

    /// Prints what went wrong to stderr.
    pub fn error(&self, text: &str) {
        let head = if self.colour_notices { "\x1b[31merror:\x1b[0m" } else { "error:" };
        self.notice(&format!("{head} {text}"));
    }
}

impl Rows {
    /// The lines of the table, the header first.
    #[must_use]
    pub fn lines(&self) -> Vec<(Tone, String)> {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_content_arrangement(ContentArrangement::Disabled);
        table.set_header(self.header.iter().copied());
        for (_, cells) in &self.rows {
            table.add_row(cells.iter().map(|cell| printable(cell)));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 3));
        }
        let tones = std::iter::once(Tone::Plain).chain(self.rows.iter().map(|(tone, _)| *tone));
        tones.zip(table.lines().map(|line| line.trim_end().to_owned())).collect()
    }
}

/// A text without control characters: names come from pods, and a terminal obeys what it is shown.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// An age as kubectl writes it: the two largest units.
#[must_use]
pub fn age(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m{}s", seconds / 60, seconds % 60),
        7_200..172_800 => format!("{}h{}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_and_rows_end_clean() {
        let rows = Rows {
            header: vec!["NAME", "UP"],
            rows: vec![
                (Tone::Plain, vec!["pod/demo/long-name".into(), "yes".into()]),
                (Tone::Bad, vec!["host".into(), "no\x1b[2J".into()]),
            ],
        };
        let lines: Vec<_> = rows.lines().into_iter().map(|(_, line)| line).collect();
        let up = lines[0].find("UP").unwrap();
        assert_eq!(lines[1].find("yes"), Some(up));
        assert_eq!(lines[2].find("no"), Some(up));
        assert!(lines.iter().all(|line| line.trim_end() == line && !line.contains('\x1b')));
    }

    #[test]
    fn ages_have_two_units() {
        let ages = [5, 119, 125, 7_260, 90_000, 200_000].map(|s| age(Duration::from_secs(s)));
        assert_eq!(ages, ["5s", "119s", "2m5s", "2h1m", "25h0m", "2d7h"]);
    }
}
