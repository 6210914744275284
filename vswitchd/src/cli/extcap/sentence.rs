//! The lines that an extcap program answers with: a word, then `{key=value}` several times.

use std::fmt::Write;

use stack::Stage;

use super::request::Interface;
use crate::capture::describe;

/// A line. Values have no escapes: a bracket or an end of line in one would end it.
#[derive(Debug)]
struct Sentence(String);

impl Sentence {
    fn new(word: &str) -> Self {
        Self(format!("{word} "))
    }

    fn with(mut self, key: &str, value: &str) -> Self {
        let plain = value.chars().map(|c| match c {
            '{' => '(',
            '}' => ')',
            c if c.is_control() => ' ',
            c => c,
        });
        let plain: String = plain.collect();
        // Writing into a String cannot fail.
        let written = write!(self.0, "{{{key}={plain}}}");
        debug_assert!(written.is_ok(), "a String takes any text");
        self
    }
}

fn text(sentences: impl IntoIterator<Item = Sentence>) -> String {
    sentences.into_iter().map(|Sentence(line)| format!("{line}\n")).collect()
}

/// Who answers.
fn program() -> Sentence {
    let sentence = Sentence::new("extcap").with("version", env!("CARGO_PKG_VERSION"));
    sentence.with("display", "Hopscope")
}

/// The answer to `--extcap-version`.
pub(super) fn version() -> String {
    text([program()])
}

/// The answer to `--extcap-interfaces`.
pub(super) fn interfaces(all: &[Interface]) -> String {
    let one = |interface: &Interface| {
        let sentence = Sentence::new("interface").with("value", &interface.to_string());
        sentence.with("display", &interface.display())
    };
    text([program()].into_iter().chain(all.iter().map(one)))
}

/// The answer to `--extcap-dlts`.
pub(super) fn link_types() -> String {
    let ethernet = Sentence::new("dlt").with("number", "1");
    text([ethernet.with("name", "EN10MB").with("display", "Ethernet")])
}

fn arg(number: &str, call: &str, display: &str) -> Sentence {
    let sentence = Sentence::new("arg").with("number", number).with("call", call);
    sentence.with("display", display)
}

/// The answer to `--extcap-config`: what else can be chosen than a capture filter.
pub(super) fn config(interface: &Interface) -> String {
    // Nothing is checked at first, whatever defaults Wireshark is told; so the label says it.
    let hops = match interface {
        Interface::AllHops => "After hops; none: all",
        Interface::Node | Interface::Host | Interface::Pod(_) => "After hops; none: ports",
    };
    let hops = arg("0", "--hop", hops).with("type", "multicheck");
    let values = Stage::ALL.iter().map(|stage| {
        Sentence::new("value")
            .with("arg", "0")
            .with("value", stage.name())
            .with("display", &format!("{}: {}", stage.name(), describe(*stage)))
            .with("enabled", "true")
    });
    let dropped = arg("1", "--dropped-only", "Only packets that were dropped")
        .with("type", "boolflag")
        .with("default", "false");
    let since = arg("2", "--since", "Out of the past, since")
        .with("type", "string")
        .with("placeholder", "30s, 5m; empty: what comes")
        .with("validation", "^([0-9]+(ms|s|m|h)?)?$")
        .with("tooltip", "What the journal holds, up to now, in place of what comes");
    text([hops].into_iter().chain(values).chain([dropped, since]))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a sentence apart as Wireshark does, by `\{([a-zA-Z_-]*?)=(.*?)\}(?=\{|$|\s)`.
    fn apart(line: &str) -> Vec<(String, String)> {
        let (_, rest) = line.split_once(' ').unwrap();
        let inner = rest.strip_prefix('{').unwrap().strip_suffix('}').unwrap();
        let pairs = inner.split("}{").map(|pair| pair.split_once('=').unwrap());
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn no_value_ends_early() {
        let Sentence(line) = Sentence::new("value").with("display", "a} {b}\n{c=d}{").with("x", "");
        assert_eq!(line, "value {display=a) (b) (c=d)(}{x=}");
        assert_eq!(apart(&line).len(), 2);
    }

    #[test]
    fn interfaces_are_listed_behind_the_version() {
        let all = [Interface::AllHops, Interface::Pod("demo/web".to_owned())];
        let version = env!("CARGO_PKG_VERSION");
        let expected = format!(
            "extcap {{version={version}}}{{display=Hopscope}}\n\
             interface {{value=hopscope:all-hops}}{{display=Hopscope: every hop on this node}}\n\
             interface {{value=hopscope:demo/web}}{{display=Hopscope: pod demo/web}}\n"
        );
        assert_eq!(interfaces(&all), expected);
        assert_eq!(link_types(), "dlt {number=1}{name=EN10MB}{display=Ethernet}\n");
    }

    #[test]
    fn every_stage_can_be_chosen() {
        let all: Vec<_> = Stage::ALL.iter().map(|stage| stage.name()).collect();
        for (interface, none) in [(Interface::AllHops, "all"), (Interface::Host, "ports")] {
            let text = config(&interface);
            let lines = |word: &str| -> Vec<Vec<(String, String)>> {
                let lines = text.lines().filter(|line| line.starts_with(word));
                lines.map(apart).collect()
            };
            let of = |pairs: &[(String, String)], key: &str| {
                pairs.iter().find(|(name, _)| name == key).unwrap().1.clone()
            };
            let (args, values) = (lines("arg "), lines("value "));
            let names: Vec<_> = values.iter().map(|pairs| of(pairs, "value")).collect();
            assert_eq!(names, all);
            assert!(values.iter().all(|pairs| of(pairs, "arg") == "0"));
            let numbers: Vec<_> = args.iter().map(|pairs| of(pairs, "number")).collect();
            assert_eq!(numbers, ["0", "1", "2"]);
            assert!(of(&args[0], "display").ends_with(none), "{text}");
            assert_eq!(args.len() + values.len(), text.lines().count());
        }
    }
}
