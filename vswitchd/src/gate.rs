//! Whether clients are let in. While a gate is closed they wait in their socket's backlog, for
//! whoever opens it or for the worker that is next.

use std::sync::Arc;

use tokio::sync::watch;

/// One gate for all sockets of a worker; copies are the same.
#[derive(Clone, Debug)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Default for Gate {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(true)))
    }
}

impl Gate {
    /// Lets nobody in any more.
    pub fn close(&self) {
        self.0.send_replace(false);
    }

    /// Lets clients in again.
    pub fn open(&self) {
        self.0.send_replace(true);
    }

    /// Completes while the gate is closed.
    pub async fn closed(&self) {
        self.is(false).await;
    }

    /// Completes while the gate is open.
    pub async fn opened(&self) {
        self.is(true).await;
    }

    async fn is(&self, open: bool) {
        // The sender is here, so that it is gone cannot be.
        drop(self.0.subscribe().wait_for(|now| *now == open).await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_sees_every_turn() {
        let gate = Gate::default();
        gate.opened().await;
        let waits = tokio::spawn({
            let gate = gate.clone();
            async move {
                gate.closed().await;
                gate.opened().await;
            }
        });
        tokio::task::yield_now().await;
        gate.close();
        gate.closed().await;
        assert!(!waits.is_finished());
        tokio::task::yield_now().await;
        gate.open();
        waits.await.unwrap();
    }
}
