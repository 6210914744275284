//! Wireshark's own door: `hopctl` as an extcap program under tshark, and a Wireshark that `hopctl`
//! starts. tshark judges what arrives.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::process::{Output, Process};
use lab::{NodeSpec, Pod, tshark};

use crate::World;
use crate::foretell::whole;
use crate::hopctl::capturing;

/// Time that a program may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A user's home with hopctl among its Wireshark's programs.
struct Home<'a> {
    world: &'a World,
    dir: PathBuf,
}

impl<'a> Home<'a> {
    fn new(world: &'a World) -> Self {
        let home = Self { world, dir: world.netns.owner().dir("home").unwrap() };
        let told = home.shell(&world.hopctl_line("extcap install"));
        let told = told.finish(PATIENCE).unwrap().success().unwrap();
        assert_eq!(told.stdout.lines().count(), 2, "{told:?}");
        for dir in [".config", ".local/lib"] {
            let link = home.dir.join(dir).join("wireshark/extcap/hopscope-extcap");
            let line = format!("linked {} -> ", link.display());
            assert!(told.stdout.contains(&line), "{told:?}");
            assert_eq!(fs::read_link(&link).unwrap().file_name().unwrap(), "hopctl");
        }
        home
    }

    /// Runs a line on the node. Nothing outside of this home is read or written.
    fn shell(&self, line: &str) -> Process {
        let mut bash = Command::new("bash");
        bash.args(["-o", "pipefail", "-c", line]).env("HOME", &self.dir);
        bash.env("TMPDIR", &self.dir).env("HOPSCOPE_RUN_DIR", self.world.run_dir());
        for name in ["XDG_CONFIG_HOME", "XDG_DATA_HOME", "WIRESHARK_CONFIG_DIR", "SUDO_UID"] {
            bash.env_remove(name);
        }
        self.world.netns.spawn(bash).unwrap()
    }

    fn ran(&self, line: &str) -> Output {
        self.shell(line).finish(PATIENCE).unwrap()
    }

    /// The program as Wireshark calls it.
    fn program(&self) -> String {
        self.dir.join(".config/wireshark/extcap/hopscope-extcap").display().to_string()
    }

    /// Names and descriptions of our interfaces, as tshark lists them.
    fn interfaces(&self) -> Vec<String> {
        let listed = self.ran("tshark -D").success().unwrap().stdout;
        let names = listed.lines().filter_map(|line| Some(line.split_once(". ")?.1.to_owned()));
        names.filter(|name| name.starts_with("hopscope")).collect()
    }

    /// Captures with tshark into a file while `work` is done, to the count that `args` name or
    /// until it is ended as Ctrl-C would.
    fn capture(&self, name: &str, args: &str, work: impl FnOnce()) -> PathBuf {
        let file = self.world.file(name);
        let mut tshark = self.shell(&format!("exec tshark {args} -w {}", file.display()));
        tshark.wait_line(PATIENCE, |line| line.contains("Capture started")).unwrap();
        capturing(self.world, 1);
        work();
        let ended = if args.contains("-c ") {
            tshark.finish(PATIENCE)
        } else {
            // What was seen in the last moment is on its way from the ring through two pipes.
            std::thread::sleep(Duration::from_secs(1));
            tshark.interrupt(PATIENCE)
        };
        let ended = ended.unwrap().success().unwrap();
        assert!(!ended.stderr.to_lowercase().contains("error"), "{ended:?}");
        capturing(self.world, 0);
        self.clean();
        file
    }

    /// Neither Wireshark nor we leave a FIFO behind.
    fn clean(&self) {
        let left = fs::read_dir(&self.dir).unwrap().flatten().map(|entry| entry.file_name());
        let left: Vec<_> = left.filter(|name| !name.to_string_lossy().starts_with('.')).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

fn ping(from: &Pod, to: &Pod, count: &str) {
    let to = to.v4().unwrap().to_string();
    from.run("ping", &["-c", count, "-i", "0.05", "-W", "2", &to]).unwrap();
}

/// What tells packets apart: interface, id and the hop's line.
fn packets(file: &Path) -> Vec<Vec<String>> {
    let names = ["frame.interface_name", "frame.packet_id", "frame.comment", "icmp.type"];
    tshark::fields(file, "", &names).unwrap()
}

/// The interfaces of a file that have packets.
fn points(file: &Path) -> BTreeSet<String> {
    packets(file).into_iter().map(|mut packet| packet.swap_remove(0)).collect()
}

#[test]
fn tshark_captures_from_the_interfaces_that_it_lists() {
    let world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let home = Home::new(&world);
    assert_eq!(
        home.interfaces(),
        [
            "hopscope:all-hops (Hopscope: every hop on this node)",
            "hopscope:default/a (Hopscope: pod default/a)",
            "hopscope:default/b (Hopscope: pod default/b)",
            "hopscope:host (Hopscope: the node's own port)",
            "hopscope:node (Hopscope: all ports of this node)",
        ]
    );
    let beside = world.file("beside.pcapng");
    let live = world.capture(&beside, &["default/b", "icmp"]).unwrap();
    let file = world.file("pod.pcapng");
    let pod = format!("tshark -i hopscope:default/b -f icmp -c 8 -w {}", file.display());
    let pod = home.shell(&pod);
    capturing(&world, 2);
    let _server = b.serve(&["udp-echo", "--listen", "[::]:17002"]).unwrap();
    let to = crate::pods::at(b.v4().unwrap().into(), 17002);
    a.lab(&["udp-rr", "--to", &to, "--size", "100", "--count", "3"]).unwrap();
    ping(&a, &b, "2");
    pod.finish(PATIENCE).unwrap().success().unwrap();
    whole(&live.stop().unwrap());
    // Each packet at its ingress and at its egress port.
    assert_eq!(tshark::judge(&file).unwrap(), 8);
    let types: Vec<_> = packets(&file).into_iter().map(|packet| packet[3].clone()).collect();
    assert_eq!(types, ["8", "8", "0", "0", "8", "8", "0", "0"]);
    assert_eq!(packets(&file), packets(&beside));

    let hops = "-i hopscope:default/b -o extcap.hopscope_default_b.hop:l2,egress -f icmp -c 4";
    let file = home.capture("hops.pcapng", hops, || ping(&a, &b, "1"));
    assert_eq!(tshark::judge(&file).unwrap(), 4);
    assert_eq!(points(&file), ["hop/egress", "hop/l2"].map(str::to_owned).into());

    let file =
        home.capture("all.pcapng", "-i hopscope:all-hops -f icmp -c 12", || ping(&a, &b, "1"));
    let six = ["hop/conntrack", "hop/egress", "hop/l2", "hop/l3", "hop/parse", "hop/policy"];
    assert_eq!(points(&file), six.map(str::to_owned).into());
    assert_eq!(tshark::judge(&file).unwrap(), 12);

    let dropped = "-i hopscope:node -o extcap.hopscope_node.droppedonly:true -f arp -c 1";
    let file = home.capture("dropped.pcapng", dropped, || {
        ping(&a, &b, "1");
        a.attempt("ping", &["-c", "1", "-W", "0.2", "10.244.1.99"], PATIENCE).unwrap();
    });
    let lines = packets(&file);
    assert!(!lines.is_empty() && lines.iter().all(|line| line[2].contains("NeighborUnknown")));

    let host = home.capture("host.pcapng", "-i hopscope:host -f icmp -c 4", || {
        ping(&a, &b, "1");
        a.run("ping", &["-c", "1", "-W", "2", "192.0.2.11"]).unwrap();
    });
    assert_eq!(points(&host), ["host", "pod/default/a"].map(str::to_owned).into());
    world.settle(&["NeighborUnknown"]);
}

#[test]
fn the_past_comes_through_the_fifo_as_well() {
    let world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let home = Home::new(&world);
    let begun = std::time::Instant::now();
    // tshark takes a while until it asks; what was seen live shall lie behind that all the same.
    std::thread::sleep(Duration::from_secs(4));
    let args = "-i hopscope:default/a -f icmp";
    let live = home.capture("live.pcapng", &format!("{args} -c 8"), || ping(&a, &b, "2"));
    let file = world.file("past.pcapng");
    let since = format!("extcap.hopscope_default_a.since:{}ms", begun.elapsed().as_millis() + 1);
    let past = home.ran(&format!("tshark {args} -o {since} -w {}", file.display()));
    past.success().unwrap();
    assert_eq!(tshark::judge(&file).unwrap(), 8);
    assert_eq!(packets(&file), packets(&live));
    home.clean();
    world.settle(&[]);
}

#[test]
fn a_capture_ends_with_a_signal_or_its_reader() {
    let world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let home = Home::new(&world);
    let fifo = world.file("fifo");
    let file = world.file("by-hand.pcapng");
    world.netns.run("mkfifo", &[&fifo.to_string_lossy()]).unwrap();
    let capture = format!(
        "exec {} --capture --extcap-interface hopscope:all-hops --fifo {} --hop l2,egress \
         --extcap-control-in none --extcap-control-out none",
        home.program(),
        fifo.display()
    );
    let reader = home.shell(&format!("exec cat {} > {}", fifo.display(), file.display()));
    let program = home.shell(&capture);
    capturing(&world, 1);
    ping(&a, &b, "1");
    std::thread::sleep(Duration::from_millis(200));
    let ended = program.terminate(PATIENCE).unwrap().success().unwrap();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    reader.finish(PATIENCE).unwrap().success().unwrap();
    assert_eq!(tshark::fields(&file, "icmp", &["frame.number"]).unwrap().len(), 4);
    // The end is there: what each interface counted.
    let told = home.ran(&format!("capinfos {}", file.display())).success().unwrap().stdout;
    assert_eq!(told.matches("Number of stat entries = 1").count(), 2, "{told}");

    let mut reader = home.shell(&format!("exec cat {} > /dev/null", fifo.display()));
    let program = home.shell(&capture);
    capturing(&world, 1);
    assert!(reader.is_running().unwrap());
    drop(reader);
    // Though no packet comes that could not be written.
    let ended = program.finish(PATIENCE).unwrap().success().unwrap();
    assert_eq!((ended.stdout.as_str(), ended.stderr.as_str()), ("", ""));
    capturing(&world, 0);
    world.settle(&[]);
}

/// Arguments of the program, its exit code, and parts of what it says on stdout and on stderr.
type Case = (&'static str, i32, &'static str, &'static str);

const ANSWERED: [Case; 9] = [
    ("--extcap-version", 0, "extcap {version=", ""),
    ("--extcap-dlts --extcap-interface hopscope:default/a", 0, "dlt {number=1}{name=EN10MB}", ""),
    ("--extcap-config --extcap-interface hopscope:default/a", 0, "{value=egress}", ""),
    ("--extcap-interface hopscope:default/a --extcap-capture-filter 'tcp port 80'", 0, "", ""),
    (
        "--extcap-interface hopscope:default/a --extcap-capture-filter 'tcp prot 80'",
        0,
        "the filter \"tcp prot 80\" does not compile",
        "",
    ),
    ("--extcap-interface hopscope:default/a --extcap-cleanup-postkill", 0, "", ""),
    ("--help", 0, "hopctl extcap install", ""),
    ("--extcap-dlts --extcap-interface eth0", 2, "", "no interface is named eth0"),
    ("--capture --extcap-interface hopscope:node --fifo f --what", 2, "", "--what is no argument"),
];

/// Captures by tshark that are refused, and what it shows.
const REFUSED: [(&str, &str); 4] = [
    ("-i hopscope:default/a -f 'tcp prot 80'", "the filter \"tcp prot 80\" does not compile"),
    ("-i hopscope:node -o extcap.hopscope_node.hop:l9", "no hop is named \"l9\""),
    ("-i hopscope:node -o extcap.hopscope_node.since:soon", "a time is a number with"),
    ("-i hopscope:node -o extcap.hopscope_node.since:3h", "does not reach back that far"),
];

fn refused(home: &Home<'_>, cases: &[(&str, &str)]) {
    for (args, message) in cases {
        let output = home.ran(&format!("tshark {args} -c 1"));
        assert_ne!(output.code, Some(0), "{output:?}");
        assert!(output.stderr.contains(message), "{output:?}");
        assert!(!output.stderr.contains("no device"), "{output:?}");
        home.clean();
    }
}

#[test]
fn questions_are_answered_and_bad_ones_refused() {
    let mut world = World::prepare(NodeSpec::numbered(1));
    let away = [("-i hopscope:all-hops", "no daemon listens on ")];
    let always = |home: &Home<'_>| {
        let names = home.interfaces();
        let names = names.iter().filter_map(|name| name.split_once(' '));
        let names: Vec<_> = names.map(|(name, _)| name.to_owned()).collect();
        assert_eq!(names, ["hopscope:all-hops", "hopscope:host", "hopscope:node"]);
        refused(home, &away);
    };
    always(&Home::new(&world));
    world.start().unwrap();
    let [a] = world.pods(["a"]);
    let home = Home::new(&world);
    for (args, code, stdout, stderr) in ANSWERED {
        let output = home.ran(&format!("{} {args}", home.program()));
        assert_eq!(output.code, Some(code), "{output:?}");
        assert!(output.stdout.contains(stdout) && output.stderr.contains(stderr), "{output:?}");
        assert_eq!(stdout.is_empty(), output.stdout.is_empty(), "{output:?}");
        assert_eq!(stderr.is_empty(), output.stderr.is_empty(), "{output:?}");
    }
    refused(&home, &REFUSED);
    // Listed a moment ago, gone by now.
    let gone = world.file("fifo");
    fs::write(&gone, "").unwrap();
    a.remove().unwrap();
    let capture = "--capture --extcap-interface hopscope:default/a --fifo";
    let output = home.ran(&format!("{} {capture} {}", home.program(), gone.display()));
    assert_eq!(output.code, Some(2), "{output:?}");
    assert!(output.stderr.contains("no port is named pod/default/a"), "{output:?}");
    world.stop().unwrap();
    always(&Home::new(&world));
}

/// A program in Wireshark's place, in a directory that any user may enter.
struct Viewer {
    dir: PathBuf,
}

impl Viewer {
    fn new(script: &str) -> Self {
        let name = format!("hopscope-viewer-{}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
        let this = Self { dir };
        let script = script.replace("DIR", &this.dir.display().to_string());
        fs::write(this.path("program"), format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(this.path("program"), fs::Permissions::from_mode(0o755)).unwrap();
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A capture that it is to show.
    fn line(&self, world: &World, args: &str) -> String {
        let program = self.path("program");
        world.hopctl_line(&format!("capture --wireshark={} {args}", program.display()))
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.dir));
    }
}

#[test]
fn a_wireshark_of_our_own_is_fed_and_ends_the_capture() {
    let world = World::new("tap");
    let [a, b] = world.pods(["a", "b"]);
    let home = Home::new(&world);
    let begun = std::time::Instant::now();
    let viewer = Viewer::new("echo \"$* $(id -u):$(id -G) $HOME\" > DIR/told; exec cat > DIR/file");
    let line = viewer.line(&world, "default/b --hop egress -c 2 icmp");
    let hopctl = home.shell(&format!("SUDO_UID=65534 {line}"));
    capturing(&world, 1);
    ping(&a, &b, "1");
    let ended = hopctl.finish(PATIENCE).unwrap().success().unwrap();
    assert!(ended.stderr.contains("2 frames captured, 0 packets lost"), "{ended:?}");
    // Not as root, and with nothing of root's.
    let told = fs::read_to_string(viewer.path("told")).unwrap();
    assert_eq!(told, "-k -i - 65534:65534 /nonexistent\n");
    assert_eq!(tshark::judge(&viewer.path("file")).unwrap(), 2);
    drop(viewer);

    // Closed at once: so ends the capture, though nothing comes.
    let viewer = Viewer::new("head -c 28 > DIR/file");
    let ended = home.ran(&viewer.line(&world, "")).success().unwrap();
    assert!(!ended.stderr.contains("error"), "{ended:?}");
    capturing(&world, 0);
    drop(viewer);

    // Killed, with a child that still has the pipe, as Wireshark's dumpcap has.
    let viewer = Viewer::new("sleep 60 & echo $! > DIR/child; kill -9 $$");
    let ended = home.ran(&viewer.line(&world, "")).success().unwrap();
    let child = fs::read_to_string(viewer.path("child")).unwrap();
    world.netns.run("kill", &[child.trim()]).unwrap();
    assert!(!ended.stderr.contains("error"), "{ended:?}");
    drop(viewer);

    // Not read at all: the pipe is full, and Ctrl-C is heard all the same.
    let viewer = Viewer::new("echo $$ > DIR/child; exec sleep 60");
    let hopctl = home.shell(&format!("exec {}", viewer.line(&world, "")));
    capturing(&world, 1);
    let to = b.v4().unwrap().to_string();
    a.run("ping", &["-f", "-c", "300", "-s", "1400", &to]).unwrap();
    hopctl.interrupt(PATIENCE).unwrap().success().unwrap();
    let child = fs::read_to_string(viewer.path("child")).unwrap();
    world.netns.run("kill", &[child.trim()]).unwrap();
    drop(viewer);

    let since = format!("{}ms", begun.elapsed().as_millis() + 1);
    let line = world.hopctl_line(&format!("capture --wireshark=tshark --hop l2 --since {since}"));
    let past = home.ran(&format!("{line} icmp and less 200")).success().unwrap();
    assert_eq!(past.stdout.matches("Echo (ping) request").count(), 1, "{past:?}");
    assert_eq!(past.stdout.matches("Echo (ping) reply").count(), 1, "{past:?}");
    let missing = home.ran(&world.hopctl_line("capture --wireshark=/nowhere/wireshark"));
    assert_eq!(missing.code, Some(2), "{missing:?}");
    assert!(missing.stderr.contains("no program /nowhere/wireshark"), "{missing:?}");
    assert!(missing.stderr.contains("hint: install Wireshark"), "{missing:?}");
    world.settle(&[]);
}

/// What the expert says of segments that a sender on a busy machine sends twice, which the switch
/// then carries twice.
const AGAIN: [&str; 3] = ["D-SACK", "out-of-order", "retransmission"];

/// Two pods talk in all that a file may hold, each byte of it what its protocol says.
fn talk(a: &Pod, b: &Pod) {
    let _http = b.serve(&["http", "--listen", "[::]:80"]).unwrap();
    let _udp = b.serve(&["udp-echo", "--listen", "[::]:17002"]).unwrap();
    for address in b.addresses() {
        let at = |l4_port| std::net::SocketAddr::new(address, l4_port).to_string();
        a.run("ping", &["-c", "2", "-i", "0.05", "-s", "3000", &address.to_string()]).unwrap();
        a.run("curl", &["-sf", &format!("http://{}/", at(80))]).unwrap();
        a.lab(&["udp-rr", "--to", &at(17002), "--size", "3000", "--count", "2"]).unwrap();
    }
}

#[test]
fn wiresharks_own_checks_find_no_error_in_captures_and_recordings() {
    for kind in crate::KINDS {
        let world = World::new(kind);
        let [a, b] = world.pods(["a", "b"]);
        let home = Home::new(&world);
        let args = "-i hopscope:all-hops -o extcap.hopscope_all_hops.hop:egress";
        let live = home.capture("live.pcapng", args, || talk(&a, &b));
        assert!(tshark::judge(&live).unwrap() > 40);
        // Of streams and datagrams put together as well: each packet is there once.
        let mut told = tshark::expert(&live).unwrap();
        told.retain(|line| !AGAIN.iter().any(|again| line.contains(again)));
        assert_eq!(told, Vec::<String>::new(), "{kind}");
        let file = world.file("recording.pcapng");
        world.hopctl(&["record", "-w", &file.to_string_lossy()]).unwrap();
        // What is no frame has a link type of the user's.
        let mut told = tshark::expert(&file).unwrap();
        told.retain(|line| !AGAIN.iter().any(|again| line.contains(again)));
        assert!(told.iter().all(|line| line.contains("DLT=147")), "{told:?}");
        for file in [&live, &file] {
            let told = home.ran(&format!("capinfos {}", file.display())).success().unwrap();
            assert!(told.stderr.is_empty(), "{told:?}");
        }
        world.settle(&[]);
    }
}
