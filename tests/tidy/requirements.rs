//! What Kubernetes, kube-proxy, Linux and the RFCs ask for, requirement by requirement, with the
//! tests that show it: CONFORMANCE.md is generated from here. None is left out, each test that is
//! named exists, and the page is up to date.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::generated::up_to_date;
use crate::tree::{files, none};

#[path = "requirements/nat.rs"]
mod nat;
#[path = "requirements/packets.rs"]
mod packets;
#[path = "requirements/services.rs"]
mod services;

/// A requirement, in words of our own.
pub(crate) struct Requirement {
    id: &'static str,
    what: &'static str,
    status: Status,
    /// Tests that show it, or what there is instead.
    tests: &'static [&'static str],
}

/// How it is.
enum Status {
    Met,
    /// It is another way, for that reason.
    Deviates(&'static str),
    /// It asks for something that this switch does not have.
    Elsewhere(&'static str),
}

pub(crate) const fn met(
    id: &'static str,
    what: &'static str,
    tests: &'static [&'static str],
) -> Requirement {
    Requirement { id, what, status: Status::Met, tests }
}

pub(crate) const fn deviates(
    id: &'static str,
    what: &'static str,
    why: &'static str,
    tests: &'static [&'static str],
) -> Requirement {
    Requirement { id, what, status: Status::Deviates(why), tests }
}

pub(crate) const fn elsewhere(
    id: &'static str,
    what: &'static str,
    why: &'static str,
) -> Requirement {
    Requirement { id, what, status: Status::Elsewhere(why), tests: &[] }
}

/// Requirements of one source.
struct Part {
    heading: &'static str,
    /// How ids begin, and how many there are: `SVC-` and 25 are `SVC-01` to `SVC-25`.
    ids: &'static [(&'static str, usize)],
    requirements: &'static [Requirement],
}

const PARTS: &[Part] = &[
    Part {
        heading: "Services, as Kubernetes' own tests expect them",
        ids: &[("SVC-", 25)],
        requirements: services::SEMANTICS,
    },
    Part {
        heading: "Which backends serve (kube-proxy)",
        ids: &[("EP-", 8)],
        requirements: services::SELECTION,
    },
    Part {
        heading: "Who is led where, and whose address is hidden (kube-proxy)",
        ids: &[("MQ-", 11)],
        requirements: services::MASQUERADE,
    },
    Part { heading: "NAT of UDP (RFC 4787)", ids: &[("4787-", 14)], requirements: nat::UDP },
    Part { heading: "NAT of TCP (RFC 5382)", ids: &[("5382-", 10)], requirements: nat::TCP },
    Part { heading: "NAT of ICMP (RFC 5508)", ids: &[("5508-", 11)], requirements: nat::ICMP },
    Part {
        heading: "NAT, later (RFC 7857, 6146, 6888)",
        ids: &[("7857-", 6), ("6146-", 1), ("6888-", 4)],
        requirements: nat::LATER,
    },
    Part {
        heading: "Connection tracking (Linux)",
        ids: &[("CT-", 16)],
        requirements: nat::CONNTRACK,
    },
    Part {
        heading: "Checksums, fragments, MTU, hop limit, ICMP",
        ids: &[
            ("CK-", 6),
            ("FR-", 5),
            ("MTU-", 5),
            ("TTL-", 1),
            ("IC-", 6),
            ("IP-", 2),
            ("TCP-", 2),
            ("ARP-", 1),
        ],
        requirements: packets::PACKETS,
    },
];

/// The tests of the tree: functions, and cases of macros in files that make tests by them.
fn tests() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files().iter().filter(|file| file.is_rust()) {
        let by_macro = file.text.contains("macro_rules! cases");
        let mut is_test = false;
        for line in file.text.lines().map(str::trim) {
            let name = line.split_once("fn ").map(|(_, rest)| rest);
            if let (true, Some((name, _))) = (is_test, name.and_then(|it| it.split_once('('))) {
                names.insert(name.to_owned());
            }
            is_test = line == "#[test]" || (is_test && line.starts_with("#["));
            if let (true, Some((name, _))) = (by_macro, line.split_once(": \"")) {
                names.insert(name.to_owned());
            }
        }
    }
    names
}

fn expected(ids: &[(&str, usize)]) -> Vec<String> {
    // Numbers below ten have a zero where there are ten and more, except those of RFCs.
    let id = |begin: &str, count: usize, number: usize| {
        let is_padded = begin == "SVC-" && count > 9;
        if is_padded { format!("{begin}{number:02}") } else { format!("{begin}{number}") }
    };
    ids.iter()
        .flat_map(|(begin, count)| (1..=*count).map(move |number| id(begin, *count, number)))
        .collect()
}

#[test]
fn no_requirement_is_left_out() {
    for part in PARTS {
        let ids: Vec<&str> = part.requirements.iter().map(|it| it.id).collect();
        assert_eq!(ids, expected(part.ids), "{}", part.heading);
    }
}

#[test]
fn every_requirement_is_shown_by_tests_that_exist() {
    let tests = tests();
    let mut found = Vec::new();
    for it in PARTS.iter().flat_map(|part| part.requirements) {
        for test in it.tests.iter().filter(|test| !tests.contains(**test)) {
            found.push(format!("{}: there is no test {test}", it.id));
        }
        if matches!(it.status, Status::Met) && it.tests.is_empty() {
            found.push(format!("{} is said to be met and names no test", it.id));
        }
    }
    none("requirements name their tests:", &found);
}

fn page() -> String {
    let all = || PARTS.iter().flat_map(|part| part.requirements);
    let count = |of: fn(&Status) -> bool| all().filter(|it| of(&it.status)).count();
    let mut text = format!(
        "\n{} requirements: {} met, {} deviated from, {} not for this switch.\n",
        all().count(),
        count(|status| matches!(status, Status::Met)),
        count(|status| matches!(status, Status::Deviates(_))),
        count(|status| matches!(status, Status::Elsewhere(_))),
    );
    for part in PARTS {
        write!(text, "\n## {}\n\n", part.heading).expect("a string takes text");
        text.push_str("| id | what is asked for | status | tests |\n| --- | --- | --- | --- |\n");
        for Requirement { id, what, status, tests } in part.requirements {
            let status = match status {
                Status::Met => "met".to_owned(),
                Status::Deviates(why) => format!("deviates: {why}"),
                Status::Elsewhere(why) => format!("not here: {why}"),
            };
            let tests: Vec<String> = tests.iter().map(|test| format!("`{test}`")).collect();
            writeln!(text, "| {id} | {what} | {status} | {} |", tests.join(", "))
                .expect("a string takes text");
        }
    }
    text.push('\n');
    text
}

#[test]
fn the_page_is_up_to_date() {
    let marks = ["<!-- requirements:begin -->", "<!-- requirements:end -->"];
    up_to_date("CONFORMANCE.md", marks, &page());
}

#[test]
fn tests_are_found_by_their_attribute() {
    let names = tests();
    assert!(names.contains("tests_are_found_by_their_attribute"));
    assert!(names.contains("hints_for_zones_narrow"), "a case of a macro");
    assert!(!names.contains("page"), "no test");
}
