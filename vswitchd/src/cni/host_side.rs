//! The node's side of `hostPort`s: the node's own port as it shall be now, which is what the plan
//! says of it and what attachments add, and the same for the switch.
//!
//! One change at a time: what the switch and the kernel are told is made from all that there is,
//! so two at once could undo each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use stack::config::diff;
use stack::{Change, Config, ServiceConfig};

use super::attachment::Attachment;
use super::host_port::{own_ports, services};
use crate::node::{HostLink, HostPort, Kernel, NodeError};

/// See the module. A handle.
#[derive(Clone)]
pub struct HostSide {
    kernel: Arc<dyn Kernel>,
    /// Held while switch or kernel are told.
    turn: Arc<tokio::sync::Mutex<()>>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    /// What the plan says.
    planned: HostLink,
    /// Attachments that have `hostPort`s, by their port of the switch.
    attachments: BTreeMap<u32, Arc<Attachment>>,
}

/// A turn, from the change of the switch to that of the kernel.
pub struct Turn<'a> {
    side: &'a HostSide,
    _held: tokio::sync::MutexGuard<'a, ()>,
}

impl HostSide {
    /// With what an earlier worker attached.
    #[must_use]
    pub fn new(kernel: Arc<dyn Kernel>, planned: HostLink, there: Vec<Arc<Attachment>>) -> Self {
        let has = |attachment: &Arc<Attachment>| !attachment.host_ports.is_empty();
        let attachments = there.into_iter().filter(has).map(|it| (it.port, it)).collect();
        let inner = Arc::new(Mutex::new(Inner { planned, attachments }));
        Self { kernel, turn: Arc::default(), inner }
    }

    /// The node's own port as it shall be.
    #[must_use]
    pub fn link(&self) -> HostLink {
        self.inner().link()
    }

    /// All `hostPort`s as the switch shall have them.
    #[must_use]
    pub fn services(&self) -> Vec<ServiceConfig> {
        self.inner().services()
    }

    /// Makes the node's own port, or makes it anew by another plan.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn wire(&self, planned: &HostLink) -> Result<HostPort, NodeError> {
        self.by_plan(planned, |kernel, link| kernel.wire_host(link)).await
    }

    /// Brings what belongs to the port to what another plan says. The port itself stays open, and
    /// no frame waits: only for plans of the [same port](HostLink::is_same_port).
    ///
    /// # Errors
    /// The kernel's.
    pub async fn adjust(&self, planned: &HostLink) -> Result<(), NodeError> {
        self.by_plan(planned, |kernel, link| kernel.adjust_host(link)).await
    }

    /// Has the kernel do something by another plan, which holds if it succeeds.
    async fn by_plan<T: Send + 'static>(
        &self,
        planned: &HostLink,
        work: impl FnOnce(&dyn Kernel, &HostLink) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let _held = self.turn.lock().await;
        let before = std::mem::replace(&mut self.inner().planned, planned.clone());
        let done = self.ask(work).await;
        if done.is_err() {
            self.inner().planned = before;
        }
        done
    }

    /// Has the kernel do something with the port as it shall be. It may take a while.
    async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Kernel, &HostLink) -> Result<T, NodeError> + Send + 'static,
    ) -> Result<T, NodeError> {
        let (kernel, link) = (self.kernel.clone(), self.link());
        let told = tokio::task::spawn_blocking(move || work(&*kernel, &link)).await;
        told.unwrap_or_else(|error| {
            let doing = "a task ended early while the node's port was changed".to_owned();
            Err(NodeError::Kernel { doing, source: std::io::Error::other(error) })
        })
    }

    /// The turn to change what this attachment has, if it has or had any: most have none, and
    /// wait for nobody.
    pub async fn turn(&self, attachment: &Attachment) -> Option<Turn<'_>> {
        if attachment.host_ports.is_empty() {
            return None;
        }
        let held = self.turn.lock().await;
        Some(Turn { side: self, _held: held })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Every change under the lock is whole before anything can panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn services(&self) -> Vec<ServiceConfig> {
        services(&self.all())
    }

    fn all(&self) -> Vec<&Attachment> {
        self.attachments.values().map(AsRef::as_ref).collect()
    }

    fn link(&self) -> HostLink {
        let mut link = self.planned.clone();
        let pods = own_ports(&self.all(), &link.node_addresses);
        let own: Vec<_> = pods.into_iter().filter(|own| !link.own_ports.contains(own)).collect();
        link.own_ports.extend(own);
        link
    }
}

impl Turn<'_> {
    /// The attachment has its `hostPort`s from now on; what the switch has to change.
    #[must_use]
    pub fn open(&self, attachment: &Attachment) -> Vec<Change> {
        self.change(|attachments| {
            attachments.insert(attachment.port, Arc::new(attachment.clone()));
        })
    }

    /// It has them no more; what the switch has to change.
    #[must_use]
    pub fn close(&self, attachment: &Attachment) -> Vec<Change> {
        self.change(|attachments| {
            attachments.remove(&attachment.port);
        })
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<u32, Arc<Attachment>>)) -> Vec<Change> {
        let mut inner = self.side.inner();
        let of = |inner: &Inner| Config { services: inner.services(), ..Config::default() };
        let before = of(&inner);
        change(&mut inner.attachments);
        diff(&before, &of(&inner))
    }

    /// Tells the kernel.
    ///
    /// # Errors
    /// The kernel's.
    pub async fn divert(&self) -> Result<(), NodeError> {
        self.side.ask(|kernel, link| kernel.adjust_host(link)).await
    }
}
