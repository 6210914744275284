//! Connections of a small node followed: how they begin, what is made of them and how they end.

use stack::wire::build::flags;
use stack::{Change, Duration, Frame, Limits};

use super::story::{Story, tell};
use super::wanted::Wanted;
use super::{Follow, of_walk};
use crate::capture::world::{A, B, C, HOST, UTC_OFFSET, World, bridged, routed, v4};
use crate::replay::Options;
use crate::replay::tests::{file, replayed};
use crate::replay::whatif::tests::{VIP, manifests, services, serving, syn, world};

/// Followed to the end of what was recorded, and told of that moment.
fn told(world: &World, wanted: &Wanted) -> Option<Story> {
    let mut follow = Follow::new(wanted.clone());
    let ended = replayed(&file(&world.excerpt()), &Options::default(), Some(&mut follow));
    let held = ended.summary.times.map(|(first, _)| first);
    tell(&follow, &ended.replayer, held, world.now.0.saturating_add_signed(UTC_OFFSET))
}

fn of(world: &World, source: &str, destination: &str) -> Story {
    told(world, &Wanted::read(source, destination).unwrap()).unwrap()
}

/// A segment between the client at A and the backend at C, as each side's own frames bear it.
fn segment(world: &mut World, from_client: bool, flags: u8, (seq, ack): (u32, u32)) {
    let (from, bytes) = match from_client {
        true => {
            let ip = routed(A).ipv4(v4(A), VIP.parse().unwrap());
            (A, ip.tcp((40_000, 80), flags, seq, ack, &[]))
        }
        false => {
            let ip = bridged(C, A).ipv4(v4(C), v4(A));
            (C, ip.tcp((8_080, 40_000), flags, seq, ack, &[]))
        }
    };
    let sent = world.put(from, Frame::from_bytes(&bytes));
    assert_eq!(sent.len(), 1);
}

fn handshake(world: &mut World) {
    segment(world, true, flags::SYN, (1, 0));
    segment(world, false, flags::SYN | flags::ACK, (9, 2));
    segment(world, true, flags::ACK, (2, 10));
}

fn states(story: &Story) -> Vec<&'static str> {
    story.walks.iter().filter_map(|walk| walk.state).collect()
}

#[test]
fn a_connection_to_a_service_is_told_from_its_syn_to_its_fins() {
    let mut world = world(&manifests(&["10.1.0.4"]));
    handshake(&mut world);
    segment(&mut world, true, flags::ACK, (2, 10));
    let open = of(&world, "10.1.0.2:40000", "10.96.0.10:80/tcp");
    assert_eq!((open.now.is, open.now.state), ("open", Some("ESTABLISHED")));
    assert_eq!((open.now.expires_seconds, &open.now.how), (Some(86_400), &None));
    assert_eq!(open.service.as_deref(), Some("demo/web:http"));
    assert_eq!((open.chosen_by, open.candidates), (Some("random"), Some(1)));
    assert_eq!((open.backend.as_deref(), open.masquerade), (Some("10.1.0.4:8080"), None));
    assert_eq!(
        (open.from.as_deref(), open.to.as_deref()),
        (Some("pod/demo/a"), Some("pod/demo/c"))
    );
    let (there, back) = (&open.original, &open.reply);
    assert_eq!(
        (there.destination.as_str(), there.left_destination.as_str(), there.packets),
        ("10.96.0.10:80", "10.1.0.4:8080", 3)
    );
    assert_eq!(
        (back.source.as_str(), back.left_source.as_str(), back.packets),
        ("10.1.0.4:8080", "10.96.0.10:80", 1)
    );
    assert_eq!(states(&open), ["SYN_SENT", "SYN_RECV", "ESTABLISHED", "ESTABLISHED"]);
    let first = open.began.clone().unwrap();
    assert_eq!((first.walk, first.ingress.as_str(), first.passed), (1, "pod/demo/a", true));
    assert_eq!((open.before, open.others, open.hint.as_deref()), (0, 0, None));
    // Whatever it is named by.
    let by_backend = of(&world, "10.1.0.4:8080", "10.1.0.2");
    assert_eq!(by_backend, open);
    segment(&mut world, true, flags::FIN | flags::ACK, (2, 10));
    segment(&mut world, false, flags::FIN | flags::ACK, (10, 3));
    segment(&mut world, true, flags::ACK, (3, 11));
    let over = of(&world, "10.1.0.2:40000", "10.96.0.10:80");
    assert_eq!((over.now.is, over.now.state), ("ended", Some("TIME_WAIT")));
    assert_eq!(over.now.how.as_deref(), Some("closed by both sides (FIN)"));
    assert!(over.now.expires_seconds.is_some(), "its entry is kept for a while");
    world.wait(Duration::from_secs(600));
    let gone = of(&world, "10.1.0.2:40000", "10.96.0.10:80");
    assert_eq!((&gone.now.ended, gone.now.expires_seconds), (&over.now.ended, None));
    // The same ends once more.
    handshake(&mut world);
    let again = of(&world, "10.1.0.2:40000", "10.96.0.10:80");
    assert_eq!((again.now.is, again.before, again.previous), ("open", 1, Some("TIME_WAIT")));
    assert_eq!(again.original.packets, 2);
}

#[test]
fn a_refused_one_says_why_and_its_second_try_is_no_other() {
    let mut world = world(&manifests(&[]));
    assert_eq!(syn(&mut world, A, 40_000, VIP), None);
    assert_eq!(syn(&mut world, A, 40_000, VIP), None);
    let story = of(&world, "10.1.0.2:40000", "10.96.0.10:80");
    assert_eq!((story.now.is, story.now.state, story.before), ("refused", None, 0));
    assert_eq!(story.now.how.as_deref(), Some("ServiceNoBackend: the service has no backend"));
    assert_eq!(story.service.as_deref(), Some("demo/web:http"));
    assert_eq!((story.original.packets, story.walks.len()), (2, 2));
    assert_eq!(story.walks[0].verdict, "reset: ServiceNoBackend");
    assert!(story.hint.unwrap().contains("hopctl get backends"));
    // Nobody is to be had by another name.
    let other = Wanted::read("10.1.0.2:40001", "10.96.0.10:80").unwrap();
    assert_eq!(told(&world, &other), None);
    let other = Wanted::read("10.1.0.2:40000", "10.96.0.10:80/udp").unwrap();
    assert_eq!(told(&world, &other), None);
}

#[test]
fn one_that_is_reset_or_never_answered_says_where_to_look() {
    let mut world = world(&manifests(&["10.1.0.4"]));
    segment(&mut world, true, flags::SYN, (1, 0));
    let waits = of(&world, "10.1.0.2:40000", "10.96.0.10:80");
    let hint = waits.hint.unwrap();
    assert!(hint.contains("10.1.0.4:8080 behind pod/demo/c has not answered"), "{hint}");
    assert!(hint.contains("hopctl capture demo/c"), "{hint}");
    segment(&mut world, false, flags::RST | flags::ACK, (0, 2));
    let reset = of(&world, "10.1.0.2:40000", "10.96.0.10:80");
    assert_eq!(reset.now.how.as_deref(), Some("reset (RST) by the side that was asked"));
    assert!(reset.hint.unwrap().contains("does anything listen there?"));
}

fn query(world: &mut World, to: &str) {
    let ip = routed(A).ipv4(v4(A), to.parse().unwrap());
    let sent = world.put(A, Frame::from_bytes(&ip.udp(40_000, 53, &[0; 30])));
    assert_eq!(sent.len(), 1);
}

#[test]
fn what_udp_ended_by_is_told() {
    let objects = manifests(&["10.1.0.4"]);
    let mut world = world(&objects);
    query(&mut world, VIP);
    for change in services(&manifests(&["10.1.0.3"])) {
        world.change(Change::Service(change));
    }
    let removed = world.now;
    world.wait(Duration::from_secs(1));
    let story = of(&world, "10.1.0.2:40000", "10.96.0.10:53/udp");
    assert_eq!(story.now.how.as_deref(), Some("its backend serves no more"));
    let when = crate::utc::rfc3339(removed.0.saturating_add_signed(UTC_OFFSET));
    assert!(story.now.ended.as_deref().unwrap()[..20] == when[..20], "{story:?} {when}");
    query(&mut world, VIP);
    let story = of(&world, "10.1.0.2:40000", "10.96.0.10:53/udp");
    assert_eq!((story.backend.as_deref(), story.before), (Some("10.1.0.3:5353"), 1));
    world.wait(Duration::from_secs(31));
    let story = of(&world, "10.1.0.2:40000", "10.96.0.10:53/udp");
    assert_eq!(story.now.how.as_deref(), Some("timed out: it was never answered"));
    assert_eq!(story.now.expires_seconds, None);
}

#[test]
fn tcp_stays_when_its_backend_goes_and_is_told_so() {
    let mut world = world(&manifests(&["10.1.0.4"]));
    handshake(&mut world);
    for change in services(&manifests(&["10.1.0.3"])) {
        world.change(Change::Service(change));
    }
    let story = of(&world, "10.1.0.2:40000", "10.96.0.10:80");
    assert_eq!(story.now.is, "open");
    assert!(story.backend_gone.is_some() && story.hint.unwrap().contains("connect anew"));
}

#[test]
fn one_that_leaves_the_cluster_shows_its_masquerade_and_both_ways() {
    let mut world = world(&manifests(&[]));
    query(&mut world, "203.0.113.9");
    let story = of(&world, "10.1.0.2:40000", "203.0.113.9:53/udp");
    assert_eq!((story.masquerade, story.service.as_deref()), (Some("egress"), None));
    let left = story.original.left_source.clone();
    assert!(left.starts_with("192.0.2.10:6"), "{left}");
    let port: u16 = left.rsplit_once(':').unwrap().1.parse().unwrap();
    let ip = routed(HOST).ipv4("203.0.113.9".parse().unwrap(), "192.0.2.10".parse().unwrap());
    world.put(HOST, Frame::from_bytes(&ip.udp(53, port, &[0; 60])));
    let story = of(&world, "203.0.113.9:53", &left);
    assert_eq!((story.reply.destination.as_str(), story.reply.packets), (left.as_str(), 1));
    assert_eq!(story.reply.left_destination, "10.1.0.2:40000");
    assert_eq!(states(&story), ["UNREPLIED", "REPLIED"]);
}

#[test]
fn what_began_before_is_told_of_the_table() {
    let mut world = world(&manifests(&["10.1.0.4"]));
    handshake(&mut world);
    world.begin_here();
    world.wait(Duration::from_secs(60));
    let story = of(&world, "10.1.0.2:40000", "10.96.0.10:80");
    assert_eq!((&story.began, story.walks.len()), (&None, 0));
    assert_eq!((story.now.is, story.now.state), ("open", Some("ESTABLISHED")));
    assert_eq!(story.backend.as_deref(), Some("10.1.0.4:8080"));
    assert_eq!((story.service.as_deref(), story.chosen_by), (Some("demo/web:http"), None));
    assert!(story.held_since.is_some());
    segment(&mut world, false, flags::ACK, (10, 2));
    let story = of(&world, "10.1.0.2:40000", "10.96.0.10:80");
    assert_eq!((&story.began, story.reply.packets, story.walks.len()), (&None, 1, 1));
}

#[test]
fn one_that_gave_way_names_whom_to() {
    let limits = Limits { pod_connections_max: 4, ..Limits::default() };
    let mut world = serving(World::with_limits(limits), &manifests(&["10.1.0.4"]));
    for port in 40_000..40_004 {
        syn(&mut world, A, port, VIP).unwrap();
    }
    syn(&mut world, A, 40_004, VIP).unwrap();
    let all = Wanted::read("10.1.0.2", VIP).unwrap();
    let newest = told(&world, &all).unwrap();
    assert_eq!((newest.source.as_str(), newest.others), ("10.1.0.2:40004", 4));
    let each: Vec<Story> = (40_000..40_004)
        .map(|port| of(&world, &format!("10.1.0.2:{port}"), "10.96.0.10:80"))
        .filter(|story| story.now.is == "ended")
        .collect();
    let [gone] = &each[..] else { panic!("{each:?}") };
    let how = gone.now.how.as_deref().unwrap();
    assert_eq!(how, "gave way to a new connection (walk 5): there was no room");
}

#[test]
fn a_walk_names_its_connection() {
    let mut world = world(&manifests(&["10.1.0.4"]));
    handshake(&mut world);
    let ip = bridged(A, B).raw(0x88b5, &[3; 50]);
    world.put(A, Frame::from_bytes(&ip));
    let file = file(&world.excerpt());
    let tuple = |walk: u64| {
        let breakpoint = recording::breakpoint::Breakpoint::read(&format!("walk={walk}")).unwrap();
        let options = Options { until: None, breakpoint: Some(breakpoint) };
        of_walk(&replayed(&file, &options, None), walk)
    };
    let one = tuple(1).unwrap();
    assert_eq!((one.src_port, one.dst_port), (40_000, 80));
    assert_eq!((tuple(2), tuple(3), tuple(4)), (Some(one), Some(one), None));
    assert_eq!(told(&world, &Wanted::exactly(&one)).unwrap().original.packets, 2);
}
