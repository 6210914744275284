//! `hopctl status`, `check` and `version`.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use super::args;
use super::client::Client;
use super::output::{Output, Tone, age, printable};
use super::tables::bytes;
use super::{Answer, Failure, Node, Outcome};
use crate::admin::objects::{
    CheckReport, Journal, Object, Recordings, Status, Takeover, Version, Worker,
};

/// How often `--wait` asks.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Shows how the node is.
///
/// # Errors
/// When no daemon answers (within the timeout).
pub async fn status(args: &args::Status, client: &Client, output: &Output) -> Outcome {
    let deadline = Instant::now() + args.timeout;
    let status = loop {
        let answer = client.get::<Object<Status>>("/v1/status").await;
        let waiting = args.wait && Instant::now() < deadline;
        match answer {
            Ok(status) if status.body.ready || !waiting => break status,
            Err(failure) if !waiting => return Err(failure),
            Err(failure @ (Failure::Usage(..) | Failure::Output(_))) => return Err(failure),
            Ok(_) | Err(Failure::Negative(_) | Failure::NoDaemon(_)) => {}
        }
        tokio::time::sleep(ASK_AGAIN).await;
    };
    if output.is_object() {
        output.object(&status)?;
    } else {
        print(&status.body, output)?;
    }
    if args.wait && !status.body.ready {
        output.error(&format!("not ready within {}", age(args.timeout)));
    }
    Ok(if status.body.ready { Answer::Yes } else { Answer::No })
}

fn print(status: &Status, output: &Output) -> std::io::Result<()> {
    let traffic = &status.traffic;
    let line = |tone, name: &str, text: &str| {
        output.line(Tone::Plain, &format!("{name:<10}{}", output.painted(tone, &printable(text))))
    };
    line(Tone::Plain, "node", &status.node)?;
    match &status.reason {
        None if status.ready => line(Tone::Good, "state", "ready")?,
        reason => {
            let why = reason.as_deref().unwrap_or("no reason given");
            line(Tone::Bad, "state", &format!("not ready: {why}"))?;
        }
    }
    let up = age(Duration::from_secs(status.uptime_seconds));
    line(Tone::Plain, "daemon", &format!("vswitchd {}, up {up}", status.version))?;
    let Worker { pid, parent_pid, restarts, last_end, takeover } = &status.worker;
    let mut process = format!("process {pid}, child of {parent_pid}");
    if let Some(Takeover { from_pid, blind_us }) = takeover {
        process = format!("{process}; took over from vswitchd {from_pid} in {blind_us} us");
    }
    match last_end {
        None => line(Tone::Plain, "worker", &process)?,
        Some(how) => {
            let text = format!("{process}; {restarts} before it, the last one {how}");
            line(Tone::Warning, "worker", &text)?;
        }
    }
    let tone = if status.ports == status.ports_up { Tone::Plain } else { Tone::Warning };
    let ports = format!("{} of {} up, {} of pods", status.ports_up, status.ports, status.pods);
    line(tone, "ports", &ports)?;
    let frames = format!(
        "{} received = {} forwarded + {} flooded + {} answered + {} delivered + {} dropped + {} \
         held",
        traffic.received,
        traffic.forwarded,
        traffic.flooded,
        traffic.answered,
        traffic.delivered,
        traffic.dropped,
        traffic.held
    );
    line(Tone::Plain, "frames", &frames)?;
    if !status.complete {
        line(Tone::Warning, "config", "not loaded whole yet: every frame is dropped")?;
    }
    if let Some(journal) = &status.journal {
        line(Tone::Plain, "journal", &reach(journal))?;
    }
    let Recordings { rules, count, size_bytes, budget_bytes, directory } = &status.recordings;
    if *rules > 0 || *count > 0 {
        let (size, budget) = (bytes(*size_bytes), bytes(*budget_bytes));
        let text = format!("rules {rules}, recordings {count}; {size} of {budget} in {directory}");
        line(Tone::Plain, "triggers", &text)?;
    }
    if status.captures > 0 {
        line(Tone::Plain, "captures", &status.captures.to_string())?;
    }
    if let Some(kept) = status.upkeep.sentence() {
        line(Tone::Warning, "upkeep", &kept)?;
    }
    for port in &status.imbalances {
        line(Tone::Bad, "bug", &format!("the counts of {port} contradict each other"))?;
    }
    for problem in &status.problems {
        line(Tone::Bad, "problem", &format!("{}: {}", problem.object, problem.message))?;
    }
    Ok(())
}

/// How far the journal reaches back, and what it takes for that.
fn reach(journal: &Journal) -> String {
    let size = format!("{} MiB in {}", journal.size_bytes >> 20, journal.directory);
    match (journal.horizon_seconds, &journal.horizon) {
        (Some(seconds), Some(horizon)) => {
            let ago = age(Duration::from_secs(seconds));
            format!("the last {ago} can be replayed, since {horizon}; {size}")
        }
        _ => format!("nothing can be replayed yet; {size}"),
    }
}

/// Compares the node with what the switch needs: asks the daemon, or looks itself when there is
/// none.
///
/// # Errors
/// When the daemon refuses.
pub async fn check(client: &Client, output: &Output, node: &Node) -> Outcome {
    let report = match client.get::<Object<CheckReport>>("/v1/check").await {
        Ok(report) => report,
        Err(Failure::NoDaemon(why)) => {
            output.notice(&why);
            let checks = (node.check)();
            Object::new(CheckReport { passed: checks.iter().all(|check| check.ok), checks })
        }
        Err(failure) => return Err(failure),
    };
    if output.is_object() {
        output.object(&report)?;
    } else {
        for check in &report.body.checks {
            let (tone, state) = if check.ok { (Tone::Good, "ok") } else { (Tone::Bad, "fail") };
            let state = output.painted(tone, &format!("{state:<5}"));
            let text = format!("{:<16} {}", printable(&check.name), printable(&check.message));
            output.line(Tone::Plain, &format!("{state} {text}"))?;
            if let (false, Some(mend)) = (check.ok, &check.mend) {
                output.line(Tone::Plain, &format!("      mend: {}", printable(mend)))?;
            }
        }
    }
    Ok(if report.body.passed { Answer::Yes } else { Answer::No })
}

/// Both versions.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Versions {
    hopctl: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    vswitchd: Option<String>,
}

impl crate::admin::objects::Kind for Versions {
    const KIND: &'static str = "Versions";
}

/// Prints the versions; that of the daemon is left out when there is none.
///
/// # Errors
/// Those of stdout.
pub async fn version(client: &Client, output: &Output) -> Outcome {
    let daemon = client.get::<Object<Version>>("/v1/version").await;
    let versions = Versions {
        hopctl: env!("CARGO_PKG_VERSION").to_owned(),
        vswitchd: daemon.as_ref().ok().map(|version| version.body.version.clone()),
    };
    if output.is_object() {
        output.object(&Object::new(versions))?;
        return Ok(Answer::Yes);
    }
    output.line(Tone::Plain, &format!("hopctl    {}", versions.hopctl))?;
    match (versions.vswitchd, daemon) {
        (Some(version), _) => output.line(Tone::Plain, &format!("vswitchd  {version}"))?,
        (None, Err(Failure::NoDaemon(why))) => output.notice(&why),
        (None, _) => output.notice("the daemon does not say its version"),
    }
    Ok(Answer::Yes)
}
