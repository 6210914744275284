//! Wireshark's own tools as judges: they find no fault in recordings, and what they write of them
//! replays as before.

use std::path::Path;
use std::process::Command;

use recording::{Excerpt, Id};

use crate::wasm::tempdir;
use crate::{bed, file, replayer, run};

fn tool(name: &str, args: &[&Path]) -> String {
    let output = Command::new(name).args(args).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} {args:?}: {errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a file replays to, and whose packets it has beside.
fn replayed(path: &Path) -> (u64, stack::journal::Chain, recording::Ending) {
    let mut replayer = replayer(&std::fs::read(path).unwrap(), 1);
    let ending = run(&mut replayer).unwrap_or_else(|problem| panic!("{path:?}: {problem}"));
    (replayer.switch().unwrap().digest(), replayer.chain(), ending)
}

#[test]
fn tools_leave_recordings_replayable() {
    let folder = tempdir();
    let path = |name: &str| folder.join(name);
    let excerpt = bed::generated(31, 300, true).excerpt();
    std::fs::write(path("one"), file(&excerpt, 1)).unwrap();
    std::fs::write(path("two"), file(&bed::generated(32, 100, false).excerpt(), 2)).unwrap();
    let (digest, chain, ending) = replayed(&path("one"));
    assert_eq!((ending.cut, ending.foreign, ending.others.len()), (false, 0, 0));

    tool("editcap", &[&path("one"), &path("copy")]);
    assert_eq!(replayed(&path("copy")), (digest, chain, ending.clone()));
    let w = Path::new("-w");
    tool("mergecap", &[w, &path("alone"), &path("one")]);
    assert_eq!(replayed(&path("alone")), (digest, chain, ending.clone()));
    tool("editcap", &[&path("alone"), &path("again")]);
    assert_eq!(replayed(&path("again")), (digest, chain, ending.clone()));

    // With a capture, whose times lie decades before.
    let golden = bed::goldens().swap_remove(0).0;
    let capture = format!("{}/golden/{golden}/in.pcapng", env!("CARGO_MANIFEST_DIR"));
    tool("mergecap", &[w, &path("both"), Path::new(&capture), &path("one")]);
    let (merged, same_chain, ending_both) = replayed(&path("both"));
    assert_eq!((merged, same_chain), (digest, chain));
    assert!(ending_both.foreign > 0 && !ending_both.cut, "{ending_both:?}");

    // Two recordings, by their times and one after the other.
    for first in [&[][..], &["-a"]] {
        let mut args: Vec<&Path> = first.iter().map(Path::new).collect();
        let (merged, one, two) = (path("merged"), path("one"), path("two"));
        args.extend([w, &merged, &one, &two]);
        tool("mergecap", &args);
        let bytes = std::fs::read(&merged).unwrap();
        let (read, start, ending) = Excerpt::read(&bytes).unwrap();
        let (first, other) = if start.id == Id(1) { (1, Id(2)) } else { (2, Id(1)) };
        assert_eq!((ending.others.as_slice(), ending.cut), (&[other][..], false));
        if first == 1 {
            assert_eq!(read, excerpt);
        }
        replayed(&merged);
    }

    // A part of it: said so, and replayed up to what is missing.
    tool("editcap", &["-r".as_ref(), &path("one"), &path("part"), "1-100".as_ref()]);
    assert!(replayed(&path("part")).2.cut);
    tool("editcap", &[&path("one"), &path("hole"), "100".as_ref()]);
    let hole = std::fs::read(path("hole")).unwrap();
    let told = run(&mut replayer(&hole, 1)).unwrap_err().to_string();
    assert!(told.contains("is missing"), "{told}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn wireshark_finds_no_fault_and_shows_what_is_there() {
    let folder = tempdir();
    let path = folder.join("one.pcapng");
    let excerpt = bed::generated(33, 300, true).excerpt();
    std::fs::write(&path, file(&excerpt, 1)).unwrap();
    let records = stack::journal::records(&excerpt.records).count();

    let capinfos = tool("capinfos", &["-M".as_ref(), &path]);
    assert!(capinfos.contains("Name = pod/demo/a"), "{capinfos}");
    assert!(capinfos.contains("Description = recording 0000000000000001, port 2"), "{capinfos}");
    assert!(
        capinfos.contains("Encapsulation = Wireshark Upper PDU export")
            || capinfos.contains("USER 0"),
        "{capinfos}"
    );
    let fields = |filter: &str, names: &[&str]| lab::tshark::fields(&path, filter, names).unwrap();
    let all = fields("", &["frame.interface_name", "frame.time_epoch", "frame.comment"]);
    // Begin, labels, one chunk of state, the end.
    assert_eq!(all.len(), records + 1 + bed::LABELS.len() + 1 + 1);
    assert!(all.iter().all(|row| !row[0].is_empty() && row[1].starts_with("17000000")));
    assert!(all.iter().any(|row| row[0] == "pod/demo/b" && row[2].contains(": port 3, ")));
    assert!(all.iter().any(|row| row[0] == "endpoint/0" && row[2].contains(": endpoint 0, ")));
    assert!(all.last().unwrap()[2].starts_with("end after "), "{:?}", all.last());
    let inbound = fields("frame.packet_flags_direction == 1", &["frame.number"]);
    let frames = stack::journal::records(&excerpt.records)
        .filter(|record| record.unwrap()[4] & 0x7f == stack::journal::Kind::Frame as u8)
        .count();
    assert_eq!(inbound.len(), frames);
    std::fs::remove_dir_all(folder).unwrap();
}
