//! A copy of a server that is slow, forgetful, unwilling, or away.

use std::time::Duration;

use serde_json::{Value, json};

use super::Mirror;
use crate::kube::objects::Objects;
use crate::settings::source::Source;

mod server;

use server::Server;

/// Longer than any pause of a follower takes at first.
const PATIENCE: Duration = Duration::from_secs(20);

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name, "namespace": "shop", "uid": format!("uid-{name}")}})
}

fn service(name: &str, address: &str) -> Value {
    let mut object = named(name);
    object["spec"] = json!({"clusterIP": address, "ports": [{"port": 80}]});
    object
}

/// The mirror as soon as that is true of it.
async fn until(mirror: &mut Mirror, what: &str, is: impl Fn(&Mirror) -> bool) {
    let wait = async {
        while !is(mirror) {
            mirror.changed().await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    assert!(waited.is_ok(), "{what}: {:?}, {:?}", mirror.missing(), mirror.troubles());
}

async fn loaded(server: &Server) -> Mirror {
    let mut mirror = Mirror::begin(&server.source()).await.unwrap();
    until(&mut mirror, "all is listed", |mirror| mirror.objects().is_some()).await;
    until(&mut mirror, "nothing is wrong", |mirror| mirror.troubles().is_empty()).await;
    mirror
}

/// Nothing happens for longer than changes are gathered.
async fn quiet(mirror: &mut Mirror, what: &str) {
    let told = tokio::time::timeout(super::GATHER * 5, mirror.changed()).await;
    assert!(told.is_err(), "{what} is told");
}

fn services(mirror: &Mirror) -> Vec<&str> {
    let objects: &Objects = mirror.objects().unwrap();
    objects.services.keys().map(|(_, name)| name.as_str()).collect()
}

fn faults(mirror: &Mirror) -> Vec<String> {
    mirror.objects().unwrap().faults.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn nothing_is_shown_before_all_is_there() {
    let server = Server::start("whole").await;
    server.apply("services", service("web", "10.96.0.7"));
    let mut node = named("n1");
    node["spec"] = json!({"podCIDRs": ["10.244.1.0/24"]});
    server.apply("nodes", node);
    let mut pod = named("a");
    pod["metadata"]["annotations"] = json!({"hopscope.dev/weight": "3", "else/where": "x"});
    pod["metadata"]["labels"] = json!({"app": "web"});
    server.apply("pods", pod);
    server.apply("endpointslices", {
        let mut slice = named("web-1");
        (slice["addressType"], slice["endpoints"]) = (json!("IPv4"), Value::Null);
        slice
    });
    server.apply("servicecidrs", {
        let mut range = named("kubernetes");
        range["spec"] = json!({"cidrs": ["10.96.0.0/16"]});
        range
    });
    server.set(|state| state.held = ["services"].into());
    let mut mirror = Mirror::begin(&server.source()).await.unwrap();
    until(&mut mirror, "all but Services", |mirror| mirror.missing() == ["services"]).await;
    assert!(mirror.objects().is_none());
    server.set(|state| state.held.clear());
    until(&mut mirror, "Services", |mirror| mirror.objects().is_some()).await;

    let objects = mirror.objects().unwrap();
    assert_eq!(services(&mirror), ["web"]);
    assert_eq!(objects.nodes["n1"].spec.pod_cidrs, ["10.244.1.0/24"]);
    let pod = &objects.pods[&("shop".to_owned(), "a".to_owned())].metadata;
    assert_eq!((pod.uid.as_str(), pod.labels["app"].as_str()), ("uid-a", "web"));
    let annotations: Vec<&str> = pod.annotations.keys().map(String::as_str).collect();
    assert_eq!(annotations, ["hopscope.dev/weight"], "what means nothing here is not kept");
    assert_eq!((objects.slices.len(), objects.service_cidrs.len()), (1, 1));
    assert_eq!((mirror.troubles().len(), faults(&mirror).len()), (0, 0));

    let slices = server.requests("endpointslices");
    assert!(slices[0].0.contains("/apis/discovery.k8s.io/v1/endpointslices"), "{slices:?}");
    for label in ["headless", "service-proxy-name"] {
        assert!(slices.iter().all(|(path, _)| path.contains(label)), "{slices:?}");
    }
    let pods = server.requests("pods");
    assert!(pods.iter().all(|(_, accepted)| accepted.contains("PartialObjectMeta")), "{pods:?}");
    assert!(!server.requests("services")[0].0.contains("labelSelector"));
}

#[tokio::test]
async fn changes_come_together_and_what_is_no_change_does_not_come() {
    let server = Server::start("changes").await;
    server.apply("services", service("a", "10.96.0.1"));
    let mut mirror = loaded(&server).await;
    assert!(mirror.is_told());
    for number in 2..12 {
        server.apply("services", service(&format!("b{number}"), "10.96.0.2"));
    }
    server.delete("services", "shop/a");
    until(&mut mirror, "eleven changes", |mirror| mirror.objects().unwrap().services.len() == 10)
        .await;
    quiet(&mut mirror, "a change that was told").await;
    // What a kubelet and a controller write all the time.
    let mut same = service("b2", "10.96.0.2");
    same["metadata"]["managedFields"] = json!([{"manager": "m"}]);
    same["metadata"]["annotations"] = json!({"else/where": "changes"});
    same["status"] = json!({"conditions": [{"type": "t", "status": "True"}]});
    server.apply("services", same);
    quiet(&mut mirror, "what means nothing here").await;
    // Who gives up waiting loses nothing.
    server.apply("services", service("b2", "10.96.0.99"));
    let short = tokio::time::timeout(super::GATHER / 2, mirror.changed()).await;
    assert!(short.is_err());
    until(&mut mirror, "an address", |mirror| {
        let key = ("shop".to_owned(), "b2".to_owned());
        mirror.is_told() && mirror.objects().unwrap().services[&key].spec.cluster_ip == "10.96.0.99"
    })
    .await;
}

#[tokio::test]
async fn an_object_that_cannot_be_read_is_left_out_alone() {
    let server = Server::start("bad").await;
    let mut bad = service("bad", "10.96.0.1");
    bad["spec"]["ports"] = json!([{"port": 80}, {"port": 70_000}]);
    server.apply("services", bad.clone());
    server.apply("services", service("good", "10.96.0.2"));
    let mut mirror = loaded(&server).await;
    assert_eq!(services(&mirror), ["good"]);
    let fault = "Service shop/bad: spec.ports[1].port: invalid value: integer `70000`, expected a \
                 nonzero u16";
    assert_eq!(faults(&mirror), [fault]);
    server.apply("services", service("bad", "10.96.0.1"));
    until(&mut mirror, "it is mended", |mirror| faults(mirror).is_empty()).await;
    assert_eq!(services(&mirror), ["bad", "good"]);
    server.apply("services", bad);
    until(&mut mirror, "it is broken again", |mirror| faults(mirror) == [fault]).await;
    assert_eq!(services(&mirror), ["good"]);
    server.delete("services", "shop/bad");
    until(&mut mirror, "it is gone", |mirror| faults(mirror).is_empty()).await;
    assert_eq!(services(&mirror), ["good"]);
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_where_it_was() {
    let server = Server::start("goes-on").await;
    server.apply("services", service("a", "10.96.0.1"));
    let mut mirror = loaded(&server).await;
    let at = server.bookmark("services");
    // Events of one kind come in order: with this one the bookmark has come.
    server.apply("services", service("b", "10.96.0.2"));
    until(&mut mirror, "b", |mirror| services(mirror) == ["a", "b"]).await;
    let at = server.bookmark("services").max(at);
    server.set(|state| state.endings += 1);
    let again = format!("resourceVersion={at}");
    let resumed = async {
        while !server.requests("services").iter().any(|(path, _)| path.contains(&again)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        resumed = tokio::time::timeout(PATIENCE, resumed) => resumed.unwrap(),
        () = mirror.changed() => panic!("an end is no change: {:?}", mirror.troubles()),
    }
    server.delete("services", "shop/a");
    until(&mut mirror, "a goes", |mirror| services(mirror) == ["b"]).await;
    let requests = server.requests("services");
    let lists = requests.iter().filter(|(path, _)| !path.contains("watch=true"));
    assert_eq!(lists.count(), 1, "{requests:?}");
    assert!(mirror.troubles().is_empty());
}

#[tokio::test]
async fn a_watch_that_is_too_old_is_followed_by_a_list_that_comes_at_once() {
    let server = Server::start("gone").await;
    server.apply("services", service("a", "10.96.0.1"));
    server.apply("services", service("b", "10.96.0.2"));
    let mut mirror = loaded(&server).await;
    server.set(|state| state.held = ["services"].into());
    server.set(|state| state.oldest = 1_000);
    let listed = || {
        let requests = server.requests("services");
        requests.iter().filter(|(path, _)| !path.contains("watch=true")).count()
    };
    // What happens meanwhile is in the list; the versions are as new as that.
    server.set(|state| state.bump(1_000));
    server.delete("services", "shop/a");
    server.apply("services", service("c", "10.96.0.3"));
    let waited = tokio::time::timeout(PATIENCE, async {
        while listed() < 2 {
            let short = Duration::from_millis(10);
            drop(tokio::time::timeout(short, mirror.changed()).await);
            assert_eq!(services(&mirror), ["a", "b"], "until the list is whole");
        }
    });
    waited.await.unwrap();
    assert_eq!(services(&mirror), ["a", "b"]);
    server.set(|state| state.held.clear());
    until(&mut mirror, "the list", |mirror| services(mirror) != ["a", "b"]).await;
    assert_eq!(services(&mirror), ["b", "c"]);
    assert!(mirror.troubles().is_empty());
}

#[tokio::test]
async fn what_was_said_last_stays_while_the_server_is_away() {
    let mut server = Server::start("away").await;
    server.apply("services", service("a", "10.96.0.1"));
    server.apply("services", service("b", "10.96.0.2"));
    let mut mirror = loaded(&server).await;
    server.go_down().await;
    until(&mut mirror, "it is missed", |mirror| !mirror.troubles().is_empty()).await;
    until(&mut mirror, "all is missed", |mirror| mirror.lost.len() == 5).await;
    let troubles = mirror.troubles();
    let said = "cannot be asked: Connection refused (os error 111)";
    assert_eq!(troubles, [said], "one line for all kinds");
    assert_eq!(services(&mirror), ["a", "b"]);
    server.delete("services", "shop/a");
    server.come_back().await;
    until(&mut mirror, "it is back", |mirror| mirror.troubles().is_empty()).await;
    until(&mut mirror, "a is gone", |mirror| services(mirror) == ["b"]).await;
    let requests = server.requests("services");
    let lists = requests.iter().filter(|(path, _)| !path.contains("watch=true"));
    assert_eq!(lists.count(), 1, "only what changed was asked for: {requests:?}");
}

#[tokio::test]
async fn a_server_without_ranges_of_services_is_taken_as_it_is() {
    let server = Server::start("old").await;
    server.set(|state| state.refused = [("servicecidrs", 404)].into());
    let mirror = loaded(&server).await;
    assert!(mirror.objects().unwrap().service_cidrs.is_empty());
}

#[tokio::test]
async fn ranges_that_a_server_does_not_serve_any_more_stay() {
    let mut server = Server::start("upgraded").await;
    let range = json!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": ["10.96.0.0/16"]}});
    server.apply("servicecidrs", range);
    let mut mirror = loaded(&server).await;
    assert_eq!(mirror.objects().unwrap().service_cidrs.len(), 1);
    server.go_down().await;
    server.set(|state| state.refused = [("servicecidrs", 404)].into());
    server.come_back().await;
    let is_told =
        |mirror: &Mirror| mirror.troubles() == ["has no servicecidrs of version v1 (servicecidrs)"];
    until(&mut mirror, "it is told", is_told).await;
    assert_eq!(mirror.objects().unwrap().service_cidrs.len(), 1);
}

#[tokio::test]
async fn who_may_not_ask_is_told_what_is_missing() {
    let server = Server::start("forbidden").await;
    server.set(|state| state.refused = [("endpointslices", 403)].into());
    let mut mirror = Mirror::begin(&server.source()).await.unwrap();
    until(&mut mirror, "all others", |mirror| {
        mirror.missing() == ["endpointslices"] && mirror.troubles().len() == 1
    })
    .await;
    let said = "does not let this daemon list and watch endpointslices; apply the ClusterRole of \
                deploy/rbac.yaml (endpointslices)";
    assert_eq!(mirror.troubles(), [said]);
    server.set(|state| state.refused.clear());
    until(&mut mirror, "it may", |mirror| mirror.objects().is_some()).await;
    assert!(mirror.troubles().is_empty());
}

#[tokio::test]
async fn a_token_that_is_renewed_is_read_again() {
    let server = Server::start("token").await;
    server.set(|state| state.token = Some("second".to_owned()));
    let mut mirror = Mirror::begin(&server.source()).await.unwrap();
    until(&mut mirror, "a stranger", |mirror| mirror.lost.len() == 5).await;
    let said =
        "does not know who asks: token or certificate is refused; renew what kubeconfig names";
    assert_eq!(mirror.troubles(), [said]);
    server.write_kubeconfig("second");
    until(&mut mirror, "it knows us", |mirror| mirror.objects().is_some()).await;
    until(&mut mirror, "nothing is wrong", |mirror| mirror.troubles().is_empty()).await;
}

#[tokio::test]
async fn a_kubeconfig_that_is_none_is_named() {
    let none = Mirror::begin(&Source::Kubeconfig("/nowhere/at/all".into())).await.unwrap_err();
    let said = crate::daemon::with_causes(&none);
    assert!(said.starts_with("kubeconfig: /nowhere/at/all cannot be used: "), "{said}");
    assert!(said.contains("No such file"), "{said}");
}
