//! One request at a time for an attachment, any number for different ones.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::attachment::Key;

/// Who waits for which attachment.
#[derive(Debug, Default)]
pub struct Serial {
    keys: Mutex<BTreeMap<Key, Arc<AsyncMutex<()>>>>,
}

/// While this lives, nobody else has the attachment.
#[derive(Debug)]
pub struct Held<'a> {
    serial: &'a Serial,
    key: Key,
    guard: Option<OwnedMutexGuard<()>>,
}

impl Serial {
    /// Waits for an attachment's turn.
    pub async fn hold(&self, key: &Key) -> Held<'_> {
        let turn = {
            let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
            keys.entry(key.clone()).or_default().clone()
        };
        Held { serial: self, key: key.clone(), guard: Some(turn.lock_owned().await) }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.guard = None;
        let mut keys = self.serial.keys.lock().unwrap_or_else(PoisonError::into_inner);
        // Who waits has a clone; new ones come only through the lock that is held here.
        if keys.get(&self.key).is_some_and(|turn| Arc::strong_count(turn) == 1) {
            keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        Key { container_id: id.into(), ifname: "eth0".into() }
    }

    #[tokio::test]
    async fn one_waits_for_the_same_and_for_no_other() {
        let serial = Arc::new(Serial::default());
        let held = serial.hold(&key("a")).await;
        drop(serial.hold(&key("b")).await);
        let other = serial.clone();
        let waiting = tokio::spawn(async move { drop(other.hold(&key("a")).await) });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.unwrap();
        assert!(serial.keys.lock().unwrap().is_empty(), "nothing is kept of keys gone by");
    }
}
