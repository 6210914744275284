//! What one process of the lab made: a directory, namespaces, processes.
//!
//! Everything goes when the last owner drops it. A process that was killed could not do that, so
//! the next one sweeps: the directory is named by process id and start time, lists the namespaces
//! before they are made, and every process carries the same name in its environment. Nothing else
//! is ever ended.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::{Context, Error, Result};

/// The variable by which a process of the lab is known.
const MARK: &str = "HOPSCOPE_LAB";
/// The file of a run that lists its namespaces.
const NAMESPACES: &str = "namespaces";
/// Which congestion control algorithms namespaces may choose. The first namespace alone can say.
const ALLOWED: &str = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";

static CURRENT: Mutex<Weak<Run>> = Mutex::new(Weak::new());
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// What this process has made.
#[derive(Debug)]
pub struct Run {
    owner: String,
    dir: PathBuf,
    serial: AtomicU64,
}

impl Run {
    /// This process's run; the first call sweeps what dead ones left.
    ///
    /// # Errors
    /// When not root, or the directory cannot be made.
    pub fn join() -> Result<Arc<Self>> {
        let mut current = CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(run) = current.upgrade() {
            return Ok(run);
        }
        if !nix::unistd::geteuid().is_root() {
            return Err(Error::new("the lab makes network namespaces: run it as root"));
        }
        sweep()?;
        let process = process(std::process::id())
            .ok_or_else(|| Error::new("/proc does not show this process"))?;
        // A run may end on one thread while the next begins on another: they share nothing.
        let owner = format!("{process}-{}", GENERATION.fetch_add(1, Ordering::Relaxed));
        let dir = base().join(&owner);
        fs::create_dir_all(&dir).context(format!("{}", dir.display()))?;
        let run = Arc::new(Self { owner, dir, serial: AtomicU64::new(0) });
        allow_cubic()?;
        *current = Arc::downgrade(&run);
        Ok(run)
    }

    /// A directory for that purpose, made when missing; it goes with the run.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn dir(&self, name: &str) -> Result<PathBuf> {
        let dir = self.dir.join(name);
        fs::create_dir_all(&dir).context(dir.display())?;
        Ok(dir)
    }

    /// A path that nobody has yet, in the run's directory.
    pub fn fresh_path(&self, name: &str) -> PathBuf {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        self.dir.join(format!("{serial:04}-{name}"))
    }

    /// Notes a namespace before it is made, and gives back its full name, `hop<pid>-<name>`.
    ///
    /// # Errors
    /// When the note cannot be written.
    pub fn note_namespace(&self, name: &str) -> Result<String> {
        let full = format!("hop{}-{name}", std::process::id());
        let path = self.dir.join(NAMESPACES);
        let mut file =
            fs::File::options().create(true).append(true).open(&path).context(path.display())?;
        writeln!(file, "{full}").context(path.display())?;
        Ok(full)
    }

    /// The mark that processes of this run carry in their environment.
    pub fn mark(&self) -> (&'static str, &str) {
        (MARK, &self.owner)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        remove(&self.owner, &self.dir);
    }
}

/// Where runs have their directories: in memory where there is such a place.
#[must_use]
pub fn base() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory } else { Path::new("/run") };
    parent.join("hopscope-lab")
}

/// A process's id and start time, by which it is known for ever; `None` when it is gone.
fn process(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold anything; the start time is field 22.
    let (_, fields) = stat.rsplit_once(')')?;
    let start = fields.split_whitespace().nth(19)?;
    Some(format!("{pid}-{start}"))
}

/// Removes what dead processes of the lab left behind. Says what it found.
///
/// # Errors
/// When the directory of runs cannot be read.
pub fn sweep() -> Result<Vec<String>> {
    let base = base();
    let entries = match fs::read_dir(&base) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::new(format!("{}: {error}", base.display()))),
    };
    let mut swept = Vec::new();
    for entry in entries.flatten() {
        let Ok(owner) = entry.file_name().into_string() else { continue };
        let Some((process_of, _)) = owner.rsplit_once('-') else { continue };
        let Some((pid, _)) = process_of.split_once('-') else { continue };
        if pid.parse().ok().and_then(process).as_deref() == Some(process_of) {
            continue;
        }
        remove(&owner, &entry.path());
        swept.push(owner);
    }
    Ok(swept)
}

/// Ends what the run started, removes its namespaces, then its directory, which is the note of
/// both.
fn remove(owner: &str, dir: &Path) {
    end_processes(owner);
    let noted = fs::read_to_string(dir.join(NAMESPACES)).unwrap_or_default();
    for name in noted.lines() {
        if Path::new("/run/netns").join(name).exists() {
            crate::namespace::delete(name);
        }
    }
    unmount_below(dir);
    remove_journals(dir);
    // Already gone is what is wanted.
    drop(fs::remove_dir_all(dir));
}

/// A daemon whose run-dir is on a disk keeps its journal in shared memory: `NODE/run/journal` leads
/// there.
fn remove_journals(dir: &Path) {
    let nodes = fs::read_dir(dir).into_iter().flatten().flatten();
    for link in nodes.map(|node| node.path().join("run/journal")) {
        let Ok(ring) = fs::read_link(&link) else { continue };
        if let Some(home) = ring.parent().filter(|home| home.starts_with("/dev/shm")) {
            // Already gone is what is wanted.
            drop(fs::remove_dir_all(home));
        }
    }
}

/// Unmounts what lies in a run's directory: the daemon keeps a namespace in its run-dir.
fn unmount_below(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for path in mounts.lines().filter_map(|line| line.split(' ').nth(1)) {
        if Path::new(path).starts_with(dir) {
            // What cannot be unmounted is seen by the removal that follows.
            umount2(path, MntFlags::MNT_DETACH).unwrap_or_default();
        }
    }
}

/// Kills every process with the owner's mark, until two looks in a row find none: a dying one may
/// have just forked, and in the middle of an exec a process shows no environment at all.
fn end_processes(owner: &str) {
    let deadline = Instant::now() + Duration::from_secs(5);
    let mut without = 0;
    while without < 2 && Instant::now() < deadline {
        let marked = marked(owner);
        without = if marked.is_empty() { without + 1 } else { 0 };
        for pid in marked {
            // One that has ended meanwhile is no error.
            kill(pid, Signal::SIGKILL).unwrap_or_default();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The living processes whose environment carries the mark.
fn marked(owner: &str) -> Vec<Pid> {
    let wanted = format!("{MARK}={owner}").into_bytes();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted)
        })
        .map(Pid::from_raw)
        .collect()
}

/// From here on Ctrl-C and SIGTERM remove what this process has made before they end it. Call it
/// before any thread is started: threads inherit which signals they leave to others.
///
/// # Errors
/// The kernel's.
pub fn clean_up_on_signals() -> Result<()> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]);
    signals.thread_block().context("signals")?;
    std::thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            let current = CURRENT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            if let Some(run) = current.upgrade() {
                remove(&run.owner, &run.dir);
            }
            end(128 + signal as i32);
        }
    });
    Ok(())
}

/// Ends this process from a thread that is not its first.
#[expect(clippy::exit, reason = "a signal ends the process; nothing else may run any more")]
fn end(status: i32) -> ! {
    std::process::exit(status)
}

/// Lets namespaces choose cubic: the setting is the machine's, and only ever grows.
fn allow_cubic() -> Result<()> {
    let allowed = fs::read_to_string(ALLOWED).context(ALLOWED)?;
    if allowed.split_whitespace().any(|name| name == "cubic") {
        return Ok(());
    }
    fs::write(ALLOWED, format!("{} cubic", allowed.trim())).context(ALLOWED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_known_by_id_and_start() {
        let known = process(std::process::id()).unwrap();
        assert!(known.starts_with(&format!("{}-", std::process::id())), "{known}");
        assert_eq!(process(std::process::id()).unwrap(), known);
        assert_eq!(process(u32::MAX), None);
    }

    #[test]
    fn a_dead_run_is_swept_and_a_living_one_kept() {
        let run = Run::join().unwrap();
        // Start time 1 is before any process that lives now.
        let dead = base().join(format!("{}-1-0", std::process::id()));
        let owner = dead.file_name().unwrap().to_str().unwrap();
        let mut child =
            std::process::Command::new("sleep").arg("60").env(MARK, owner).spawn().unwrap();
        // A spawned process has no environment to see until its exec is through. The owner of a
        // dead run is long gone, so its processes are past that; here the test waits for it.
        while marked(owner).is_empty() {
            std::thread::yield_now();
        }
        fs::create_dir_all(&dead).unwrap();
        // Another thread may sweep it first; all the same when this call returns.
        sweep().unwrap();
        assert!(!dead.exists());
        let status = child.wait().unwrap();
        assert!(!status.success(), "the marked process was killed");
        assert!(run.dir.exists(), "the living run keeps its directory");
    }
}
