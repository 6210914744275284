//! What if nothing were changed? Then nothing is: the second switch ends in the state of the first,
//! whatever came in.

use recording::Turn;
use recording::whatif::{Instead, WhatIf};
use stack::ServiceId;

use crate::{corpus, file, replayer};

#[test]
fn with_the_same_services_the_second_switch_is_the_first() {
    for (name, excerpt) in corpus() {
        let mut replayer = replayer(&file(&excerpt, 1), 1);
        let (mut whatif, mut adopted) = (WhatIf::default(), false);
        loop {
            match replayer.turn().unwrap() {
                Turn::Started => whatif.begin(&replayer),
                Turn::Done(done) => whatif.take(&replayer, &done),
                Turn::End(_) => break,
                turn @ (Turn::Starved | Turn::Limit) => panic!("{turn:?}"),
            }
            if whatif.is_due(&replayer) {
                let services = replayer.switch().unwrap().config().services;
                let stay_from = ServiceId(1 << 31);
                whatif.adopt(Instead { services, ranges: Vec::new(), stay_from }).unwrap();
                adopted = true;
            }
        }
        let (switch, other) = (replayer.switch().unwrap(), whatif.other().unwrap());
        assert!(adopted, "{name}");
        assert_eq!(other.dump(), switch.dump(), "{name}");
        assert_eq!(other.digest(), switch.digest(), "{name}");
        let report = whatif.report();
        assert_eq!((report.differ(), report.beyond, &report.refused), (0, 0, &None), "{name}");
        assert!(report.frames >= report.connections, "{name}");
    }
}
