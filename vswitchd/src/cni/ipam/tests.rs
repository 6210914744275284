//! Laws of the address pools.

use proptest::prelude::*;

use super::*;

fn pool(cidr: &str) -> Pool {
    Pool::new(Range::new(cidr.parse().unwrap()).unwrap())
}

fn address(text: &str) -> IpAddress {
    text.parse().unwrap()
}

fn draw(pool: &mut Pool) -> IpAddress {
    let (address, _) = pool.next().unwrap();
    assert!(pool.take(address), "{address} twice");
    address
}

#[test]
fn a_slash_24_holds_253_pods_in_order() {
    let mut pool = pool("10.1.2.0/24");
    assert_eq!(pool.range().gateway(), address("10.1.2.1"));
    assert_eq!(pool.range().capacity(), 253);
    let all: Vec<String> = (0..253).map(|_n| draw(&mut pool).to_string()).collect();
    assert_eq!((all[0].as_str(), all[252].as_str()), ("10.1.2.2", "10.1.2.254"));
    let full = pool.next().unwrap_err().to_string();
    assert_eq!(full, "no address is left in 10.1.2.0/24: all 253 are in use");
}

#[test]
fn the_smallest_range_holds_one() {
    let mut pool = pool("192.0.2.4/30");
    assert_eq!(draw(&mut pool), address("192.0.2.6"));
    pool.next().unwrap_err();
    let mut six = self::pool("fd00::4/126");
    assert_eq!(draw(&mut six), address("fd00::6"));
    assert_eq!(draw(&mut six), address("fd00::7"), "IPv6 has no broadcast");
    six.next().unwrap_err();
}

#[test]
fn a_slash_64_is_never_enumerated() {
    let mut pool = pool("fd00:1::/64");
    assert_eq!(pool.range().gateway(), address("fd00:1::1"));
    assert_eq!(draw(&mut pool), address("fd00:1::2"));
    assert!(pool.take(address("fd00:1::ffff:ffff:ffff:ffff")));
    assert_eq!(draw(&mut pool), address("fd00:1::3"));
    for round in 0..5_000_u64 {
        let next = draw(&mut pool);
        pool.free(Freed { address: next, at: round });
    }
    assert_eq!(pool.freed().count(), FREED_MAX);
    assert_eq!(draw(&mut pool), address("fd00:1::138c"), "never used ones go first");
}

#[test]
fn the_whole_of_ipv6_overflows_nowhere() {
    for cidr in ["::/0", "2000::/1", "0.0.0.0/0"] {
        // Whether it is a range or not: it must be said without a panic.
        drop(Range::new(cidr.parse().unwrap()));
    }
    let mut pool = pool("8000::/2");
    assert_eq!(draw(&mut pool), address("8000::2"));
}

#[test]
fn ranges_that_are_none_say_why() {
    let why = |cidr: &str| Range::new(cidr.parse().unwrap()).unwrap_err().to_string();
    assert!(why("10.1.2.3/24").ends_with("write 10.1.2.0/24"));
    assert!(why("10.1.2.0/31").contains("too small"));
    assert!(why("10.1.2.1/32").contains("too small"));
    assert!(why("fd00::/127").contains("too small"));
    assert!(why("224.0.0.0/24").contains("unicast"));
    assert!(why("ff02::/64").contains("unicast"));
    let twice: Vec<IpCidr> =
        ["10.1.0.0/24", "fd00::/64", "10.2.0.0/24"].iter().map(|t| t.parse().unwrap()).collect();
    assert!(Range::all(&twice).unwrap_err().to_string().contains("10.1.0.0/24 and 10.2.0.0/24"));
    let dual: Vec<IpCidr> =
        ["fd00::/64", "10.1.0.0/24"].iter().map(|t| t.parse().unwrap()).collect();
    assert!(!Range::all(&dual).unwrap()[0].is_v6(), "IPv4 goes first");
}

#[test]
fn requests_are_checked() {
    let mut pool = pool("10.1.2.0/24");
    draw(&mut pool);
    let why = |text: &str| pool.requested(address(text)).unwrap_err().to_string();
    assert_eq!(why("10.1.3.1"), "is outside of the node's pod range 10.1.2.0/24");
    assert_eq!(why("fd00::1"), "is outside of the node's pod range 10.1.2.0/24");
    assert_eq!(why("10.1.2.0"), "is the network address of 10.1.2.0/24");
    assert_eq!(why("10.1.2.1"), "is the gateway of 10.1.2.0/24");
    assert_eq!(why("10.1.2.255"), "is the broadcast address of 10.1.2.0/24");
    assert_eq!(why("10.1.2.2"), "is in use");
    assert_eq!(pool.requested(address("10.1.2.77")), Ok(()));
}

#[test]
fn the_longest_freed_goes_first_and_says_when() {
    let mut pool = pool("10.1.2.0/29");
    let all: Vec<IpAddress> = (0..5).map(|_n| draw(&mut pool)).collect();
    for (at, index) in [(100, 3), (200, 0), (300, 4)] {
        pool.free(Freed { address: all[index], at });
    }
    assert_eq!(pool.next().unwrap(), (all[3], Some(100)));
    assert!(pool.take(all[0]), "a requested one leaves the queue");
    assert_eq!(draw(&mut pool), all[3]);
    assert_eq!(draw(&mut pool), all[4]);
    pool.next().unwrap_err();
}

#[derive(Clone, Debug)]
enum Step {
    Take,
    Request(u8),
    Free(u8),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => Just(Step::Take),
        1 => any::<u8>().prop_map(Step::Request),
        4 => any::<u8>().prop_map(Step::Free),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 0..200)
}

/// What is written down and read again at a restart.
fn restarted(pool: &Pool, used: &[IpAddress]) -> Pool {
    let mut again = Pool::new(*pool.range());
    for freed in pool.freed() {
        again.free(freed);
    }
    again.set_cursor(pool.cursor());
    for address in used {
        assert!(again.take(*address));
    }
    again
}

proptest! {
    /// Against a model that keeps, for each address, when it was last used: none is given out
    /// twice, none is given out while one lies idle for longer, and the range is full exactly when
    /// all are used.
    #[test]
    fn the_pool_is_the_model(steps in steps()) {
        let mut pool = pool("10.0.0.0/28");
        let hosts: Vec<IpAddress> = (2..15).map(|n| address(&format!("10.0.0.{n}"))).collect();
        let mut used: Vec<IpAddress> = Vec::new();
        let mut last_freed: BTreeMap<IpAddress, usize> = BTreeMap::new();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Take => match pool.next() {
                    Ok((address, freed)) => {
                        prop_assert!(!used.contains(&address));
                        let idle = hosts.iter().filter(|host| !used.contains(host));
                        let oldest = idle.map(|host| last_freed.get(host)).min().unwrap();
                        prop_assert_eq!(last_freed.get(&address), oldest);
                        prop_assert_eq!(freed, oldest.map(|at| *at as u64));
                        prop_assert!(pool.take(address));
                        used.push(address);
                    }
                    Err(_full) => prop_assert_eq!(used.len(), hosts.len()),
                },
                Step::Request(n) => {
                    let address = address(&format!("10.0.0.{n}"));
                    let free = hosts.contains(&address) && !used.contains(&address);
                    prop_assert_eq!(pool.requested(address).is_ok(), free);
                    if free {
                        prop_assert!(pool.take(address));
                        used.push(address);
                    }
                }
                Step::Free(n) if !used.is_empty() => {
                    let address = used.swap_remove(usize::from(n) % used.len());
                    pool.free(Freed { address, at: at as u64 });
                    last_freed.insert(address, at);
                }
                Step::Free(_) => {}
                Step::Restart => pool = restarted(&pool, &used),
            }
            prop_assert_eq!(pool.used(), used.len());
        }
    }
}
