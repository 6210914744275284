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

/// Whether a text is as the pattern says, in which `*` stands for anything.
fn fits(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((begin, rest)) => text.strip_prefix(begin).is_some_and(|text| {
            (0..=text.len()).any(|at| text.get(at..).is_some_and(|text| fits(rest, text)))
        }),
    }
}

/// What `*` stands for in what was seen, nothing where there is none; `None` if that is not as the
/// pattern says. It is one thing, not several.
fn stands_for<'a>(pattern: &str, seen: &'a str) -> Option<Option<&'a str>> {
    match pattern.split_once('*') {
        None => (pattern == seen).then_some(None),
        Some((begin, end)) => {
            let one = seen.strip_prefix(begin)?.strip_suffix(end)?;
            (!one.contains(", ")).then_some(Some(one))
        }
    }
}

impl Difference {
    /// Where both sides leave something open it is the same on both.
    fn covers(&self, asked: &str, kernel: &str, hopscope: &str) -> bool {
        let both = (stands_for(self.kernel, kernel), stands_for(self.hopscope, hopscope));
        let (Some(kernel), Some(hopscope)) = both else { return false };
        let same = kernel.zip(hopscope).is_none_or(|(one, other)| one == other);
        same && self.asked.iter().any(|pattern| fits(pattern, asked))
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
    let hopscope = seen;
    assert!(kernel.keys().eq(hopscope.keys()), "the same is asked");
    let mut wrong = Vec::new();
    let mut met = vec![0; DIFFERENCES.len()];
    for (question, kernel) in &kernel {
        let ((asked, family), hopscope) = (question, &hopscope[question]);
        let six = ["", " (IPv6)"][*family];
        if kernel == hopscope {
            println!("{asked}{six}: {kernel}");
            continue;
        }
        let line = format!("{asked}{six}: {kernel} | {hopscope}");
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
    let seen = "server answers, has seen gateway, another port";
    assert_eq!(stands_for("* answers, has seen gateway, another port", seen), Some(Some("server")));
    assert_eq!(stands_for("*, another port", seen), None, "one thing only");
    assert_eq!(stands_for("silence", "silence"), Some(None));
    let kept = DIFFERENCES.iter().find(|it| it.asked == ["*"]).unwrap();
    let own = |who| format!("{who} answers, has seen gateway, its own port");
    assert!(kept.covers("a to b", seen, &own("server")));
    assert!(!kept.covers("a to b", seen, &own("other")), "whoever answers is the same");
    assert!(!kept.covers("a to b", seen, "RST"));
}
