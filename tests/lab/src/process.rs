//! Running programs: output to files, ready lines, time-outs, an end in any case.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::run::Run;
use crate::{Context, Error, Result};

/// How often a running program is looked at.
const GLANCE: Duration = Duration::from_millis(5);

/// What a program printed, and how it ended.
#[derive(Debug, Clone)]
pub struct Output {
    /// The command line, with where it ran.
    pub what: String,
    /// Exit status; `None` when a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// The same, if the program exited with 0.
    ///
    /// # Errors
    /// What it printed, when not.
    pub fn success(self) -> Result<Self> {
        if self.code == Some(0) { Ok(self) } else { Err(self.failure("failed")) }
    }

    fn failure(&self, how: &str) -> Error {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        Error::new(format!(
            "{} {how} ({code})\n--- stdout\n{}--- stderr\n{}",
            self.what,
            tail(&self.stdout),
            tail(&self.stderr)
        ))
    }
}

/// The last lines of a text: enough to see why.
fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(40);
    lines.iter().skip(from).map(|line| format!("{line}\n")).collect()
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
    stdout: PathBuf,
    stderr: PathBuf,
    keep: bool,
    // Its output lies in the run's directory, which must not go before it.
    _run: Arc<Run>,
}

impl Process {
    /// Starts a command where the calling thread is. Its output goes to files of the run.
    pub(crate) fn start(run: &Arc<Run>, place: &str, mut command: Command) -> Result<Self> {
        let program = Path::new(command.get_program())
            .file_name()
            .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let args: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy()).collect();
        let what = format!("{place}: {program} {}", args.join(" "));
        let stdout = run.fresh_path(&format!("{program}.stdout"));
        let stderr = stdout.with_extension("stderr");
        command.stdout(File::create(&stdout).context(stdout.display())?);
        command.stderr(File::create(&stderr).context(stderr.display())?);
        let child = command.spawn().context(&what)?;
        Ok(Self { child, what, stdout, stderr, keep: false, _run: Arc::clone(run) })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn output(&self) -> Output {
        let read = |path: &Path| {
            let bytes = fs::read(path).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Output {
            what: self.what.clone(),
            code: None,
            stdout: read(&self.stdout),
            stderr: read(&self.stderr),
        }
    }

    /// Whether it still runs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context(&self.what)?.is_none())
    }

    /// Waits until it has printed a line that `wanted` accepts, on either stream.
    ///
    /// # Errors
    /// When it ends before that, or takes longer than `timeout`.
    pub fn wait_line(
        &mut self,
        timeout: Duration,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<String> {
        let deadline = Instant::now() + timeout;
        loop {
            let running = self.is_running()?;
            let output = self.output();
            let lines = output.stdout.lines().chain(output.stderr.lines());
            if let Some(line) = lines.into_iter().find(|line| wanted(line)) {
                return Ok(line.to_owned());
            }
            if !running {
                return Err(self.ended()?.failure("ended before it was ready"));
            }
            if Instant::now() >= deadline {
                return Err(output.failure("was not ready in time"));
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Waits for the line `ready`.
    ///
    /// # Errors
    /// As [`Process::wait_line`].
    pub fn wait_ready(&mut self, timeout: Duration) -> Result<()> {
        self.wait_line(timeout, |line| line == "ready").map(drop)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When it takes longer than `timeout`; it is killed then.
    pub fn finish(mut self, timeout: Duration) -> Result<Output> {
        let Some(status) = self.wait(timeout)? else {
            let output = self.output();
            return Err(output.failure(&format!("did not end within {timeout:?}")));
        };
        Ok(Output { code: status.code(), ..self.output() })
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    /// When it takes longer than `timeout`; it is killed then.
    pub fn terminate(self, timeout: Duration) -> Result<Output> {
        self.signal(Signal::SIGTERM)?;
        self.finish(timeout)
    }

    /// Asks it to end as Ctrl-C does (SIGINT) and waits.
    ///
    /// # Errors
    /// When it takes longer than `timeout`; it is killed then.
    pub fn interrupt(self, timeout: Duration) -> Result<Output> {
        self.signal(Signal::SIGINT)?;
        self.finish(timeout)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// The kernel's.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context(&self.what)?;
        kill(Pid::from_raw(pid), signal).context(format!("{}: {signal}", self.what))
    }

    /// Leaves its output in the run's directory when it ends, for what comes after to read.
    pub fn keep_output(&mut self) {
        self.keep = true;
    }

    fn wait(&mut self, timeout: Duration) -> Result<Option<ExitStatus>> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.child.try_wait().context(&self.what)? {
                return Ok(Some(status));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            std::thread::sleep(GLANCE);
        }
    }

    fn ended(&mut self) -> Result<Output> {
        let status = self.child.wait().context(&self.what)?;
        Ok(Output { code: status.code(), ..self.output() })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // One that has ended already is what is wanted; waiting leaves no zombie.
        drop(self.child.kill());
        drop(self.child.wait());
        if !self.keep {
            drop(fs::remove_file(&self.stdout));
            drop(fs::remove_file(&self.stderr));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Process {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::start(&Run::join().unwrap(), "here", command).unwrap()
    }

    #[test]
    fn ready_lines_ends_and_time_outs_are_told_apart() {
        let second = Duration::from_secs(5);
        let mut server = shell("echo ready; sleep 60");
        server.wait_ready(second).unwrap();
        assert_eq!(server.terminate(second).unwrap().code, None);
        let mut early = shell("echo why >&2; exit 3");
        let error = early.wait_ready(second).unwrap_err().to_string();
        assert!(error.contains("(3)") && error.contains("why"), "{error}");
        let slow = shell("sleep 60").finish(Duration::from_millis(50)).unwrap_err();
        assert!(slow.to_string().contains("did not end"), "{slow}");
        shell("exit 1").finish(second).unwrap().success().unwrap_err();
    }
}
