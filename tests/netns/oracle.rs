//! The same questions to Hopscope and to the kernel with the rules of kube-proxy (mode `nftables`):
//! what the client saw, and as whom the server saw it. What differs is declared, with its reason,
//! and a declared difference that is none fails as well.

use std::collections::BTreeMap;
use std::time::Instant;

mod differences;
mod kernel;
mod place;
mod questions;
mod server;
mod services;
mod steps;

use differences::{DIFFERENCES, Difference};
use place::{Place, Switch};

/// What happened, by what was asked and by which family, 0 for IPv4.
type Seen = BTreeMap<(String, usize), String>;

/// Reasons for which Hopscope drops what is asked for here.
const DROPS: &[&str] = &[
    "ServiceNoBackend",
    "ServicePortUnknown",
    "ServiceNoneLocal",
    "ServiceAddressUnallocated",
    "ServiceSourceRefused",
    "ServiceMidStream",
    "ConntrackInvalid",
    "FragmentRefused",
    "host:RelatedUnknown",
];

/// All that is asked in one of the worlds.
fn observe(place: &Place) -> Seen {
    let began = Instant::now();
    let mut services = questions::services(place);
    place.serve(&services);
    let _servers = ["server", "other", "node", "outside"]
        .map(|name| server::Servers::new(name, place.netns(name), &place.addresses(name)));
    let mut seen = questions::ask(place, &services);
    seen.extend(steps::ask(place, &mut services));
    println!("{} questions in {:?}", seen.len(), began.elapsed());
    seen
}

/// One line for both families where they are the same.
fn folded(seen: &Seen) -> BTreeMap<&str, String> {
    let mut lines = BTreeMap::new();
    for ((asked, family), told) in seen {
        if *family == 0 {
            lines.insert(&**asked, told.clone());
        } else if lines.get(&**asked) != Some(told) {
            let both = format!("{}, but by IPv6 {told}", lines[&**asked]);
            lines.insert(asked, both);
        }
    }
    lines
}

/// Whether a text is as the pattern says, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, rest)) => text.strip_prefix(begin).is_some_and(|text| {
            (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| fits(rest, text)))
        }),
    }
}

impl Difference {
    fn covers(&self, asked: &str, kernel: &str, hopscope: &str) -> bool {
        self.asked.iter().any(|pattern| fits(pattern, asked))
            && fits(self.kernel, kernel)
            && fits(self.hopscope, hopscope)
    }
}

#[test]
fn as_with_the_kernel_and_kube_proxy() {
    let hopscope = Place::hopscope();
    let seen = observe(&hopscope);
    let Switch::Hopscope(_, world) = &hopscope.switch else { panic!("it is the one") };
    world.settle(DROPS);
    drop(hopscope);
    let kernel = {
        let _turn = crate::turn();
        observe(&Place::kernel())
    };
    let (kernel, hopscope) = (folded(&kernel), folded(&seen));
    assert!(kernel.keys().eq(hopscope.keys()), "the same is asked");
    let mut wrong = Vec::new();
    let mut met = vec![0; DIFFERENCES.len()];
    for (asked, kernel) in &kernel {
        let hopscope = &hopscope[asked];
        if kernel == hopscope {
            println!("{asked}: {kernel}");
            continue;
        }
        let line = format!("{asked}: {kernel} | {hopscope}");
        match DIFFERENCES.iter().position(|it| it.covers(asked, kernel, hopscope)) {
            Some(number) => {
                met[number] += 1;
                println!("{line} | {}", DIFFERENCES[number].reason);
            }
            None => wrong.push(line),
        }
    }
    let unmet = DIFFERENCES.iter().zip(met).filter(|(_, met)| *met == 0);
    wrong.extend(unmet.map(|(it, _)| format!("is none any more: {:?}: {}", it.asked, it.reason)));
    assert!(wrong.is_empty(), "not declared:\n{}", wrong.join("\n"));
}

#[test]
fn patterns_stand_for_what_they_say() {
    assert!(fits("* to a VIP, TCP", "node to a VIP, TCP"));
    assert!(fits("*, UDP*", "a to b, UDP of 2,000 bytes"));
    assert!(!fits("* to a VIP, TCP", "node to a VIP, UDP"));
    assert!(!fits("node to *", "a node to b"));
    assert!(fits("silence", "silence") && !fits("silence", "silence, but by IPv6 RST"));
}
