//! A network namespace: made, entered, removed.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::SigSet;

use crate::process::{Output, Process};
use crate::run::Run;
use crate::{Context, Error, Result};

/// Time that a command inside may take unless said otherwise.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// A network namespace of the lab. Dropping it removes its name; the kernel removes the rest with
/// the last process inside.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    run: Arc<Run>,
}

impl Namespace {
    /// Makes a namespace `hop<pid>-<name>` with loopback up and cubic as congestion control.
    ///
    /// # Errors
    /// When `ip` fails, or the name is taken.
    pub fn new(run: &Arc<Run>, name: &str) -> Result<Self> {
        let full = run.note_namespace(name)?;
        ip(&["netns", "add", &full])?;
        let namespace = Self { name: full, run: Arc::clone(run) };
        namespace.ip(&["link", "set", "lo", "up"])?;
        namespace.sysctl("net/ipv4/tcp_congestion_control", "cubic")?;
        Ok(namespace)
    }

    /// Its full name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that a CNI runtime would name.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// The run it belongs to.
    pub fn owner(&self) -> &Arc<Run> {
        &self.run
    }

    /// Runs a closure on a thread inside of the namespace. Processes it starts are inside as well.
    ///
    /// # Errors
    /// When the namespace is gone.
    ///
    /// # Panics
    /// When the closure does.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(self.path()).context(self.path().display())?;
        let joined = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    setns(&file, CloneFlags::CLONE_NEWNET).context(&self.name)?;
                    // What is started here must not inherit signals that this process waits for.
                    SigSet::all().thread_unblock().context(&self.name)?;
                    Ok(work())
                })
                .join()
        });
        joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Sets a key below `/proc/sys`, slashes between its parts.
    ///
    /// # Errors
    /// The kernel's.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{key}");
        self.within(|| fs::write(&path, value))?.context(format!("{}: {path}", self.name))
    }

    /// Runs `ip` inside and gives back what it printed.
    ///
    /// # Errors
    /// Its message.
    pub fn ip(&self, args: &[&str]) -> Result<String> {
        self.within(|| ip(args))?.context(&self.name)
    }

    /// Runs a program inside to its end, within [`COMMAND_TIMEOUT`]; it must succeed.
    ///
    /// # Errors
    /// When it cannot be started, takes too long or exits with another status than 0.
    pub fn run(&self, program: &str, args: &[&str]) -> Result<Output> {
        self.attempt(program, args, COMMAND_TIMEOUT)?.success()
    }

    /// Runs a program inside to its end, whatever its status.
    ///
    /// # Errors
    /// When it cannot be started or takes longer than `timeout`.
    pub fn attempt(&self, program: &str, args: &[&str], timeout: Duration) -> Result<Output> {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null());
        self.spawn(command)?.finish(timeout)
    }

    /// Starts a command inside, its output going to files of the run.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn spawn(&self, mut command: Command) -> Result<Process> {
        let (mark, owner) = self.run.mark();
        command.env(mark, owner);
        self.within(|| Process::start(&self.run, &self.name, command))?
    }

    /// Interfaces made from here on use their IPv6 addresses at once, without asking for
    /// duplicates.
    ///
    /// # Errors
    /// The kernel's.
    pub fn without_dad(&self) -> Result<()> {
        self.sysctl("net/ipv6/conf/default/accept_dad", "0")
    }

    /// Joins two namespaces by a veth pair, both ends up with that MTU.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn connect(&self, ifname: &str, other: &Self, peer: &str, mtu: u16) -> Result<()> {
        let mtu = mtu.to_string();
        self.ip(&[
            "link",
            "add",
            "name",
            ifname,
            "mtu",
            &mtu,
            "type",
            "veth",
            "peer",
            "name",
            peer,
            "mtu",
            &mtu,
            "netns",
            &other.name,
        ])?;
        self.ip(&["link", "set", ifname, "up"])?;
        other.ip(&["link", "set", peer, "up"])?;
        Ok(())
    }

    /// Gives an interface an address with the length of its subnet, at once usable.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn address(&self, ifname: &str, cidr: &str) -> Result<()> {
        let nodad: &[&str] = if cidr.contains(':') { &["nodad"] } else { &[] };
        self.ip(&[&["addr", "add", cidr, "dev", ifname], nodad].concat())?;
        Ok(())
    }

    /// Adds a default route by that gateway.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn default_route(&self, gateway: &str) -> Result<()> {
        let family = if gateway.contains(':') { "-6" } else { "-4" };
        self.ip(&[family, "route", "add", "default", "via", gateway])?;
        Ok(())
    }

    /// Names of the interfaces inside, sorted.
    ///
    /// # Errors
    /// Those of `ip`.
    pub fn interfaces(&self) -> Result<Vec<String>> {
        let text = self.ip(&["-json", "link", "show"])?;
        let links: Vec<serde_json::Value> = serde_json::from_str(&text).context("ip -json")?;
        let mut names: Vec<String> = links
            .iter()
            .filter_map(|link| link.get("ifname")?.as_str().map(str::to_owned))
            .collect();
        names.sort();
        Ok(names)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        delete(&self.name);
    }
}

/// Removes the name of a namespace. One that is gone is what is wanted.
pub(crate) fn delete(name: &str) {
    drop(ip(&["netns", "del", name]));
}

/// Runs `ip` where the calling thread is.
fn ip(args: &[&str]) -> Result<String> {
    let output = Command::new("ip").args(args).stdin(Stdio::null()).output().context("ip")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("ip {}: {}", args.join(" "), message.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_namespaces_reach_each_other_and_go_away() {
        let run = Run::join().unwrap();
        let a = Namespace::new(&run, "ns-a").unwrap();
        let b = Namespace::new(&run, "ns-b").unwrap();
        a.connect("eth0", &b, "eth0", 1500).unwrap();
        a.address("eth0", "10.9.9.1/24").unwrap();
        b.address("eth0", "10.9.9.2/24").unwrap();
        a.address("eth0", "fd09::1/64").unwrap();
        b.address("eth0", "fd09::2/64").unwrap();
        a.run("ping", &["-c", "1", "-W", "2", "10.9.9.2"]).unwrap();
        a.run("ping", &["-c", "1", "-W", "2", "fd09::2"]).unwrap();
        let refused = a.attempt("ping", &["-c", "1", "-W", "1", "10.9.9.3"], COMMAND_TIMEOUT);
        assert_ne!(refused.unwrap().code, Some(0), "nobody is there");
        assert_eq!(a.interfaces().unwrap(), ["eth0", "lo"]);
        let path = a.path();
        assert!(path.exists());
        drop(a);
        assert!(!path.exists());
    }
}
