//! Wireshark as the judge of captures: it reads them, finds no fault, and says what is in them.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Context, Error, Result};

/// Checksums are verified, all of them; whoever wrote the file completed them. Each packet is
/// judged by itself: a file with every hop has it several times, which reassembly takes for
/// overlaps.
const PREFERENCES: &[&str] = &[
    "ip.check_checksum:TRUE",
    "tcp.check_checksum:TRUE",
    "udp.check_checksum:TRUE",
    "tcp.analyze_sequence_numbers:FALSE",
    "tcp.desegment_tcp_streams:FALSE",
    "ip.defragment:FALSE",
    "ipv6.defragment:FALSE",
];

/// What a packet is whose end was not captured.
const SHORT: &str = "_ws.short";

/// What no packet of a good capture is.
const FAULTS: &str = "_ws.malformed || _ws.expert.severity == 8388608 \
    || ip.checksum.status == 0 || tcp.checksum.status == 0 || udp.checksum.status == 0 \
    || icmp.checksum.status == 0 || icmpv6.checksum.status == 0";

/// Runs tshark on a file; it must exit with 0.
fn tshark(file: &Path, args: &[&str]) -> Result<String> {
    // What lies in a stream spans segments; the switch carries segments.
    let mut all = vec!["--disable-protocol", "http"];
    for preference in PREFERENCES {
        all.extend(["-o", preference]);
    }
    all.extend(args);
    plain(file, &all)
}

/// The same as its user has it who has set nothing.
fn plain(file: &Path, args: &[&str]) -> Result<String> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(file).stdin(Stdio::null());
    let output = command.args(args).output().context("tshark")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        return Err(Error::new(format!("tshark {}: {message}", file.display())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The values of fields of the packets that a display filter accepts (all for an empty one).
///
/// # Errors
/// tshark's.
pub fn fields(file: &Path, filter: &str, names: &[&str]) -> Result<Vec<Vec<String>>> {
    let mut args = vec!["-T", "fields", "-E", "separator=/t", "-E", "occurrence=f"];
    if !filter.is_empty() {
        args.extend(["-Y", filter]);
    }
    for name in names {
        args.extend(["-e", name]);
    }
    let text = tshark(file, &args)?;
    Ok(text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect())
}

/// Finds no fault in a capture, and at least one packet. Gives back how many.
///
/// # Errors
/// The faulty packets, as tshark lists them.
pub fn judge(file: &Path) -> Result<usize> {
    judge_by(file, &["-Y", &format!("{SHORT} || {FAULTS}")])
}

/// The same of a file that holds no more than the header windows of most frames, as recordings do.
/// What lies in their streams may be anything, which tshark would take for what it resembles.
///
/// # Errors
/// As [`judge`].
pub fn judge_windows(file: &Path) -> Result<usize> {
    let anything = ["-d", "tcp.port==1-65535,data", "-d", "udp.port==1-65535,data"];
    judge_by(file, &[&["-Y", FAULTS], &anything[..]].concat())
}

fn judge_by(file: &Path, args: &[&str]) -> Result<usize> {
    let faults = tshark(file, args)?;
    if !faults.is_empty() {
        return Err(Error::new(format!("{}: faulty packets\n{faults}", file.display())));
    }
    let all = fields(file, "", &["frame.number"])?.len();
    if all == 0 {
        return Err(Error::new(format!("{}: no packets", file.display())));
    }
    Ok(all)
}

/// What Wireshark's expert thinks is an error or worth a warning in a file whose packets are there
/// once each, with checksums verified, streams and datagrams put together: a line each, as
/// `tshark -z expert` has them.
///
/// # Errors
/// tshark's.
pub fn expert(file: &Path) -> Result<Vec<String>> {
    let mut args = vec!["-q", "-z", "expert,warn"];
    let checks = PREFERENCES.iter().filter(|preference| preference.contains("checksum"));
    args.extend(checks.flat_map(|check| ["-o", check]));
    let text = plain(file, &args)?;
    // Rows begin with how often.
    let rows = text.lines().map(str::trim);
    let rows = rows.filter(|row| row.starts_with(|first: char| first.is_ascii_digit()));
    Ok(rows.map(str::to_owned).collect())
}

/// Writes the packets that a capture filter accepts, by tshark's own means, and gives back the
/// frame numbers that it kept.
///
/// # Errors
/// tshark's.
pub fn frames_matching(file: &Path, display_filter: &str) -> Result<Vec<String>> {
    let frames = fields(file, display_filter, &["frame.number"])?;
    Ok(frames.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Namespace;
    use crate::run::Run;

    #[test]
    fn a_good_capture_passes_and_a_bad_checksum_does_not() {
        let run = Run::join().unwrap();
        let dir = run.dir("tshark").unwrap();
        let text = dir.join("in.txt");
        // ICMP echo between 10.0.0.1 and 10.0.0.2, its checksum right, then wrong in one bit.
        let good = "0000 02 00 00 00 00 02 02 00 00 00 00 01 08 00 \
                    45 00 00 1c 00 01 00 00 40 01 66 de \
                    0a 00 00 01 0a 00 00 02 08 00 f7 fd 00 01 00 01\n";
        for (bytes, fine) in [(good.to_owned(), true), (good.replace("f7 fd", "f7 fc"), false)] {
            std::fs::write(&text, bytes).unwrap();
            let file = dir.join(format!("{fine}.pcapng"));
            let names = [text.to_str().unwrap(), file.to_str().unwrap()];
            let netns = Namespace::new(&run, &format!("text2pcap-{fine}")).unwrap();
            netns.run("text2pcap", &[&["-q", "-n"], &names[..]].concat()).unwrap();
            assert_eq!(judge(&file).is_ok(), fine, "{:?}", judge(&file));
            assert_eq!(expert(&file).unwrap().is_empty(), fine, "{:?}", expert(&file));
            let sources = fields(&file, "icmp", &["ip.src", "icmp.type"]).unwrap();
            assert_eq!(sources, [["10.0.0.1", "8"]]);
        }
    }
}
