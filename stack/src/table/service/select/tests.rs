//! kube-proxy's own cases by their names (`pkg/proxy/topology_test.go`), and those of its rules
//! that have none. Where it does not compute a list because no policy asks for it, ours is there
//! and not asked.

use alloc::vec;

use smoltcp::wire::Ipv4Address;

use super::*;

/// A backend in letters: `r`eady, `s`erving but not ready, `t`erminating, `l`ocal; a hint for this
/// `Z`one or another `z`, this `N`ode or another `n`; `0` for its weight. `-` is none of these.
fn backend(place: u8, letters: &str) -> Backend {
    let has = |letter| letters.contains(letter);
    let hint = |here, elsewhere| (has(here) || has(elsewhere)).then(|| has(here));
    Backend {
        weight: u16::from(!has('0')),
        local: has('l'),
        ready: has('r'),
        serving: has('r') || has('s'),
        terminating: has('t'),
        for_node: hint('N', 'n'),
        for_zone: hint('Z', 'z'),
        ..Backend::ready(Ipv4Address::new(10, 0, 0, place).into(), 80)
    }
}

macro_rules! cases {
    ($($name:ident: $backends:literal => $cluster:expr, $local:expr, $any:literal;)+) => {$(
        #[test]
        fn $name() {
            let backends: Vec<Backend> =
                (0..).zip($backends.split_whitespace()).map(|(n, it)| backend(n, it)).collect();
            let (cluster, local): (&[u16], &[u16]) = (&$cluster, &$local);
            let places = [cluster.to_vec(), local.to_vec()];
            assert_eq!(select(&backends), Selected { places, any: $any });
        }
    )+};
}

// Hints for zones.
cases! {
    hints_for_zones_narrow: "rZ rz rz rZ" => [0, 3], [], true;
    hints_annotation_is_ignored: "rZ rz" => [0], [], true;
    multiple_hints_count_if_one_is_this_zone: "rZ rZ rz rZ" => [0, 1, 3], [], true;
    missing_zone_label_hints_are_ignored: "r r r" => [0, 1, 2], [], true;
    node_in_different_zone_no_filtering: "rz" => [0], [], true;
    no_endpoint_for_my_zone_all: "rz rz rz" => [0, 1, 2], [], true;
    one_endpoint_without_hints_all: "rZ rz r rZ" => [0, 1, 2, 3], [], true;
    unready_endpoint_in_my_zone_is_left_out: "rZ rz rz Z" => [0], [], true;
    only_unready_endpoints_in_my_zone_no_filtering: "Z rz rz Z" => [1, 2], [], true;
    unready_endpoint_without_hints_does_not_matter: "rZ rz -" => [0], [], true;
    terminating_endpoint_without_hints_does_not_matter: "rZ rz st" => [0], [], true;
    topology_is_ignored_for_local_endpoints: "rZl rzl rz rZ" => [0, 3], [0, 1], true;
    conflicting_topology_and_localness: "rZl rzl rZ rz" => [0, 2], [0, 1], true;
    hints_do_not_narrow_terminating_endpoints: "stZ stz" => [0, 1], [], true;
}

// Hints for nodes.
cases! {
    hints_for_nodes_narrow: "rNl rn" => [0], [0], true;
    hints_for_nodes_come_before_those_for_zones: "rNZ rnZ rnz" => [0], [], true;
    no_endpoint_for_my_node_falls_back_to_the_zone: "rnZ rnz rnz" => [0], [], true;
    one_endpoint_without_node_hints_falls_back_to_the_zone: "rNZ rZ rnz" => [0, 1], [], true;
    neither_node_nor_zone_all: "rnz rnz" => [0, 1], [], true;
    an_unready_endpoint_for_my_node_does_not_count: "N rn rn" => [1, 2], [], true;
    hints_for_nodes_do_not_narrow_local_endpoints: "rnl rN" => [1], [0], true;
}

// Ready, serving, terminating; local or not (SVC-17).
cases! {
    no_endpoints: "" => [], [], false;
    endpoints_not_ready: "- -" => [], [], false;
    serving_but_neither_ready_nor_terminating: "s s" => [], [], false;
    terminating_but_not_serving: "t t" => [], [], false;
    some_endpoints_are_ready: "- r" => [1], [], true;
    local_policy_all_endpoints_are_remote: "r r" => [0, 1], [], true;
    local_policy_all_endpoints_are_local: "rl rl" => [0, 1], [0, 1], true;
    local_policy_some_endpoints_are_local: "rl r" => [0, 1], [0], true;
    only_terminating: "stl st" => [0, 1], [0], true;
    local_policy_all_remote_and_terminating: "st st" => [0, 1], [], true;
    mixed_ready_and_terminating: "r st" => [0], [], true;
    terminating_falls_back_by_path: "r l stl st" => [0], [2], true;
    ready_local_is_preferred_to_terminating_local: "rl stl" => [0], [0], true;
    local_unready_endpoint_is_none: "r l" => [0], [], true;
    ready_while_terminating_is_ready: "rt st" => [0], [], true;
}

// Weight 0, of which kube-proxy knows nothing.
cases! {
    weight_0_takes_nothing: "r r0 r" => [0, 2], [], true;
    weight_0_of_all_is_no_backends: "r0 r0l" => [], [], false;
    weight_0_of_all_ready_falls_back_to_terminating: "r0 st" => [1], [], true;
    weight_0_of_the_only_local_one: "r0l r" => [1], [], true;
    weight_0_has_no_say_in_hints: "rZ rz r0" => [0], [], true;
    weight_0_is_no_endpoint_for_my_zone: "rZ0 rz rz" => [1, 2], [], true;
}

#[test]
fn more_backends_than_places_are_left_out() {
    let many = vec![backend(0, "rl"); 70_000];
    let selected = select(&many);
    assert_eq!(selected.places.map(|places| places.len()), [65_535, 65_535]);
}
