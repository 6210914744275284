//! Wireshark as a child that reads a capture from a pipe (`hopctl capture --wireshark`).

use std::env;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use nix::unistd::{Uid, User};
use tokio::process::{Child, Command};

use crate::cli::Failure;

/// A program that shows captures, not started yet.
pub(in super::super) struct Viewer {
    program: PathBuf,
}

impl fmt::Display for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program.display())
    }
}

impl Viewer {
    /// This program: a path, or a name that is looked up in PATH.
    pub(super) fn new(program: &Path) -> Self {
        Self { program: program.to_owned() }
    }

    /// Starts it. Gives back it and what it reads.
    ///
    /// It is a process group of its own, so that Ctrl-C ends the capture and leaves open what it
    /// has shown. `hopctl` is root for the daemon's socket; Wireshark has a hundred parsers for
    /// what strangers send and shall not be: it runs as the user who called sudo.
    ///
    /// # Errors
    /// When it is not there, or the user does not exist.
    pub(super) fn start(&self) -> Result<(Child, OwnedFd), Failure> {
        let mut command = Command::new(&self.program);
        command.args(arguments(&self.program)).stdin(Stdio::piped()).process_group(0);
        if nix::unistd::geteuid().is_root()
            && let Some(user) = caller(env::var("SUDO_UID").ok().as_deref())?
        {
            become_user(&mut command, &user);
        }
        let mut child = command.spawn().map_err(|error| self.refused(&error))?;
        let stdin = child.stdin.take().ok_or_else(|| io::Error::other("a child without stdin"))?;
        Ok((child, stdin.into_owned_fd()?))
    }

    fn refused(&self, error: &io::Error) -> Failure {
        let message = if error.kind() == io::ErrorKind::NotFound {
            format!("there is no program {self}")
        } else {
            format!("{self} cannot be started: {error}")
        };
        let hint = "install Wireshark, name it by --wireshark=PROGRAM, or write a file by -w FILE";
        Failure::Usage(message, hint.to_owned())
    }
}

/// Read packets from stdin, and begin at once. tshark does so by itself and knows no `-k`.
fn arguments(program: &Path) -> &'static [&'static str] {
    match program.file_name().and_then(|name| name.to_str()) {
        Some("tshark") => &["-i", "-"],
        _ => &["-k", "-i", "-"],
    }
}

/// Who called sudo, by its variable.
fn caller(sudo_uid: Option<&str>) -> Result<Option<User>, Failure> {
    let Some(text) = sudo_uid else { return Ok(None) };
    let wrong = || {
        let message = format!("SUDO_UID is \"{text}\", which is no user of this machine");
        Failure::Usage(message, "unset it to run Wireshark as root".to_owned())
    };
    let uid = text.parse().map(Uid::from_raw).ok().ok_or_else(wrong)?;
    if uid.is_root() {
        return Ok(None);
    }
    User::from_uid(uid).ok().flatten().map(Some).ok_or_else(wrong)
}

/// Settings and windows are that user's as well. sudo leaves DISPLAY and XAUTHORITY as they are.
fn become_user(command: &mut Command, user: &User) {
    command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    command.env("HOME", &user.dir).env("USER", &user.name).env("LOGNAME", &user.name);
    let runtime_dir = PathBuf::from(format!("/run/user/{}", user.uid));
    if runtime_dir.is_dir() {
        command.env("XDG_RUNTIME_DIR", runtime_dir);
    } else {
        command.env_remove("XDG_RUNTIME_DIR");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_runs_as_who_called_sudo() {
        assert!(caller(None).unwrap().is_none());
        assert!(caller(Some("0")).unwrap().is_none());
        let nobody = caller(Some("65534")).unwrap().expect("Debian has one");
        assert_eq!(nobody.name, "nobody");
        for wrong in ["", "x", "-1", "4000000000"] {
            let Err(Failure::Usage(message, _)) = caller(Some(wrong)) else { panic!("{wrong}") };
            assert!(message.contains(&format!("\"{wrong}\"")), "{message}");
        }
    }

    #[test]
    fn tshark_has_no_k() {
        assert_eq!(arguments(Path::new("/usr/bin/wireshark")), ["-k", "-i", "-"]);
        assert_eq!(arguments(Path::new("tshark")), ["-i", "-"]);
    }
}
