//! At start: what an earlier daemon attached is taken back, what is gone is forgotten, and what is
//! not as it was is told. Runtimes need not ever CHECK or GC (containerd does neither), so nobody
//! else would notice.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::attachment::{Attachment, State};
use super::verbs::Cni;
use super::wiring::{Wiring, WiringError};
use crate::node::Netns;

/// What [`Cni::reconcile`] found.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// So many work again.
    pub taken_back: usize,
    /// So many were gone, or half made.
    pub forgotten: usize,
    /// Attachments that are kept but are not as they shall be: what is wrong and what mends it.
    pub differing: Vec<(Arc<Attachment>, String)>,
    /// What else could not be put right.
    pub left: Option<String>,
    /// What is still to be cleared away, with its namespace if that lives.
    gone: Vec<(Arc<Attachment>, Option<Netns>)>,
}

impl<W: Wiring> Cni<W> {
    /// Takes back what lives. Nothing is changed that an earlier worker would miss.
    ///
    /// An attachment whose namespace lives but whose interface cannot be taken back keeps its
    /// address until its DEL: its pod may still use it.
    pub async fn reconcile(&self) -> Reconciled {
        let mut reconciled = Reconciled::default();
        for attachment in self.registry.list() {
            let _held = self.serial.hold(&attachment.key).await;
            let netns = self.find_netns(&attachment, &attachment.netns).await;
            match (netns, attachment.state) {
                (Some(netns), State::Attached) => {
                    self.take_back(attachment, netns, &mut reconciled).await;
                }
                (netns, State::Attached | State::Wiring) => {
                    reconciled.gone.push((attachment, netns));
                }
            }
        }
        reconciled
    }

    /// Forgets what is gone.
    pub async fn tidy(&self, reconciled: &mut Reconciled) {
        for (attachment, netns) in std::mem::take(&mut reconciled.gone) {
            let _held = self.serial.hold(&attachment.key).await;
            self.clear(attachment, netns, reconciled).await;
        }
        self.sweep(reconciled).await;
    }

    async fn take_back(&self, attachment: Arc<Attachment>, netns: Netns, to: &mut Reconciled) {
        if let Err(error) = self.wiring.take_back(&attachment, netns).await {
            tracing::error!(attachment = %attachment.key, error = %sentence(&error),
                "an interface cannot be taken back; its pod has no network");
            let why = format!(
                "its interface cannot be taken back and the pod has no network ({}); delete the \
                 pod",
                sentence(&error)
            );
            to.differing.push((attachment, why));
            return;
        }
        to.taken_back += 1;
        let Some(netns) = self.find_netns(&attachment, &attachment.netns).await else { return };
        let problems = match self.wiring.check(&attachment, netns).await {
            Ok(problems) => problems.into_iter().map(|problem| problem.0).collect(),
            Err(error) => vec![sentence(&error)],
        };
        if !problems.is_empty() {
            let problems = problems.join(", ");
            tracing::warn!(attachment = %attachment.key, problems,
                "an interface is not as its ADD left it");
            let why = format!(
                "not as its ADD left it when vswitchd started: {problems}; put that back, or \
                 delete the pod"
            );
            to.differing.push((attachment, why));
        }
    }

    async fn clear(&self, attachment: Arc<Attachment>, netns: Option<Netns>, to: &mut Reconciled) {
        let removed = match self.wiring.detach(&attachment, netns).await {
            Ok(()) => self.registry.release(&attachment.key).await,
            Err(error) => Err(error.into()),
        };
        match removed {
            Ok(()) => to.forgotten += 1,
            Err(fault) => {
                tracing::error!(attachment = %attachment.key, error = %fault,
                    "what a gone pod has left cannot be removed");
                let why = format!(
                    "the pod is gone, but what it has left cannot be removed ({fault}); restart \
                     vswitchd to try again"
                );
                to.differing.push((attachment, why));
            }
        }
    }

    /// Ends of veth pairs that no attachment owns: the file was lost, or another state-dir was
    /// used.
    async fn sweep(&self, to: &mut Reconciled) {
        let list = self.registry.list();
        let keep: BTreeSet<String> = list.iter().map(|a| a.host_ifname.clone()).collect();
        match self.wiring.sweep(keep).await {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::warn!(?removed, "ends of veth pairs without an attachment"),
            Err(error) => {
                let why = sentence(&error);
                tracing::error!(error = why, "ends of veth pairs without an attachment stay");
                to.left = Some(format!(
                    "ends of veth pairs that no attachment owns cannot be removed ({why}); \
                     restart vswitchd to try again"
                ));
            }
        }
    }
}

/// An error as one clause.
fn sentence(error: &WiringError) -> String {
    let source = std::error::Error::source(error).map(ToString::to_string);
    source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
