//! Services: the semantics of Kubernetes' tests, kube-proxy's choice of backends, its masquerade.

use super::{Requirement, deviates, elsewhere, met};

pub(crate) const SEMANTICS: &[Requirement] = &[
    met(
        "SVC-01",
        "TCP, UDP and SCTP of one number are independent",
        &["svc_01_protocols_of_one_number_are_independent", "protocols_of_one_number_are_apart"],
    ),
    met(
        "SVC-02",
        "a pod keeps its address towards the backends of a cluster address",
        &["pod_to_cluster_ip", "a_pod_keeps_its_address_and_its_reply_is_bridged"],
    ),
    met("SVC-03", "who is led to itself is masqueraded", &["whoever_asks_itself_is_masqueraded"]),
    met(
        "SVC-04",
        "the node reaches cluster addresses and node ports",
        &["node_to_cluster_ip", "node_to_node_port_and_load_balancer"],
    ),
    met(
        "SVC-05",
        "without endpoints clients are refused, whatever they asked",
        &[
            "without_backends_everybody_is_refused",
            "svc_05_zero_endpoints_are_refused_and_told_everywhere",
        ],
    ),
    met(
        "SVC-06",
        "without a local one under a policy Local there is silence",
        &[
            "none_local_under_a_local_policy_is_silent",
            "svc_06_no_local_endpoint_under_a_local_policy_is_dropped",
        ],
    ),
    met(
        "SVC-07",
        "every endpoint is reached, with equal chances",
        &["svc_07_each_backend_is_seen_within_30_tries", "svc_07_choices_are_uniform"],
    ),
    met(
        "SVC-08",
        "a Service that goes is gone at once",
        &["udp_of_a_service_that_is_gone_ends_with_it", "an_address_that_no_service_has_is_silent"],
    ),
    met(
        "SVC-09",
        "with an endpoint its UDP ends; its TCP is left to die",
        &[
            "udp_of_a_backend_that_is_gone_is_led_to_another_at_once",
            "tcp_goes_on_with_a_backend_that_is_gone_and_begins_with_another",
        ],
    ),
    met(
        "SVC-10",
        "UDP that was led nowhere finds a Service that comes",
        &["udp_that_was_led_nowhere_finds_a_service_that_came"],
    ),
    met(
        "SVC-11",
        "what fits no connection never leaves untranslated",
        &["what_makes_no_sense_is_never_translated"],
    ),
    deviates(
        "SVC-12",
        "a segment amid a stream to a Service is not led to any endpoint",
        "refused by RST, where kube-proxy chooses one",
        &["amid_a_stream_nobody_is_led_anywhere"],
    ),
    met(
        "SVC-13",
        "open TCP may be idle for 24 h, half closed for 1 h",
        &["the_defaults_are_the_designs", "every_state_of_tcp_has_its_own"],
    ),
    met(
        "SVC-14",
        "datagrams in fragments are translated",
        &[
            "a_pod_asks_a_service_and_is_answered_past_the_gateway",
            "a_node_port_is_asked_from_outside",
        ],
    ),
    met(
        "SVC-15",
        "a client keeps its endpoint where the Service says so",
        &[
            "svc_15_a_client_keeps_its_backend_and_new_connections_renew_it",
            "svc_15_clients_and_services_are_told_apart",
            "svc_15_it_survives_changes_of_backends_and_ends_with_its_own",
            "svc_15_it_is_forgotten_with_the_setting_and_with_the_service",
            "svc_15_it_holds_only_where_its_backend_can_be_used",
            "affinity_has_a_default_and_bounds",
        ],
    ),
    met(
        "SVC-16",
        "endpoints are as ready as their slice says",
        &["conditions_that_are_not_given_are_good_ones"],
    ),
    met(
        "SVC-17",
        "those that serve and terminate stand in when none is ready",
        &["terminating_falls_back_by_path", "mixed_ready_and_terminating"],
    ),
    met(
        "SVC-18",
        "endpoints on this node's own address",
        &["a_host_network_backend_is_reached_at_the_node"],
    ),
    met(
        "SVC-19",
        "Services of another proxy, and headless ones, are ignored",
        &[
            "what_another_proxy_or_none_serves_gives_nothing",
            "external_names_and_headless_services_give_nothing",
        ],
    ),
    met(
        "SVC-20",
        "health is told at healthCheckNodePort",
        &[
            "health_checks_are_delivered_and_the_answer_finds_its_way",
            "a_service_says_whether_this_node_serves_it",
            "ready_endpoints_of_this_node_count_once_in_their_family",
        ],
    ),
    met(
        "SVC-21",
        "pods that terminate keep their connections",
        &[
            "which_backends_serve_whatever_else_holds",
            "tcp_goes_on_with_a_backend_that_is_gone_and_begins_with_another",
        ],
    ),
    met("SVC-22", "the node reaches its pods", &["from_the_node_to_a_pod"]),
    met(
        "SVC-23",
        "pods keep their address within the cluster and lose it outside",
        &["pods_keep_their_address_within_the_cluster_and_lose_it_outside"],
    ),
    met(
        "SVC-24",
        "a load balancer's source ranges hold before all else",
        &[
            "load_balancer_source_ranges_hold_before_anything_else",
            "source_ranges_hold_for_load_balancers_alone_and_before_all_else",
        ],
    ),
    met(
        "SVC-25",
        "SCTP is translated, its CRC32c too",
        &[
            "whoever_asks_itself_is_masqueraded",
            "translated_one_by_one_is_built_anew",
            "the_crc_of_a_packet_of_any_length",
        ],
    ),
];

pub(crate) const SELECTION: &[Requirement] = &[
    met("EP-1", "those that are ready serve", &["some_endpoints_are_ready", "no_endpoints"]),
    met(
        "EP-2",
        "when none is, those that serve and terminate, whatever the hints",
        &["only_terminating", "hints_do_not_narrow_terminating_endpoints"],
    ),
    met(
        "EP-3",
        "local ones are those of this node that are ready",
        &["local_policy_some_endpoints_are_local", "local_unready_endpoint_is_none"],
    ),
    met(
        "EP-4",
        "when none is, those of this node that serve and terminate",
        &["terminating_falls_back_by_path", "ready_local_is_preferred_to_terminating_local"],
    ),
    met(
        "EP-5",
        "the policies say which of the two lists is asked",
        &["matrix_of_clients_and_frontends", "each_policy_is_its_own"],
    ),
    met(
        "EP-6",
        "without any that can be used clients are refused",
        &["endpoints_not_ready", "terminating_but_not_serving"],
    ),
    met(
        "EP-7",
        "with some, but none local where that is asked, packets are dropped",
        &[
            "local_policy_all_endpoints_are_remote",
            "svc_06_no_local_endpoint_under_a_local_policy_is_dropped",
        ],
    ),
    met(
        "EP-8",
        "hints narrow if all ready ones have them: for this node, then this zone",
        &[
            "hints_for_zones_narrow",
            "hints_for_nodes_come_before_those_for_zones",
            "one_endpoint_without_hints_all",
            "no_endpoint_for_my_zone_all",
            "missing_zone_label_hints_are_ignored",
        ],
    ),
];

pub(crate) const MASQUERADE: &[Requirement] = &[
    met("MQ-1", "a pod to a cluster address", &["pod_to_cluster_ip"]),
    met(
        "MQ-2",
        "a pod to a node port or a load balancer's address",
        &["pod_to_node_port_and_load_balancer"],
    ),
    met("MQ-3", "the node to a cluster address", &["node_to_cluster_ip"]),
    met(
        "MQ-4",
        "the node to a node port or a load balancer's address",
        &["node_to_node_port_and_load_balancer"],
    ),
    deviates(
        "MQ-5",
        "loopback to a node port",
        "node ports are those of the node's addresses, as kube-proxy's `nftables` mode has them",
        &["each_frontend_is_found_and_nothing_beside_it"],
    ),
    met("MQ-6", "the outside to a cluster address", &["outside_to_cluster_ip"]),
    met(
        "MQ-7",
        "the outside to a node port or a load balancer's address",
        &["outside_to_node_port_and_load_balancer"],
    ),
    elsewhere("MQ-8", "without a way to tell local traffic", "the port tells who sends"),
    elsewhere("MQ-9", "`masqueradeAll`", "there is no such setting"),
    met("MQ-10", "who is led to itself", &["whoever_asks_itself_is_masqueraded"]),
    met(
        "MQ-11",
        "ready, then terminating, never what does not serve",
        &[
            "mixed_ready_and_terminating",
            "local_policy_all_remote_and_terminating",
            "serving_but_neither_ready_nor_terminating",
        ],
    ),
];
