//! The control side of rules: waits for the time behind an event, takes the seconds around it out
//! of the journal, and keeps them. Files are written on threads that may block.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use recording::{About, Excerpt, Header, Id};
use stack::hash::Hasher;
use stack::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};

use super::rule::Rule;
use super::store::{Kept, NAME, Store};
use super::watcher::Watcher;
use super::{cut, event};
use crate::admin::objects::Problem;
use crate::directory;
use crate::event_loop::{self, Event, Handle};
use crate::recorder::{Past, PastError, quarantine};
use crate::settings::Settings;

/// What keepers share with the admin API.
#[derive(Debug)]
pub struct Keeper {
    directory: PathBuf,
    budget: u64,
    rules: Vec<Rule>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// The oldest first.
    kept: Vec<Kept>,
    /// Recordings kept since the process began, by rule.
    saved: Vec<u64>,
    /// Why the last one was not kept.
    problem: Option<String>,
}

/// What a keeper works with.
pub struct Parts {
    /// The event loop.
    pub handle: Handle,
    /// The journal, if there is one.
    pub past: Option<Past>,
    /// Names of ports.
    pub names: directory::Shared,
    /// The node's name, for the recordings' ids.
    pub node: String,
}

/// Works on threads that may block.
struct Work {
    keeper: Arc<Keeper>,
    store: Store,
    past: Option<Past>,
    names: directory::Shared,
    node: String,
}

impl Keeper {
    /// Begins to watch, and to keep recordings, on tasks of its own.
    #[must_use]
    pub fn start(settings: &Settings, parts: Parts) -> Arc<Self> {
        let keeper = Arc::new(Self::idle(settings));
        tokio::spawn(run(keeper.clone(), parts));
        keeper
    }

    /// One that watches nothing.
    #[must_use]
    pub fn idle(settings: &Settings) -> Self {
        let inner = Inner { saved: vec![0; settings.triggers.len()], ..Inner::default() };
        Self {
            directory: settings.state_dir.join(NAME),
            budget: settings.recordings_budget,
            rules: settings.triggers.clone(),
            inner: Mutex::new(inner),
        }
    }

    /// Where recordings are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes of all recordings at most.
    #[must_use]
    pub fn budget(&self) -> u64 {
        self.budget
    }

    /// The rules, each with how many recordings were kept for it since the process began.
    #[must_use]
    pub fn rules(&self) -> Vec<(Rule, u64)> {
        let saved = self.lock().saved.clone();
        self.rules.iter().cloned().zip(saved).collect()
    }

    /// What is kept, the newest first. Asks the file system what is still there: may block.
    #[must_use]
    pub fn list(&self) -> Vec<Kept> {
        let kept = self.lock().kept.clone();
        kept.into_iter().rev().filter(|kept| kept.path.exists()).collect()
    }

    /// What should be mended: why the last recording was not kept.
    #[must_use]
    pub fn problem(&self) -> Option<Problem> {
        let message = self.lock().problem.clone()?;
        Some(Problem { object: self.directory.display().to_string(), message })
    }

    /// A panic elsewhere leaves whole values here: each is replaced at once.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn run(keeper: Arc<Keeper>, parts: Parts) {
    let Parts { handle, past, names, node } = parts;
    let opening = (keeper.clone(), names.clone());
    let opened = spawn_blocking(move || {
        let (keeper, names) = opening;
        let store = Store::open(keeper.directory.clone(), keeper.budget);
        let mut work = Work { keeper, store, past, names, node };
        work.adopt();
        work
    });
    let Ok(work) = opened.await else { return };
    if keeper.rules.is_empty() {
        return;
    }
    let utc_offset = event_loop::utc_offset();
    let key = event_loop::seeds().map(|seeds| seeds.choice).unwrap_or_default();
    let mut watcher = Watcher::new(keeper.rules.clone(), key);
    for (number, rule) in keeper.rules.iter().enumerate() {
        let of_rule = |kept: &&Kept| kept.about.rule == rule.to_string();
        let newest = keeper.lock().kept.iter().rev().find(of_rule).map(|kept| kept.about.at);
        // Of before a reboot there is no such moment.
        let moment = newest.and_then(|at| at.checked_add_signed(utc_offset.checked_neg()?));
        if let Some(at) = moment.map(Instant).filter(|at| *at <= event_loop::monotonic()) {
            watcher.fired_before(number, at);
        }
    }
    // An error says that the loop has ended, and so does the daemon.
    let Ok(events) = handle.watch(watcher) else { return };
    for (port, label) in &names.load_full().ports {
        if handle.label(*port, label.to_string()).is_err() {
            return;
        }
    }
    keep(work, events).await;
}

/// Each event waits for the time behind it, then they are taken one after the other.
async fn keep(mut work: Work, mut events: mpsc::Receiver<Event>) {
    let mut waiting = JoinSet::new();
    loop {
        tokio::select! {
            event = events.recv() => {
                let Some(event) = event else { return };
                let after = work.keeper.rules.get(event.fired.rule).map(|rule| rule.after.0);
                waiting.spawn(async move {
                    tokio::time::sleep(after.unwrap_or_default()).await;
                    event
                });
            }
            Some(Ok(event)) = waiting.join_next() => {
                let saved = spawn_blocking(move || {
                    work.save(&event);
                    work
                });
                match saved.await {
                    Ok(back) => work = back,
                    Err(error) => {
                        tracing::error!(%error, "recordings are kept no more until a restart");
                        return;
                    }
                }
            }
        }
    }
}

impl Work {
    /// Takes in what a recovery set aside, and shows all that is kept.
    fn adopt(&mut self) {
        let files = self.past.as_ref().map(|past| quarantine::files(past.directory()));
        for path in files.unwrap_or_default() {
            match self.store.adopt(&path) {
                Ok(Some(kept)) => self.said(&kept),
                Ok(None) => {}
                Err(error) => {
                    let file = path.display();
                    self.failed(format!("{file} stays where it is: {error}"));
                }
            }
        }
        self.show();
    }

    /// Keeps the seconds around an event.
    fn save(&mut self, event: &Event) {
        let keeper = self.keeper.clone();
        let Some(rule) = keeper.rules.get(event.fired.rule) else { return };
        match self.take(rule, event) {
            Ok(kept) => {
                self.said(&kept);
                let mut inner = keeper.lock();
                inner.problem = None;
                inner.saved.get_mut(event.fired.rule).into_iter().for_each(|count| *count += 1);
            }
            Err(why) => self.failed(format!("no recording for `on: {rule}`: {why}")),
        }
        // One that had no room when it was found may have it now.
        self.adopt();
    }

    fn take(&mut self, rule: &Rule, event: &Event) -> Result<Kept, String> {
        let Some(past) = &self.past else { return Err("there is no journal".to_owned()) };
        let fired = &event.fired;
        let since = fired.began - Duration(rule.before.nanos());
        let until = fired.at + Duration(rule.after.nanos());
        let (excerpt, from) = since_or_horizon(past, since).map_err(|error| error.to_string())?;
        let excerpt = cut::cut(excerpt, from, until).map_err(|error| error.to_string())?;
        let utc = |time: Instant| time.0.saturating_add_signed(past.utc_offset());
        let about = About {
            rule: rule.to_string(),
            event: event::line(event, &**self.names.load()),
            at: utc(fired.at),
            covers: (utc(from), utc(until)),
            missing: from.since(since).0,
            packets: cut::frames(&excerpt),
            crashed: None,
        };
        let mut hasher = Hasher::new(about.at);
        hasher.bytes(self.node.as_bytes());
        hasher.bytes(about.rule.as_bytes());
        let header = Header {
            id: Id(hasher.finish()),
            build: concat!("vswitchd ", env!("CARGO_PKG_VERSION")).to_owned(),
            redacted: false,
            about: Some(about),
        };
        self.store.keep(&excerpt, header).map_err(|error| error.to_string())
    }

    /// A recording shows what others say: whoever reads the log shall know of it.
    fn said(&self, kept: &Kept) {
        let (About { rule, event, .. }, recording) = (&kept.about, kept.path.display());
        tracing::info!(rule, event, %recording, "recording kept");
    }

    fn failed(&self, why: String) {
        tracing::warn!(why, "recording not kept");
        self.keeper.lock().problem = Some(why);
    }

    fn show(&mut self) {
        let kept = self.store.list().to_vec();
        self.keeper.lock().kept = kept;
    }
}

/// What there is since a moment, or, where the journal does not reach back that far, since its
/// horizon; and which it was.
fn since_or_horizon(past: &Past, since: Instant) -> Result<(Excerpt, Instant), PastError> {
    let (mut from, mut tries) = (since, TRIES);
    loop {
        tries -= 1;
        match past.excerpt(Some(from)) {
            Ok(excerpt) => return Ok((excerpt, from)),
            // It moves on meanwhile.
            Err(PastError::BeyondHorizon { horizon: Some(horizon) }) if tries > 0 => {
                from = horizon.time;
            }
            Err(error) => return Err(error),
        }
    }
}

/// How often the horizon may be overtaken.
const TRIES: u32 = 4;
