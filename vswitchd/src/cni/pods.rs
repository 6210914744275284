//! Whom an ADD waits for: a pod is wired when its object is known, since that says what the pod may
//! do. The kubelet has it from the same server, at about the same time.
//!
//! The object must be this pod's, not one's that had the name before: the runtime names its uid. A
//! static pod has a uid of the kubelet's own making, by which its mirror in the API is annotated.

use std::time::Duration;

use shim::fault::{Code, Fault};
use tokio::sync::{mpsc, oneshot};

use super::attachment::Pod;

/// How long an ADD waits. A hand-over waits for what is in work, and longer than this.
const PATIENCE: Duration = Duration::from_secs(3);

/// Which pods may be wired.
#[derive(Clone, Debug, Default)]
pub enum Pods {
    /// Any: there need be no objects of pods.
    #[default]
    Any,
    /// Those whose objects are known; who hears of it is asked.
    Known(mpsc::Sender<Asked>),
}

/// A pod that is to be wired once its object is known.
#[derive(Debug)]
pub struct Asked {
    /// The pod.
    pub pod: Pod,
    /// Told when it is.
    pub known: oneshot::Sender<()>,
}

impl Pods {
    /// Returns when the pod may be wired.
    ///
    /// # Errors
    /// To be tried again, when its object does not come.
    pub async fn wait_for(&self, pod: Option<&Pod>) -> Result<(), Fault> {
        let (Self::Known(asked), Some(pod)) = (self, pod) else { return Ok(()) };
        let (known, told) = oneshot::channel();
        let ask = async {
            asked.send(Asked { pod: pod.clone(), known }).await.ok()?;
            told.await.ok()
        };
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(Some(())) => Ok(()),
            Ok(None) | Err(_) => {
                let Pod { namespace, name, .. } = pod;
                let msg = format!("the API server has not told of the pod {namespace}/{name} yet");
                let details = "it is wired once its object is known; see hopctl status";
                Err(Fault::new(Code::TryAgain, msg).with_details(details))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Pod {
        let of = |text: &str| text.to_owned();
        Pod { namespace: of("shop"), name: of("a"), uid: of("u") }
    }

    #[tokio::test(start_paused = true)]
    async fn an_object_that_does_not_come_is_waited_for_and_then_a_reason_to_try_again() {
        let (ask, mut asked) = mpsc::channel(1);
        let known = Pods::Known(ask);
        let begun = tokio::time::Instant::now();
        let refused = known.wait_for(Some(&pod())).await.unwrap_err();
        assert_eq!((refused.code, begun.elapsed()), (Code::TryAgain, PATIENCE));
        assert!(refused.msg.contains("shop/a"), "{refused}");
        assert!(asked.try_recv().unwrap().known.is_closed(), "whoever answers sees that");
        // Nobody is there to hear of it: that is no reason to wait.
        drop(asked);
        let begun = tokio::time::Instant::now();
        assert_eq!(known.wait_for(Some(&pod())).await.unwrap_err().code, Code::TryAgain);
        assert!(begun.elapsed().is_zero());
    }

    #[tokio::test]
    async fn who_has_no_object_is_not_waited_for() {
        let (ask, _asked) = mpsc::channel(1);
        Pods::Known(ask).wait_for(None).await.unwrap();
        Pods::Any.wait_for(Some(&pod())).await.unwrap();
    }
}
