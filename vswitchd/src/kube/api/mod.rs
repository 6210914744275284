//! The API server as a source of objects: a copy of those that matter, kept by one watch a kind.
//!
//! The copy is not to be used before each kind was listed whole once. From then on it is never
//! empty or half: a watch that ends goes on where it was, and one that cannot is followed by a list
//! that replaces all at its end. While the server is away the copy stays as it was.
//!
//! Read first: "Efficient detection of changes" in the Kubernetes API concepts.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use ::kube::api::DynamicObject;
use ::kube::runtime::watcher::Event;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Sleep;

mod connect;
mod follow;
mod kind;
mod shelf;
#[cfg(test)]
mod tests;

pub use connect::{ConnectError, in_cluster};
use follow::{Ear, Reach};
use kind::Kind;
use shelf::Shelf;

use super::objects::{Node, Objects, Pod};
use super::ranges::ServiceCidr;
use super::service::Service;
use super::slice::EndpointSlice;
use crate::settings::source::Source;

/// Changes that come within this time of one another are taken in at once.
const GATHER: Duration = Duration::from_millis(50);
/// Events that may wait; more stay with the server.
const EVENTS_MAX: usize = 1_024;

/// The copy.
#[derive(Debug)]
pub struct Mirror {
    objects: Objects,
    nodes: Shelf<Node>,
    pods: Shelf<Pod>,
    services: Shelf<Service>,
    slices: Shelf<EndpointSlice>,
    service_cidrs: Shelf<ServiceCidr>,
    /// Kinds that the server cannot be asked for now, and why.
    lost: BTreeMap<Kind, String>,
    heard: mpsc::Receiver<(Kind, Event<DynamicObject>)>,
    reach: mpsc::UnboundedReceiver<(Kind, Reach)>,
    /// When a change that was heard of is to be told.
    due: Option<Pin<Box<Sleep>>>,
    /// The watches; they end with it.
    _followers: JoinSet<()>,
}

impl Mirror {
    /// Begins to copy. Must be called within a runtime.
    ///
    /// # Errors
    /// When what leads to the server cannot be used. Whether the server is there shows later.
    pub async fn begin(source: &Source) -> Result<Self, ConnectError> {
        // Found here, it is a sentence at the start instead of one in the log.
        connect::client(source, || {}).await?;
        Ok(Self::follow(source))
    }

    /// Begins to copy, as soon as what leads to the server can be used.
    #[must_use]
    pub fn follow(source: &Source) -> Self {
        let (objects, heard) = mpsc::channel(EVENTS_MAX);
        let (tell, reach) = mpsc::unbounded_channel();
        let ear = Ear { objects, reach: tell };
        let mut followers = JoinSet::new();
        for kind in Kind::ALL {
            followers.spawn(follow::follow(kind, source.clone(), ear.clone()));
        }
        Self {
            objects: Objects::default(),
            nodes: Shelf::default(),
            pods: Shelf::default(),
            services: Shelf::default(),
            slices: Shelf::default(),
            service_cidrs: Shelf::default(),
            lost: BTreeMap::new(),
            heard,
            reach,
            due: None,
            _followers: followers,
        }
    }

    /// Returns after a change of the objects or of what [`Self::troubles`] says, when others had a
    /// moment to come with it. Whoever stops waiting loses nothing.
    pub async fn changed(&mut self) {
        loop {
            let changed = tokio::select! {
                biased;
                () = due(&mut self.due) => {
                    self.due = None;
                    return;
                }
                Some((kind, reach)) = self.reach.recv() => self.reached(kind, reach),
                Some((kind, event)) = self.heard.recv() => self.hear(kind, event),
            };
            if changed && self.due.is_none() {
                self.due = Some(Box::pin(tokio::time::sleep(GATHER)));
            }
        }
    }

    /// The objects, once each kind has been listed whole.
    #[must_use]
    pub fn objects(&self) -> Option<&Objects> {
        self.missing().is_empty().then_some(&self.objects)
    }

    /// Kinds that were not listed yet, as the API calls their objects.
    #[must_use]
    pub fn missing(&self) -> Vec<&'static str> {
        let whole = |kind: &Kind| match kind {
            Kind::Node => self.nodes.whole,
            Kind::Pod => self.pods.whole,
            Kind::Service => self.services.whole,
            Kind::EndpointSlice => self.slices.whole,
            Kind::ServiceCidr => self.service_cidrs.whole,
        };
        Kind::ALL.iter().filter(|kind| !whole(kind)).map(|kind| kind.names().1).collect()
    }

    /// Whether nothing was heard of that [`Self::changed`] has not told yet.
    #[must_use]
    pub fn is_told(&self) -> bool {
        self.due.is_none()
    }

    /// What the server cannot be asked, each once: a clause, and the kinds it is about.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        let mut kinds: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kind, why) in &self.lost {
            kinds.entry(why).or_default().push(kind.names().1);
        }
        let said = |(why, kinds): (&str, Vec<&str>)| {
            if kinds.len() == Kind::ALL.len() {
                return why.to_owned();
            }
            format!("{why} ({})", kinds.join(", "))
        };
        kinds.into_iter().map(said).collect()
    }

    fn hear(&mut self, kind: Kind, event: Event<DynamicObject>) -> bool {
        let objects = &mut self.objects;
        let changed = match kind {
            Kind::Node => self.nodes.hear(objects, event),
            Kind::Pod => self.pods.hear(objects, event),
            Kind::Service => self.services.hear(objects, event),
            Kind::EndpointSlice => self.slices.hear(objects, event),
            Kind::ServiceCidr => self.service_cidrs.hear(objects, event),
        };
        if changed {
            self.collect_faults();
        }
        changed
    }

    fn reached(&mut self, kind: Kind, reach: Reach) -> bool {
        match reach {
            Reach::Answered => {
                let found = self.lost.remove(&kind).is_some();
                if found && self.lost.is_empty() {
                    tracing::info!("the API server answers again");
                }
                found
            }
            Reach::Lost(why) => {
                if self.lost.is_empty() {
                    tracing::warn!(%kind, why, "the API server: what it said last stays in force");
                }
                self.lost.insert(kind, why.clone()) != Some(why)
            }
            // Ranges may be set instead, and there are servers without; all else must be there.
            // What there was once stays, as whatever else the server does not say any more.
            Reach::NotServed
                if kind == Kind::ServiceCidr && self.objects.service_cidrs.is_empty() =>
            {
                let found = self.lost.remove(&kind).is_some();
                self.service_cidrs.clear(&mut self.objects) || found
            }
            Reach::NotServed => {
                let why = format!("has no {} of version v1", kind.names().1);
                self.lost.insert(kind, why.clone()) != Some(why)
            }
        }
    }

    /// Objects that cannot be read are told with the others' faults.
    fn collect_faults(&mut self) {
        let faults = self.nodes.faults().chain(self.pods.faults()).chain(self.services.faults());
        let faults = faults.chain(self.slices.faults()).chain(self.service_cidrs.faults());
        self.objects.faults = faults.cloned().collect();
    }
}

/// Completes when that is due; never while nothing is.
pub(crate) async fn due(when: &mut Option<Pin<Box<Sleep>>>) {
    match when {
        Some(when) => when.as_mut().await,
        None => std::future::pending().await,
    }
}
