//! A few inputs that break a law, as files: a journal, and a folder that becomes a golden when it
//! is given a name and the law is mended.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use stack::{Config, Instant, PortId, PortKind, Seeds, Switch};
use stack::{Input, Outbox};

use crate::capture::{self, Seen};
use crate::node::limits;
use crate::plan;
use crate::shrink::{Case, Item};
use crate::topology::{self, Topology};
use crate::{golden, shrink};

/// Name of the file with the journal, a raw stream of records.
pub(crate) const JOURNAL: &str = "journal";
/// Name of the golden's folder.
pub(crate) const GOLDEN: &str = "golden";

/// Writes a case into `folder`, which is made anew; gives the paths that are there then.
pub(crate) fn write(folder: &Path, case: &Case) -> Vec<PathBuf> {
    let _not_there = fs::remove_dir_all(folder);
    fs::create_dir_all(folder).unwrap();
    let journal = folder.join(JOURNAL);
    fs::write(&journal, case.journal()).unwrap();
    let mut written = vec![journal];
    let text = lines(case);
    let topology = Topology::read(&text);
    let frames = frames(case, &topology);
    // A port that never was has no name, so its frames stand in the journal only.
    let named = frames.iter().all(|seen| topology.ports().any(|(port, _)| port == seen.port));
    if frames.is_empty() || !named {
        return written;
    }
    if let Ok(outcome) = shrink::quietly(|| golden::run(&topology, &frames, 1)) {
        let golden = folder.join(GOLDEN);
        fs::create_dir_all(&golden).unwrap();
        fs::write(golden.join("topology.txt"), &text).unwrap();
        fs::write(golden.join("in.pcapng"), capture::write(&topology, &frames)).unwrap();
        fs::write(golden.join("out.pcapng"), &outcome.sent).unwrap();
        fs::write(golden.join("walk.txt"), &outcome.walk).unwrap();
        fs::write(golden.join("counters.txt"), &outcome.counters).unwrap();
        written.push(golden);
    }
    written
}

/// The name of a pod's port.
fn name(port: PortId) -> String {
    format!("sim/{}", port.0)
}

/// The configurations of a case, each from its moment on.
fn configs(case: &Case) -> Vec<(Instant, Config)> {
    let mut switch = Switch::new(Config::default(), limits(&case.options), Seeds::default());
    let mut configs = vec![(Instant::ZERO, switch.config())];
    let mut frames = false;
    for (time, item) in &case.items {
        match item {
            Item::Change(change) => {
                switch.input(*time, Input::Change(change.clone()), &mut Outbox::default());
                if std::mem::take(&mut frames) {
                    configs.push((*time, switch.config()));
                } else if let Some((_, last)) = configs.last_mut() {
                    *last = switch.config();
                }
            }
            Item::Frame(..) => frames = true,
            Item::Crash => {}
        }
    }
    configs
}

/// The configurations as lines.
fn lines(case: &Case) -> String {
    let mut text =
        format!("# Shrunk from a simulation.\n{}", topology::limit_lines(&limits(&case.options)));
    for (number, (time, config)) in configs(case).into_iter().enumerate() {
        if number > 0 {
            text += &format!("at {}\n", time.0);
        }
        text += &topology::text(&config, &name);
    }
    text
}

/// The frames at the ports that the topology gives them.
fn frames(case: &Case, topology: &Topology) -> Vec<Seen> {
    let mut names = BTreeMap::from([(plan::GATEWAY, "gateway".to_owned())]);
    for (_, config) in configs(case) {
        for port in config.ports {
            let pod = port.kind == PortKind::Pod;
            let known = if pod { format!("pod/{}", name(port.id)) } else { "host".to_owned() };
            names.entry(port.id).or_insert(known);
        }
    }
    let mut seen = Vec::new();
    for (time, item) in &case.items {
        if let Item::Frame(port, frame) = item {
            let port = names.get(port).map_or(PortId(u32::MAX), |name| topology.port(name));
            seen.push(Seen { port, time: *time, frame: frame.duplicate(), walk: 0 });
        }
    }
    seen
}
