//! What Wireshark asks of an extcap program, by its arguments.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::args;

/// What the names of all interfaces begin with.
const PREFIX: &str = "hopscope:";

/// A form of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A person wants help.
    Help,
    /// The program's version.
    Version,
    /// All interfaces.
    Interfaces,
    /// An interface's link types.
    LinkTypes,
    /// What can be chosen of an interface.
    Config(Interface),
    /// Whether a filter is one.
    Check(String),
    /// Packets.
    Capture(Capture),
    /// Nothing: values of a choice to be listed anew, or what a killed capture may have left. The
    /// choices are fixed, and the daemon notices by itself that a reader is gone.
    Nothing,
}

/// What can be captured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Interface {
    /// All ports, after every hop.
    AllHops,
    /// All ports.
    Node,
    /// The node's own port.
    Host,
    /// A pod's port: NS/POD.
    Pod(String),
}

/// A capture into a FIFO.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Capture {
    /// Of what.
    pub(super) interface: Interface,
    /// Where packets go.
    pub(super) fifo: PathBuf,
    /// The capture filter, may be empty.
    pub(super) filter: String,
    /// Names of stages, or all; empty for the ports' own view.
    pub(super) hops: Vec<String>,
    /// Only packets that were dropped.
    pub(super) dropped_only: bool,
    /// Those since so long ago, in place of those to come.
    pub(super) since: Option<Duration>,
}

/// Arguments as they come, in any order: Wireshark sorts its own first and ours by no rule.
#[derive(Debug, Default)]
struct Arguments {
    /// Those that are words alone.
    flags: Vec<String>,
    /// Those with a value.
    values: Vec<(String, String)>,
    /// What nobody knows.
    unknown: Vec<String>,
}

/// Arguments without a value.
const FLAGS: &[&str] = &[
    "--help",
    "--version",
    "--capture",
    "--extcap-interfaces",
    "--extcap-dlts",
    "--extcap-config",
    "--extcap-cleanup-postkill",
    "--dropped-only",
];

/// Arguments with a value. The control pipes belong to toolbars, of which there is none.
const VALUES: &[&str] = &[
    "--extcap-interface",
    "--extcap-capture-filter",
    "--extcap-reload-option",
    "--extcap-control-in",
    "--extcap-control-out",
    "--fifo",
    "--hop",
    "--since",
    "--run-dir",
];

impl Request {
    /// Reads arguments, without the program's name. Gives back the run-dir that they name, too.
    ///
    /// # Errors
    /// A sentence that names the argument and what it should be.
    pub(super) fn read(args: &[String]) -> Result<(Self, Option<PathBuf>), String> {
        let args = Arguments::read(args)?;
        Ok((args.request()?, args.value("--run-dir").map(PathBuf::from)))
    }

    /// The FIFO of a capture, whatever else may be wrong with it.
    pub(super) fn fifo(args: &[String]) -> Option<PathBuf> {
        let args = Arguments::read(args).ok().filter(|args| args.has("--capture"))?;
        args.value("--fifo").map(PathBuf::from)
    }
}

impl Arguments {
    fn read(args: &[String]) -> Result<Self, String> {
        let mut read = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (arg.as_str(), None),
            };
            if name == "--extcap-version" {
                // With a value it is Wireshark's version beside another request.
                if value.is_none() {
                    read.flags.push(name.to_owned());
                }
            } else if FLAGS.contains(&name) && value.is_none() {
                read.flags.push(name.to_owned());
            } else if VALUES.contains(&name) {
                let value = value.or_else(|| args.next().cloned());
                let value = value.ok_or_else(|| format!("{name} needs a value"))?;
                read.values.push((name.to_owned(), value));
            } else {
                read.unknown.push(arg.clone());
            }
        }
        Ok(read)
    }

    fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|given| given == flag)
    }

    /// The last value that was given.
    fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().rfind(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }

    fn interface(&self) -> Result<Interface, String> {
        let name = self.value("--extcap-interface");
        let name = name.ok_or("--extcap-interface is missing; --extcap-interfaces lists them")?;
        Interface::read(name)
            .ok_or_else(|| format!("no interface is named {name}; --extcap-interfaces lists them"))
    }

    /// Only a capture minds what it does not know: later releases of Wireshark may tell more with
    /// their questions, but packets that somebody asked for otherwise are the wrong packets.
    fn request(&self) -> Result<Request, String> {
        if self.has("--capture") {
            return self.capture().map(Request::Capture);
        }
        if self.has("--help") {
            return Ok(Request::Help);
        }
        if self.has("--extcap-interfaces") {
            return Ok(Request::Interfaces);
        }
        if self.has("--extcap-dlts") {
            return self.interface().map(|_any| Request::LinkTypes);
        }
        if self.has("--extcap-cleanup-postkill") || self.value("--extcap-reload-option").is_some() {
            return Ok(Request::Nothing);
        }
        if self.has("--extcap-config") {
            return self.interface().map(Request::Config);
        }
        if let Some(filter) = self.value("--extcap-capture-filter") {
            return Ok(Request::Check(filter.to_owned()));
        }
        if self.has("--extcap-version") || self.has("--version") {
            return Ok(Request::Version);
        }
        Err("this is called by Wireshark; --help says how to see it at work".to_owned())
    }

    fn capture(&self) -> Result<Capture, String> {
        if let Some(unknown) = self.unknown.first() {
            return Err(format!("{unknown} is no argument of a capture; --help lists them"));
        }
        let fifo = self.value("--fifo").ok_or("--fifo is missing: where packets shall go")?;
        let since = self.value("--since").filter(|text| !text.is_empty());
        let since = since.map(args::duration).transpose();
        let hops = self.value("--hop").unwrap_or_default().split(',');
        Ok(Capture {
            interface: self.interface()?,
            fifo: PathBuf::from(fifo),
            filter: self.value("--extcap-capture-filter").unwrap_or_default().to_owned(),
            hops: hops.filter(|hop| !hop.is_empty()).map(str::to_owned).collect(),
            dropped_only: self.has("--dropped-only"),
            since: since.map_err(|error| format!("--since: {error}"))?,
        })
    }
}

impl Interface {
    fn read(name: &str) -> Option<Self> {
        match name.strip_prefix(PREFIX)? {
            "all-hops" => Some(Self::AllHops),
            "node" => Some(Self::Node),
            "host" => Some(Self::Host),
            pod => match pod.split_once('/')? {
                ("", _) | (_, "") => None,
                _ => Some(Self::Pod(pod.to_owned())),
            },
        }
    }

    /// What people read.
    pub(super) fn display(&self) -> String {
        match self {
            Self::AllHops => "Hopscope: every hop on this node".to_owned(),
            Self::Node => "Hopscope: all ports of this node".to_owned(),
            Self::Host => "Hopscope: the node's own port".to_owned(),
            Self::Pod(pod) => format!("Hopscope: pod {pod}"),
        }
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        match self {
            Self::AllHops => f.write_str("all-hops"),
            Self::Node => f.write_str("node"),
            Self::Host => f.write_str("host"),
            Self::Pod(pod) => f.write_str(pod),
        }
    }
}

impl From<Capture> for args::Capture {
    /// The words of `hopctl capture` for the same.
    fn from(capture: Capture) -> Self {
        let place = match &capture.interface {
            Interface::AllHops | Interface::Node => "node".to_owned(),
            Interface::Host => "port/host".to_owned(),
            Interface::Pod(pod) => format!("pod/{pod}"),
        };
        let hop = match (capture.interface, capture.hops) {
            (Interface::AllHops, hops) if hops.is_empty() => vec!["all".to_owned()],
            (_, hops) => hops,
        };
        Self {
            words: vec![place, capture.filter],
            write: None,
            wireshark: None,
            count: None,
            since: capture.since,
            duration: None,
            snaplen: 0,
            hop,
            dropped_only: capture.dropped_only,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Request, String> {
        let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        Request::read(&args).map(|(request, _)| request)
    }

    fn pod() -> Interface {
        Interface::Pod("demo/web".to_owned())
    }

    #[test]
    fn questions_are_told_apart() {
        let filter = |text: &str| Request::Check(text.to_owned());
        for (line, request) in [
            ("--extcap-interfaces", Request::Interfaces),
            ("--extcap-interfaces --extcap-version=4.0", Request::Interfaces),
            ("--extcap-version=4.4 --extcap-interfaces --later", Request::Interfaces),
            ("--extcap-dlts --extcap-interface hopscope:demo/web", Request::LinkTypes),
            ("--extcap-interface=hopscope:node --extcap-dlts", Request::LinkTypes),
            ("--extcap-config --extcap-interface hopscope:demo/web", Request::Config(pod())),
            (
                "--extcap-config --extcap-interface hopscope:host --extcap-reload-option --hop",
                Request::Nothing,
            ),
            ("--extcap-capture-filter icmp --extcap-interface hopscope:host", filter("icmp")),
            ("--extcap-interface hopscope:host --extcap-capture-filter -x", filter("-x")),
            ("--extcap-interface hopscope:host --extcap-cleanup-postkill", Request::Nothing),
            ("--extcap-version", Request::Version),
            ("--version", Request::Version),
            ("--help", Request::Help),
        ] {
            assert_eq!(read(line), Ok(request), "{line}");
        }
        for (line, part) in [
            ("", "--help"),
            ("--extcap-version=4.0", "--help"),
            ("--extcap-dlts", "--extcap-interface is missing"),
            ("--extcap-dlts --extcap-interface eth0", "no interface is named eth0"),
            ("--extcap-config --extcap-interface hopscope:web", "no interface is named"),
            ("--extcap-config --extcap-interface hopscope:/web", "no interface is named"),
            ("--extcap-config --extcap-interface", "--extcap-interface needs a value"),
        ] {
            let wrong = read(line).unwrap_err();
            assert!(wrong.contains(part), "{line}: {wrong}");
        }
    }

    #[test]
    fn a_capture_is_what_hopctl_capture_is_asked() {
        let line = "--capture --extcap-interface hopscope:demo/web --fifo /tmp/f";
        let capture = |more: &str| match read(&format!("{line} {more}")) {
            Ok(Request::Capture(capture)) => capture,
            other => panic!("{more}: {other:?}"),
        };
        let plain = Capture {
            interface: pod(),
            fifo: "/tmp/f".into(),
            filter: String::new(),
            hops: Vec::new(),
            dropped_only: false,
            since: None,
        };
        assert_eq!(capture(""), plain);
        assert_eq!(capture("--extcap-control-in a --extcap-control-out b --hop="), plain);
        let full = Capture {
            filter: "icmp".to_owned(),
            hops: vec!["l2".to_owned(), "l3".to_owned()],
            dropped_only: true,
            since: Some(Duration::from_secs(30)),
            ..plain
        };
        let more = "--hop l2,l3 --since 30s --dropped-only --extcap-capture-filter icmp";
        assert_eq!(capture(more), full);
        let asked = args::Capture::from(full);
        assert_eq!(
            (asked.words, asked.hop),
            (
                vec!["pod/demo/web".to_owned(), "icmp".to_owned()],
                vec!["l2".to_owned(), "l3".to_owned()],
            )
        );
        for (more, part) in [
            ("--since soon", "--since: a time is a number"),
            ("--mode promiscuous", "--mode is no argument"),
        ] {
            let wrong = read(&format!("{line} {more}")).unwrap_err();
            assert!(wrong.contains(part), "{more}: {wrong}");
            let args: Vec<_> = format!("{line} {more}").split(' ').map(str::to_owned).collect();
            assert_eq!(Request::fifo(&args), Some("/tmp/f".into()));
        }
        let nowhere = read("--capture --extcap-interface hopscope:node").unwrap_err();
        assert!(nowhere.contains("--fifo is missing"), "{nowhere}");
    }

    #[test]
    fn every_hop_is_what_the_interface_of_that_name_shows() {
        for (name, place, hops) in [
            ("hopscope:all-hops", "node", vec!["all"]),
            ("hopscope:node", "node", vec![]),
            ("hopscope:host", "port/host", vec![]),
            ("hopscope:demo/web", "pod/demo/web", vec![]),
        ] {
            let interface = Interface::read(name).unwrap();
            assert_eq!(interface.to_string(), name);
            let Ok(Request::Capture(capture)) =
                read(&format!("--capture --fifo f --extcap-interface {name}"))
            else {
                panic!("{name}");
            };
            let asked = args::Capture::from(capture);
            assert_eq!(
                (asked.words, asked.hop),
                (vec![place.to_owned(), String::new()], {
                    hops.into_iter().map(str::to_owned).collect::<Vec<_>>()
                })
            );
        }
    }
}
