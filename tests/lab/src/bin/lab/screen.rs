//! What the demo prints: a heading for each step, what it shows, and the words of the programs
//! themselves. Colour only on a terminal.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use lab::{Context as _, Result};

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RESET: &str = "\x1b[0m";

/// Where the demo prints.
pub(crate) struct Screen {
    colour: bool,
    began: Instant,
    step: u32,
}

impl Screen {
    /// Standard output.
    pub(crate) fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some();
        let colour = std::io::stdout().is_terminal() && !plain;
        Self { colour, began: Instant::now(), step: 0 }
    }

    fn paint(&self, colour: &str, text: impl Display) -> String {
        if self.colour { format!("{colour}{text}{RESET}") } else { text.to_string() }
    }

    fn line(text: impl Display) -> Result<()> {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).context("stdout")
    }

    /// Begins a step: its title, and in one sentence what it shows.
    pub(crate) fn step(&mut self, title: &str, shows: &str) -> Result<()> {
        self.step += 1;
        let seconds = format!("{:.1} s", self.began.elapsed().as_secs_f32());
        Self::line("")?;
        Self::line(format!(
            "{} {}",
            self.paint(BOLD, format!("{}. {title}", self.step)),
            self.paint(DIM, format!("({seconds})"))
        ))?;
        Self::line(self.paint(DIM, format!("   {shows}")))
    }

    /// The command that is run.
    pub(crate) fn command(&self, command: impl Display) -> Result<()> {
        Self::line(format!("   {} {command}", self.paint(DIM, "$")))
    }

    /// What a program printed, indented; empty lines left out.
    pub(crate) fn output(&self, text: &str) -> Result<()> {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            Self::line(format!("   {line}"))?;
        }
        Ok(())
    }

    /// What the step has proved.
    pub(crate) fn good(&self, text: impl Display) -> Result<()> {
        Self::line(format!("   {} {text}", self.paint(GREEN, "ok")))
    }

    /// The last word, with the time that all took.
    pub(crate) fn end(&self, text: &str) -> Result<()> {
        let seconds = self.began.elapsed().as_secs_f32();
        Self::line(format!("\n{} ({seconds:.0} s)", self.paint(BOLD, text)))
    }
}
