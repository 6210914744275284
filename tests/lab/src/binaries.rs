//! Where the built programs are: those a user would run.

use std::path::{Path, PathBuf};

use crate::{Error, Result};

/// The programs of the project.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The daemon.
    pub vswitchd: PathBuf,
    /// The tool.
    pub hopctl: PathBuf,
    /// The CNI plugin, static.
    pub plugin: PathBuf,
    /// The lab itself, for its clients and servers.
    pub lab: PathBuf,
}

impl Binaries {
    /// Those of the release build beside the running program, or those in `LAB_BINARIES`.
    ///
    /// # Errors
    /// When one is not built, with the command that builds it.
    pub fn find() -> Result<Self> {
        let (programs, plugin) = match std::env::var_os("LAB_BINARIES") {
            Some(dir) => (PathBuf::from(&dir), PathBuf::from(dir)),
            None => {
                let target = target_dir()?;
                let plugin = target.join("x86_64-unknown-linux-musl").join("release");
                (target.join("release"), plugin)
            }
        };
        Ok(Self {
            vswitchd: built(&programs, "vswitchd")?,
            hopctl: built(&programs, "hopctl")?,
            plugin: built(&plugin, "hopscope")?,
            lab: built(&programs, "lab")?,
        })
    }
}

/// The lab's own program, for its clients and servers.
///
/// # Errors
/// When it is not built.
pub fn lab() -> Result<PathBuf> {
    let dir = match std::env::var_os("LAB_BINARIES") {
        Some(dir) => PathBuf::from(dir),
        None => target_dir()?.join("release"),
    };
    built(&dir, "lab")
}

fn built(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Error::new(format!("{} is not built: make build", path.display())))
}

/// Cargo's directory of build results that the running program lies in; Cargo marks it by a file.
fn target_dir() -> Result<PathBuf> {
    let program = std::env::current_exe().map_err(|error| Error::new(error.to_string()))?;
    program
        .ancestors()
        .find(|dir| dir.join("CACHEDIR.TAG").is_file())
        .map(Path::to_owned)
        .ok_or_else(|| {
            let program = program.display();
            Error::new(format!("{program} lies in no target directory: set LAB_BINARIES"))
        })
}
