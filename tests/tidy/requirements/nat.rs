//! Masquerade and connections: RFC 4787, 5382, 5508, 7857, 6146, 6888, and Linux's nf_conntrack.

use super::{Requirement, deviates, elsewhere, met};

/// Why mappings are as they are.
const SYMMETRIC: &str = "endpoint-dependent, as kube-proxy's masquerade";

pub(crate) const UDP: &[Requirement] = &[
    deviates(
        "4787-1",
        "a mapping is the same for every destination",
        SYMMETRIC,
        &["a_mapping_is_for_one_destination"],
    ),
    met("4787-2", "one address inside has one outside", &["a_mapping_is_for_one_destination"]),
    met(
        "4787-3",
        "no port is shared, none below 1,024 given",
        &[
            "a_port_within_the_range_is_kept_where_it_is_free",
            "when_every_port_is_taken_the_next_is_refused",
        ],
    ),
    deviates(
        "4787-4",
        "an even port stays even",
        "RFC 7857 lets go of it; nothing here speaks RTP's old way",
        &["a_port_within_the_range_is_kept_where_it_is_free"],
    ),
    deviates(
        "4787-5",
        "UDP is kept for 2 minutes at least",
        "30 s without an answer, 120 s with one, as Linux",
        &[
            "each_protocol_has_its_time_outs",
            "a_connection_past_its_deadline_is_absent_and_its_room_is_given_back",
        ],
    ),
    met("4787-6", "what goes out keeps it", &["each_protocol_has_its_time_outs"]),
    elsewhere(
        "4787-7",
        "the same ranges inside and outside",
        "pods' ranges are the cluster's; a node that has them twice is refused",
    ),
    met(
        "4787-8",
        "who answers is filtered by address and port",
        &["a_mapping_is_for_one_destination", "what_leaves_the_cluster_comes_back"],
    ),
    deviates(
        "4787-9",
        "one inside reaches another by its mapping",
        "follows from endpoint-dependent mappings; the node answers at its address",
        &["a_pods_mapping_is_nothing_to_other_pods"],
    ),
    elsewhere("4787-10", "gateways of applications can be switched off", "there are none"),
    met(
        "4787-11",
        "it never behaves in another way, under load neither",
        &["twice_the_same_and_whatever_the_table_seed"],
    ),
    met(
        "4787-12",
        "an ICMP error ends no mapping",
        &["a_routers_error_finds_the_pod_behind_the_masquerade_and_keeps_its_name"],
    ),
    met(
        "4787-13",
        "too big with DF is told, without it cut",
        &["too_big_tells_the_mtu", "a_large_packet_without_df_is_fragmented_by_the_driver"],
    ),
    met(
        "4787-14",
        "fragments are taken in any order, within bounds",
        &["what_leaves_the_cluster_comes_back", "one_datagram_holds_so_many_and_no_more"],
    ),
];

pub(crate) const TCP: &[Requirement] = &[
    deviates(
        "5382-1",
        "a mapping is the same for every destination",
        SYMMETRIC,
        &["a_mapping_is_for_one_destination"],
    ),
    met(
        "5382-2",
        "all valid sequences pass, a simultaneous open among them",
        &[
            "whoever_opens_at_once_from_both_sides_is_connected",
            "both_may_open",
            "no_segment_of_hosts_that_behave_is_invalid",
        ],
    ),
    met(
        "5382-3",
        "who answers is filtered by address and port",
        &["a_mapping_is_for_one_destination"],
    ),
    deviates(
        "5382-4",
        "an unasked SYN is not answered for 6 s",
        "it is the node's, whose kernel refuses it at once",
        &["an_unasked_syn_is_not_answered_by_the_switch"],
    ),
    deviates(
        "5382-5",
        "open for 2 h 4 min at least, between states for 4 min",
        "open for 24 h; between states as Linux, 10 s to 120 s",
        &["the_defaults_are_the_designs", "every_state_of_tcp_has_its_own"],
    ),
    elsewhere("5382-6", "gateways of applications are off", "there are none"),
    met("5382-7", "no port is shared", &["a_port_within_the_range_is_kept_where_it_is_free"]),
    deviates(
        "5382-8",
        "one inside reaches another by its mapping",
        "follows from endpoint-dependent mappings; the node answers at its address",
        &["a_pods_mapping_is_nothing_to_other_pods"],
    ),
    met(
        "5382-9",
        "ICMP errors about TCP are translated",
        &["an_error_about_tcp_finds_who_sent", "each_quotation_has_its_sum"],
    ),
    met(
        "5382-10",
        "an ICMP error ends no connection",
        &["a_routers_error_finds_the_pod_behind_the_masquerade_and_keeps_its_name"],
    ),
];

pub(crate) const ICMP: &[Requirement] = &[
    met("5508-1", "echo passes, by its identifier", &["pings_leave_by_identifier_and_come_back"]),
    deviates(
        "5508-2",
        "echo is kept for 60 s at least",
        "30 s, as Linux",
        &["each_protocol_has_its_time_outs"],
    ),
    deviates(
        "5508-3",
        "errors with wrong sums are dropped; options of the quoted header skipped",
        "sums of transit are not judged but stay wrong, so who receives it drops it",
        &["a_wrong_sum_stays_wrong", "an_icmp_errors_quotation_is_read_as_far_as_it_goes"],
    ),
    met(
        "5508-4",
        "an error from outside finds who sent, its quotation as that one sent it",
        &[
            "a_routers_error_finds_the_pod_behind_the_masquerade_and_keeps_its_name",
            "an_error_about_nothing_that_is_known_is_dropped",
        ],
    ),
    met(
        "5508-5",
        "an error from inside bears the mapping's address",
        &["a_backends_error_seems_to_come_from_its_service"],
    ),
    met(
        "5508-6",
        "an error neither prolongs nor ends",
        &["a_routers_error_finds_the_pod_behind_the_masquerade_and_keeps_its_name"],
    ),
    deviates(
        "5508-7",
        "echo and errors between two inside by their mappings",
        "follows from endpoint-dependent mappings",
        &["a_pods_mapping_is_nothing_to_other_pods"],
    ),
    deviates(
        "5508-8",
        "who finds no room is told by ICMP 3/13",
        "dropped and counted: an error for each would be as many packets more",
        &["when_every_port_is_taken_the_next_is_refused"],
    ),
    met("5508-9", "errors may be held back", &["a_port_has_its_share_of_errors"]),
    met(
        "5508-10",
        "hop limit, size and reach are told",
        &["errors_over_ipv4", "errors_over_ipv6", "too_big_tells_the_mtu"],
    ),
    met(
        "5508-11",
        "ICMP that is neither query nor error is dropped",
        &["icmp_that_is_neither_echo_nor_error_stays_within_the_cluster"],
    ),
];

pub(crate) const LATER: &[Requirement] = &[
    deviates(
        "7857-1",
        "a reset is translated, and its mapping kept for 4 min more",
        "10 s, as Linux; a reset must have the exact number to end anything",
        &[
            "a_reset_ends_a_mapping_soon_and_is_translated",
            "a_guess_within_the_window_ends_nothing",
        ],
    ),
    met(
        "7857-2",
        "one port may serve several destinations",
        &["a_port_within_the_range_is_kept_where_it_is_free"],
    ),
    met(
        "7857-3",
        "errors and resets prolong nothing",
        &[
            "a_routers_error_finds_the_pod_behind_the_masquerade_and_keeps_its_name",
            "a_guess_never_prolongs",
        ],
    ),
    met("7857-4", "ports cannot be foretold", &["ports_of_masquerade_cannot_be_foretold"]),
    deviates(
        "7857-5",
        "the identification of what may be cut is unique among those behind one address",
        "it stays as its sender chose it, and two pods may choose the same",
        &["fragments_make_up_the_packet"],
    ),
    met("7857-6", "mappings are of one protocol", &["a_mapping_is_for_one_destination"]),
    met(
        "6146-1",
        "states of a connection with its closing sides",
        &["one_after_the_other", "both_at_once", "a_fin_sent_again_is_not_the_other_sides"],
    ),
    met(
        "6888-1",
        "whoever is inside has a limit of connections",
        &["a_pod_that_begins_too_much_harms_itself_only"],
    ),
    deviates(
        "6888-2",
        "a port rests for 120 s",
        "it is free with its connection, whose time-outs stand for that",
        &["when_every_port_is_taken_the_next_is_refused"],
    ),
    met("6888-3", "ports cannot be foretold", &["ports_of_masquerade_cannot_be_foretold"]),
    met(
        "6888-4",
        "who had which port can be found out later, as far back as the journal reaches",
        &[
            "one_that_leaves_the_cluster_shows_its_masquerade_and_both_ways",
            "one_that_leaves_the_cluster_and_one_that_is_refused_say_why",
        ],
    ),
];

pub(crate) const CONNTRACK: &[Requirement] = &[
    met(
        "CT-1",
        "the table of TCP, all cells",
        &["every_cell_is_linuxs", "the_table_is_the_listing"],
    ),
    met(
        "CT-2",
        "which flag counts, and which together cannot be",
        &["the_class_goes_by_rank_and_impossible_flags_have_none"],
    ),
    met(
        "CT-3",
        "an acknowledgment takes up a connection (`tcp_loose`); not one to a Service",
        &["an_acknowledgment_takes_a_connection_up", "amid_a_stream_nobody_is_led_anywhere"],
    ),
    met(
        "CT-4",
        "windows, with their scale",
        &[
            "the_upper_bound_of_data",
            "the_lower_bound_of_data",
            "the_bounds_of_acknowledgments",
            "windows_are_scaled_when_both_offered_it",
        ],
    ),
    met(
        "CT-5",
        "after three repetitions it is kept for 300 s",
        &["three_times_again_without_an_answer"],
    ),
    met(
        "CT-6",
        "a reset needs the exact number (RFC 5961)",
        &["the_exact_number_ends_it", "a_guess_within_the_window_ends_nothing"],
    ),
    met(
        "CT-7",
        "a SYN on what is over opens anew",
        &["a_syn_on_what_is_over_is_another_connection"],
    ),
    met(
        "CT-8",
        "a SYN/ACK to an ignored SYN begins anew",
        &["a_syn_ack_to_an_ignored_syn_begins_the_connection_anew"],
    ),
    met("CT-9", "a challenge is known for one", &["a_challenge_in_last_ack_is_no_last_ack"]),
    met(
        "CT-10",
        "a FIN again is not the other side's",
        &["a_fin_sent_again_is_not_the_other_sides"],
    ),
    deviates(
        "CT-11",
        "time-outs of TCP",
        "established 24 h and CLOSE_WAIT 1 h, as kube-proxy sets Linux",
        &["the_defaults_are_the_designs", "every_state_of_tcp_has_its_own"],
    ),
    deviates(
        "CT-12",
        "time-outs of the rest",
        "UDP has 120 s from its first answer on, Linux' only after 2 s",
        &["each_protocol_has_its_time_outs"],
    ),
    deviates(
        "CT-13",
        "a wrong sum makes a packet INVALID",
        "sums of transit are not judged",
        &["a_wrong_sum_stays_wrong"],
    ),
    met(
        "CT-14",
        "SCTP: handshake, shutdown, abort, tags",
        &["a_handshake_and_a_shutdown", "a_wrong_tag_is_invalid", "an_abort_ends_it"],
    ),
    met(
        "CT-15",
        "a full table, or a pod's share of it, ends what was never answered",
        &[
            "what_is_answered_is_never_dropped_for_another",
            "a_pod_that_begins_too_much_harms_itself_only",
        ],
    ),
    deviates(
        "CT-16",
        "the kernel beside it, set as kube-proxy sets it, keeps the same",
        "UDP that was answered: 120 s",
        &["as_with_the_kernel_and_kube_proxy"],
    ),
];
