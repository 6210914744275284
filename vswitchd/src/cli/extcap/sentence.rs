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
    let every = *interface == Interface::AllHops;
    let unchecked = match every {
        true => "With none of them, all",
        false => "With none of them, packets are shown as they enter and leave by ports",
    };
    let hops = arg("0", "--hop", "Show packets after these hops")
        .with("type", "multicheck")
        .with("tooltip", unchecked);
    let values = Stage::ALL.iter().map(|stage| {
        Sentence::new("value")
            .with("arg", "0")
            .with("value", stage.name())
            .with("display", &format!("{}: {}", stage.name(), describe(*stage)))
            .with("default", if every { "true" } else { "false" })
            .with("enabled", "true")
    });
    let dropped = arg("1", "--dropped-only", "Only packets that were dropped")
        .with("type", "boolflag")
        .with("default", "false");
    let since = arg("2", "--since", "Those since so long ago, in place of those to come")
        .with("type", "string")
        .with("placeholder", "30s")
        .with("validation", "^([0-9]+(ms|s|m|h)?)?$")
        .with("tooltip", "Such as 500ms, 30s, 5m: out of the journal, up to now");
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
        for (interface, checked) in [(Interface::AllHops, "true"), (Interface::Host, "false")] {
            let text = config(&interface);
            let values: Vec<_> = text.lines().filter(|line| line.starts_with("value ")).collect();
            assert_eq!(values.len(), Stage::ALL.len());
            for (line, stage) in values.iter().zip(Stage::ALL) {
                let pairs = apart(line);
                let of = |key: &str| &pairs.iter().find(|(name, _)| name == key).unwrap().1;
                assert_eq!((of("value").as_str(), of("default").as_str()), (stage.name(), checked));
            }
            let args: Vec<_> = text.lines().filter(|line| line.starts_with("arg ")).collect();
            for (number, line) in args.iter().enumerate() {
                assert_eq!(apart(line)[0], ("number".to_owned(), number.to_string()));
            }
            assert_eq!(args.len() + values.len(), text.lines().count());
        }
    }
}
