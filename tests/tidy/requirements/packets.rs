//! Checksums, fragments, MTU, hop limit, ICMP errors, headers, resets, ARP and ND.

use super::{Requirement, deviates, elsewhere, met};

pub(crate) const PACKETS: &[Requirement] = &[
    met(
        "CK-1",
        "sums are updated by difference, by equation 3 of RFC 1624",
        &["the_example_of_rfc_1624_section_4", "an_update_is_a_recomputation_for_all_words"],
    ),
    deviates(
        "CK-2",
        "UDP without a sum stays so, a sum of 0 is sent as ones; over IPv6 none is dropped",
        "over IPv6 one without a sum passes as it came, and its receiver drops it",
        &["a_datagram_without_checksum_stays_without", "what_becomes_zero"],
    ),
    met(
        "CK-3",
        "a pseudo-header's change is a difference, whatever was cut off",
        &["each_packet_has_its_sum", "a_step_and_the_step_back_restore_every_byte"],
    ),
    met("CK-4", "ICMPv6 has a pseudo-header, ICMP none", &["each_packet_has_its_sum"]),
    met(
        "CK-5",
        "partial sums pass, and are completed for who cannot take them",
        &["completed_before_or_behind_is_the_same", "a_quote_has_the_checksum_of_the_wire"],
    ),
    met(
        "CK-6",
        "CRC32c of SCTP by difference; a wrong one is never mended",
        &["the_crc_of_a_packet_of_any_length", "every_bit_of_the_word"],
    ),
    met(
        "FR-1",
        "fragments are translated, in any order, within bounds",
        &[
            "a_pod_asks_a_service_and_is_answered_past_the_gateway",
            "what_leaves_the_cluster_comes_back",
            "one_datagram_holds_so_many_and_no_more",
            "a_port_that_sends_too_many_harms_itself_only",
        ],
    ),
    met(
        "FR-2",
        "fragments that overlap end their datagram",
        &["overlapping_fragments_end_their_datagram"],
    ),
    met("FR-3", "one that is all of its packet stands for itself", &["fragments_have_their_place"]),
    deviates(
        "FR-4",
        "lengths that cannot be are told",
        "dropped and counted, not told",
        &["fragments_of_both_versions"],
    ),
    met("FR-5", "tiny fragments hide no header", &["fragments_of_both_versions"]),
    met(
        "MTU-1",
        "too big with DF is told, with the MTU, by the gateway",
        &["too_big_tells_the_mtu"],
    ),
    met("MTU-2", "the same over IPv6", &["too_big_tells_the_mtu"]),
    met(
        "MTU-3",
        "without DF it is cut",
        &["a_large_packet_without_df_is_fragmented_by_the_driver", "fragments_make_up_the_packet"],
    ),
    elsewhere("MTU-4", "the MTU of the way between nodes", "there is no overlay yet"),
    elsewhere("MTU-5", "the segment size is lowered in SYNs", "optional; path MTU works without"),
    met(
        "TTL-1",
        "routed costs a hop, bridged none; none left is told",
        &[
            "routed_to_the_node_with_a_hop_less",
            "bridged_between_pods_untouched",
            "errors_over_ipv4",
        ],
    ),
    met(
        "IC-1",
        "no ICMP error about errors, groups, later fragments, nobody",
        &["what_no_error_is_about", "errors_that_may_not_be_answered_are_drops"],
    ),
    deviates(
        "IC-2",
        "no ICMPv6 error about those either, Packet Too Big to a group apart",
        "none about a group at all: multicast is not routed",
        &["what_no_error_is_about"],
    ),
    deviates(
        "IC-3",
        "an error quotes up to 576 or 1,280 bytes",
        "242 bytes of the packet: what the switch sees of it",
        &["too_big_tells_the_mtu", "a_quote_ends_with_its_packet"],
    ),
    met("IC-4", "errors are limited", &["a_port_has_its_share_of_errors"]),
    met(
        "IC-5",
        "precedence 6, from the address that the sender knows",
        &[
            "errors_over_ipv4",
            "beyond_the_scope_of_its_source",
            "without_backends_everybody_is_refused",
        ],
    ),
    met(
        "IC-6",
        "no route, no such host, no such port",
        &[
            "errors_over_ipv4",
            "errors_over_ipv6",
            "a_service_without_backend_is_an_unreachable_port",
        ],
    ),
    met(
        "IP-1",
        "headers are judged before anything else",
        &["ipv4_header", "ipv6_header_and_extensions", "spoofed_ethernet_and_ip"],
    ),
    met(
        "IP-2",
        "options pass, source routes do not",
        &["ipv4_header", "headers_in_between_move_the_upper_one"],
    ),
    met(
        "TCP-1",
        "a reset is numbered by what it answers, and answers none",
        &["a_reset_is_numbered_by_what_it_answers", "what_is_never_reset"],
    ),
    met(
        "TCP-2",
        "guesses end no connection (RFC 5961)",
        &["a_guess_within_the_window_ends_nothing", "what_lies_elsewhere_is_none"],
    ),
    met(
        "ARP-1",
        "ARP and ND are answered for whom there is, and lies are dropped",
        &[
            "arp_is_answered_with_the_owners_mac",
            "neighbor_discovery_is_answered",
            "duplicate_address_detection_sees_the_conflict",
            "spoofed_arp_and_neighbor_discovery",
        ],
    ),
];
