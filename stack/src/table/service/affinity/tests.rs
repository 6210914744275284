//! Who is remembered, and who goes when there is no room.

use smoltcp::wire::Ipv4Address;

use super::*;

const NOW: Instant = Instant(1_000);
const LONG: Duration = Duration(1 << 40);
const BACKEND: (IpAddress, u16) = (IpAddress::Ipv4(Ipv4Address::new(10, 1, 0, 1)), 80);

fn client(n: u32) -> IpAddress {
    Ipv4Address::from(n).into()
}

fn keep(table: &mut Affinities, n: u32, now: Instant, timeout: Duration) {
    table.keep(ServiceId(1), client(n), BACKEND, now, timeout);
}

fn has(table: &Affinities, n: u32, now: Instant) -> bool {
    table.find(ServiceId(1), &client(n), now).is_some()
}

#[test]
fn it_lasts_until_its_deadline_and_not_longer() {
    let mut table = Affinities::new(1, 64);
    keep(&mut table, 7, NOW, Duration(100));
    let row = table.find(ServiceId(1), &client(7), Instant(1_099)).unwrap();
    assert_eq!((row.backend, row.port, row.deadline), (BACKEND.0, 80, Instant(1_100)));
    assert!(!row.again);
    assert!(!has(&table, 7, Instant(1_100)));
    assert!(!has(&table, 8, NOW));
    assert_eq!(table.find(ServiceId(2), &client(7), NOW), None);
    // Again after its end is a first time; again before it is not.
    keep(&mut table, 7, Instant(1_100), Duration(100));
    assert!(!table.find(ServiceId(1), &client(7), Instant(1_100)).unwrap().again);
    keep(&mut table, 7, Instant(1_150), Duration(100));
    let row = table.find(ServiceId(1), &client(7), Instant(1_249)).unwrap();
    assert_eq!((row.deadline, row.again), (Instant(1_250), true));
    assert_eq!(table.rows().len(), 1);
}

/// Two groups to choose from: few have to go while there is room elsewhere.
#[test]
fn most_places_are_used_before_anybody_goes() {
    let mut table = Affinities::new(1, 65_536);
    (0..32_768).for_each(|n| keep(&mut table, n, NOW, LONG));
    let lost = 32_768 - table.rows().len();
    assert!(lost < 10, "half full, and {lost} are lost");
    (0..49_152).for_each(|n| keep(&mut table, n, NOW, LONG));
    let lost = 49_152 - table.rows().len();
    assert!(lost < 492, "three quarters full, and {lost} are lost");
    (0..200_000).for_each(|n| keep(&mut table, n, NOW, LONG));
    assert!(table.rows().len() > 65_500 && table.rows().slots() == 65_536);
}

/// SEC-41's like: addresses are free for who spoofs them.
#[test]
fn a_flood_of_client_addresses_pushes_out_its_own_kind() {
    let mut table = Affinities::new(1, 1_024);
    for _twice in 0..2 {
        (0..200).for_each(|n| keep(&mut table, n, NOW, LONG));
    }
    (200..300).for_each(|n| keep(&mut table, n, NOW, LONG));
    for n in 1_000..50_000 {
        keep(&mut table, n, Instant(2_000), LONG);
    }
    assert!((0..200).all(|n| has(&table, n, NOW)), "who came again stays");
    let once = (200..300).filter(|n| has(&table, *n, NOW)).count();
    assert_eq!(once, 0, "who came once is told from the flood by nothing");
    assert!(has(&table, 49_999, Instant(2_000)), "newcomers are let in");
}

#[test]
fn of_equals_the_one_that_expires_first_goes() {
    // One group: every client has all four places twice.
    let mut table = Affinities::new(1, 4);
    for (n, timeout) in [(1, 50), (2, 40), (3, 30), (4, 60)] {
        keep(&mut table, n, NOW, Duration(timeout));
    }
    keep(&mut table, 3, NOW, Duration(10));
    keep(&mut table, 5, Instant(1_005), Duration(100));
    let there = |table: &Affinities, now| [1, 2, 3, 4, 5].map(|n| has(table, n, now));
    assert_eq!(there(&table, Instant(1_005)), [true, false, true, true, true]);
    // What has expired is nobody's, whatever it was.
    keep(&mut table, 6, Instant(1_010), Duration(100));
    assert_eq!(there(&table, Instant(1_010)), [true, false, false, true, true]);
}

#[test]
fn a_table_without_room_remembers_nobody() {
    for rows in 0..4 {
        let mut table = Affinities::new(1, rows);
        keep(&mut table, 1, NOW, LONG);
        assert!(!has(&table, 1, NOW));
    }
}

#[test]
fn services_are_forgotten_and_put_back() {
    let mut table = Affinities::new(1, 64);
    (0..10).for_each(|n| keep(&mut table, n, NOW, LONG));
    table.keep(ServiceId(2), client(1), BACKEND, NOW, LONG);
    let all = |table: &Affinities| -> Vec<(usize, Affinity)> {
        table.rows().iter().map(|(place, row)| (place, *row)).collect()
    };
    let before = all(&table);
    let gone = table.forget(ServiceId(1));
    assert_eq!((gone.len(), table.rows().len()), (10, 1));
    assert!(gone.iter().all(|(place, row)| table.restore(*place, *row)));
    assert_eq!(all(&table), before);
    let (place, row) = before[0];
    assert!(!table.restore(place, row), "there already");
    let elsewhere = Affinity { client: client(99), ..row };
    let own: Vec<usize> = table.places(ServiceId(1), &client(99)).collect();
    let foreign = (0..64).find(|it| !own.contains(it) && table.rows().get(*it).is_none()).unwrap();
    assert!(!table.restore(foreign, elsewhere), "nobody would find it there");
}

#[test]
fn another_seed_is_another_layout_of_the_same() {
    let mut table = Affinities::new(1, 256);
    (0..100).for_each(|n| keep(&mut table, n, NOW, LONG));
    let places = |table: &Affinities| -> Vec<usize> {
        table.rows().iter().map(|(place, _)| place).collect()
    };
    let before = places(&table);
    table.lay_out(1, NOW);
    assert_eq!(places(&table), before);
    table.lay_out(2, NOW);
    assert_ne!(places(&table), before);
    assert!((0..100).all(|n| has(&table, n, NOW)));
}
