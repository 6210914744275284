//! Pods that are to be wired and wait for their objects.

use tokio::sync::mpsc;

use crate::cni::attachment;
use crate::cni::pods::{Asked, Pods};
use crate::kube::objects::{Objects, Pod};

/// Requests that may wait; there are no more in work.
const WAITING_MAX: usize = 64;
/// Annotation of a static pod's object: the uid that its runtime knows.
const STATIC_UID: &str = "kubernetes.io/config.mirror";

/// Who waits.
#[derive(Debug)]
pub(super) struct Roster {
    asked: mpsc::Receiver<Asked>,
    waiting: Vec<Asked>,
}

impl Roster {
    /// Nobody yet, and the side of those who come, if pods have `objects` at all.
    pub(super) fn new(objects: bool) -> (Self, Pods) {
        let (ask, asked) = mpsc::channel(WAITING_MAX);
        let pods = if objects { Pods::Known(ask) } else { Pods::Any };
        (Self { asked, waiting: Vec::new() }, pods)
    }

    /// Returns when somebody has come.
    pub(super) async fn somebody(&mut self) {
        match self.asked.recv().await {
            Some(asked) => {
                // While the source gives nothing nobody is told, and who gave up would stay.
                self.waiting.retain(|asked| !asked.known.is_closed());
                self.waiting.push(asked);
            }
            // Nobody can come any more.
            None => std::future::pending().await,
        }
    }

    /// Tells those whose objects are in force now, and forgets who has given up.
    pub(super) fn tell(&mut self, objects: &Objects) {
        self.waiting.retain(|asked| !asked.known.is_closed());
        let known = self.waiting.extract_if(.., |asked| is_known(&asked.pod, objects));
        for asked in known {
            // It may have given up just now.
            let _gave_up = asked.known.send(());
        }
    }
}

fn is_known(pod: &attachment::Pod, objects: &Objects) -> bool {
    let key = (pod.namespace.clone(), pod.name.clone());
    let same = |Pod { metadata }: &Pod| {
        let mirrored = metadata.annotations.get(STATIC_UID);
        pod.uid.is_empty() || metadata.uid == pod.uid || mirrored == Some(&pod.uid)
    };
    objects.pods.get(&key).is_some_and(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kube::manifests::parse;

    /// Objects with one pod of this uid and this annotation.
    fn objects(uid: &str, mirrored: &str) -> Objects {
        let mut objects = Objects::default();
        let text = format!(
            "kind: Pod\nmetadata:\n  name: a\n  namespace: shop\n  uid: {uid}\n  annotations: \
             {{{STATIC_UID}: {mirrored}}}\n"
        );
        parse("a.yaml", &text, &mut objects).unwrap();
        objects
    }

    #[test]
    fn a_pod_is_known_by_its_uid() {
        let pod = |uid: &str| attachment::Pod {
            namespace: "shop".to_owned(),
            name: "a".to_owned(),
            uid: uid.to_owned(),
        };
        let other = attachment::Pod { name: "b".to_owned(), ..pod("") };
        let there = objects("one", "'0123'");
        assert!(is_known(&pod("one"), &there));
        assert!(!is_known(&pod("two"), &there), "one that had its name before");
        assert!(is_known(&pod("0123"), &there), "a static pod");
        assert!(is_known(&pod(""), &there), "a runtime that names none");
        assert!(!is_known(&other, &there));
    }

    #[tokio::test]
    async fn who_gave_up_is_forgotten() {
        let (mut roster, pods) = Roster::new(true);
        let Pods::Known(ask) = pods else { panic!("{pods:?}") };
        for name in ["a", "b"] {
            let (known, waits) = tokio::sync::oneshot::channel();
            let pod = attachment::Pod {
                namespace: "shop".to_owned(),
                name: name.to_owned(),
                uid: String::new(),
            };
            ask.send(Asked { pod, known }).await.unwrap();
            roster.somebody().await;
            drop(waits);
        }
        let names: Vec<&str> = roster.waiting.iter().map(|asked| asked.pod.name.as_str()).collect();
        assert_eq!(names, ["b"]);
    }

    #[tokio::test]
    async fn who_waits_is_told_when_the_object_comes() {
        let (mut roster, pods) = Roster::new(true);
        let pod = attachment::Pod {
            namespace: "shop".to_owned(),
            name: "a".to_owned(),
            uid: "two".to_owned(),
        };
        let wait = tokio::spawn(async move { pods.wait_for(Some(&pod)).await });
        roster.somebody().await;
        roster.tell(&objects("one", "x"));
        assert_eq!((roster.waiting.len(), wait.is_finished()), (1, false));
        roster.tell(&objects("two", "x"));
        wait.await.unwrap().unwrap();
        assert!(roster.waiting.is_empty());
    }
}
