//! `hopctl get`.

use std::cmp::Ordering;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::args::{Connections, Format, Get, What};
use super::client::Client;
use super::output::Output;
use super::tables::{Row, rows};
use super::{Answer, Failure, Outcome};
use crate::admin::objects::{
    Backend, Connection, ConnectionQuery, Counter, Drop, FdbEntry, Lease, List, Neighbor, Port,
    Recording, Route, Service, Trigger,
};

/// The field of connections that the daemon sorts by.
const EXPIRES: &str = "expiresSeconds";

/// Lists.
///
/// # Errors
/// When no daemon answers, or a field to sort by does not exist.
pub async fn get(args: &Get, namespace: Option<&str>, client: &Client, output: &Output) -> Outcome {
    let wanted = connections(args, namespace)?;
    let query = if args.what == What::Conntrack { query(&wanted)? } else { String::new() };
    let list = client.get(&format!("/v1/{}{query}", name(args.what))).await?;
    let answer = show(args, namespace, list, output)?;
    if args.what == What::Recordings && !output.is_object() {
        let triggers = client.get::<List<Trigger>>("/v1/triggers").await?;
        told(&triggers.items).iter().for_each(|line| output.notice(line));
    }
    Ok(answer)
}

/// Which connections are asked for.
///
/// # Errors
/// When they are asked for of another list, or by what is none of their options: it is the daemon
/// that chooses, among more than can be shown.
pub fn connections(args: &Get, namespace: Option<&str>) -> Result<ConnectionQuery, Failure> {
    let Connections { service, pod, address, protocol, state, port, limit } = &args.connections;
    let is_conntrack = args.what == What::Conntrack;
    let query = ConnectionQuery {
        namespace: namespace.map(str::to_owned),
        service: service.as_ref().map(|service| qualified(service, namespace)),
        pod: pod.as_ref().map(|pod| qualified(pod, namespace)),
        address: address.map(|address| address.to_string()),
        protocol: protocol.clone(),
        state: state.clone(),
        port: *port,
        // By this the daemon sorts: of many connections it tells the first ones only.
        sort: args.sort_by.clone().filter(|field| is_conntrack && field == EXPIRES),
        limit: limit.and_then(|limit| usize::try_from(limit).ok()),
    };
    let plain = ConnectionQuery { namespace: query.namespace.clone(), ..Default::default() };
    if is_conntrack {
        return match &args.word {
            None => Ok(query),
            Some(word) => Err(Failure::Usage(
                format!("conntrack takes no word, and so not {word}"),
                "choose by --service, --pod, --address, --port, --protocol or --state".to_owned(),
            )),
        };
    }
    if query == plain {
        return Ok(query);
    }
    Err(Failure::Usage(
        format!("get {} has no such option", name(args.what)),
        "--service, --pod, --address, --port, --protocol, --state and --limit are those of get \
         conntrack"
            .to_owned(),
    ))
}

/// A name with its namespace.
fn qualified(name: &str, namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) if !name.contains('/') => format!("{namespace}/{name}"),
        _ => name.to_owned(),
    }
}

/// A query as addresses have it (RFC 3986 section 3.4).
fn query(wanted: &ConnectionQuery) -> Result<String, Failure> {
    let fields = serde_json::to_value(wanted).map_err(|error| Failure::Negative(error.to_string()));
    let Value::Object(fields) = fields? else { return Ok(String::new()) };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), escaped);
    let mut each: Vec<_> =
        fields.iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
    each.sort_unstable();
    Ok(format!("?{}", each.join("&")))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' => {
                escaped.push(char::from(byte));
            }
            other => escaped.push_str(&format!("%{other:02X}")),
        }
    }
    escaped
}

/// What a list of recordings does not say: who watches, and what was not recorded.
fn told(rules: &[Trigger]) -> Vec<String> {
    if rules.is_empty() {
        return vec!["no rule watches: `triggers` in the file of settings has them".to_owned()];
    }
    let silent = rules.iter().all(|rule| rule.fired == 0);
    let waiting = || format!("{} rules watch, none has fired: hopctl get triggers", rules.len());
    let suppressed = rules.iter().filter(|rule| rule.suppressed > 0).map(|rule| {
        let Trigger { rule, suppressed, every, .. } = rule;
        format!("not recorded of `{rule}`: {suppressed}, since one in {every} is")
    });
    silent.then(waiting).into_iter().chain(suppressed).collect()
}

/// What a list is called.
#[must_use]
pub fn name(what: What) -> &'static str {
    match what {
        What::Ports => "ports",
        What::Fdb => "fdb",
        What::Routes => "routes",
        What::Neighbors => "neighbors",
        What::Drops => "drops",
        What::Counters => "counters",
        What::Conntrack => "conntrack",
        What::Services => "services",
        What::Backends => "backends",
        What::Leases => "leases",
        What::Recordings => "recordings",
        What::Triggers => "triggers",
    }
}

/// Prints a list: what is chosen of it, sorted.
///
/// # Errors
/// When a field to sort by does not exist.
pub fn show(
    args: &Get,
    namespace: Option<&str>,
    mut list: List<Value>,
    output: &Output,
) -> Outcome {
    // Of connections the choice has been made already.
    if args.what != What::Conntrack {
        list.items.retain(|item| chosen(item, namespace, args.word.as_deref()));
    }
    if list.left_out > 0 {
        output.notice(&format!(
            "{} more are left out: --limit N shows more of them; --service, --pod, --address, \
             --port, --protocol and --state choose",
            list.left_out
        ));
    }
    if let Some(field) = &args.sort_by {
        sort(&mut list.items, field)?;
    }
    if output.is_object() {
        output.object(&list)?;
        return Ok(Answer::Yes);
    }
    if list.items.is_empty() {
        let none = if args.what == What::Conntrack { "connections" } else { name(args.what) };
        output.notice(&format!("no {none}"));
        return Ok(Answer::Yes);
    }
    match args.what {
        What::Ports => print::<Port>(list.items, output),
        What::Fdb => print::<FdbEntry>(list.items, output),
        What::Routes => print::<Route>(list.items, output),
        What::Neighbors => print::<Neighbor>(list.items, output),
        What::Drops => print::<Drop>(list.items, output),
        What::Counters => print::<Counter>(list.items, output),
        What::Conntrack => print::<Connection>(list.items, output),
        What::Services => print::<Service>(list.items, output),
        What::Backends => print::<Backend>(list.items, output),
        What::Leases => print::<Lease>(list.items, output),
        What::Recordings => print::<Recording>(list.items, output),
        What::Triggers => print::<Trigger>(list.items, output),
    }
}

fn print<T: Row + DeserializeOwned>(items: Vec<Value>, output: &Output) -> Outcome {
    let items = serde_json::from_value::<Vec<T>>(Value::Array(items)).map_err(|error| {
        Failure::Negative(format!(
            "the daemon's answer is not understood ({error}); compare hopctl version"
        ))
    })?;
    output.rows(&rows(&items, output.format == Format::Wide))?;
    Ok(Answer::Yes)
}

/// Whether an entry is of the namespace, if it is of any pod at all, and has the word in a field.
fn chosen(item: &Value, namespace: Option<&str>, word: Option<&str>) -> bool {
    let of = |field: &str| item.get(field).and_then(Value::as_str);
    let of_namespace = |wanted: &str| {
        let port = of("port").or_else(|| of("name"));
        match (of("namespace"), port.and_then(|port| port.strip_prefix("pod/"))) {
            (Some(namespace), _) => namespace == wanted,
            (None, Some(pod)) => pod.split_once('/').is_some_and(|(ns, _)| ns == wanted),
            (None, None) => false,
        }
    };
    namespace.is_none_or(of_namespace) && word.is_none_or(|word| contains(item, word))
}

fn contains(value: &Value, word: &str) -> bool {
    match value {
        Value::String(text) => text.to_lowercase().contains(&word.to_lowercase()),
        Value::Number(number) => number.to_string() == word,
        Value::Array(values) => values.iter().any(|value| contains(value, word)),
        Value::Object(fields) => fields.values().any(|value| contains(value, word)),
        Value::Bool(_) | Value::Null => false,
    }
}

fn sort(items: &mut [Value], field: &str) -> Result<(), Failure> {
    if let Some(Value::Object(fields)) = items.first()
        && !fields.contains_key(field)
    {
        let known: Vec<_> = fields.keys().map(String::as_str).collect();
        return Err(Failure::Usage(
            format!("--sort-by {field}: there is no such field"),
            format!("the fields are {}", known.join(", ")),
        ));
    }
    items.sort_by(|a, b| compare(a.get(field), b.get(field)));
    Ok(())
}

/// Numbers with the largest first, all else as text.
fn compare(a: Option<&Value>, b: Option<&Value>) -> Ordering {
    match (a.and_then(Value::as_u64), b.and_then(Value::as_u64)) {
        (Some(a), Some(b)) => b.cmp(&a),
        _ => a.map(Value::to_string).cmp(&b.map(Value::to_string)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::super::args::{Args, Command};
    use super::*;

    #[test]
    fn entries_are_chosen_by_namespace_and_word() {
        let port = json!({"name": "pod/demo/web", "addresses": ["10.0.0.5"], "id": 7});
        assert!(chosen(&port, None, None));
        assert!(chosen(&port, Some("demo"), Some("WEB")));
        assert!(chosen(&port, None, Some("0.0.5")));
        assert!(chosen(&port, None, Some("7")));
        assert!(!chosen(&port, Some("dem"), None));
        assert!(!chosen(&port, None, Some("10.1")));
        assert!(!chosen(&json!({"name": "host"}), Some("demo"), None));
        assert!(chosen(&json!({"namespace": "demo", "pod": "web"}), Some("demo"), None));
    }

    fn asked(words: &[&str]) -> Get {
        let all = ["hopctl", "get"].iter().chain(words);
        let command = Args::try_parse_from(all).unwrap().command;
        let Command::Get(get) = command else { panic!("{command:?}") };
        get
    }

    #[test]
    fn connections_are_chosen_by_the_daemon() {
        let get = asked(&["conntrack", "--service", "web", "--pod", "o/p", "--limit", "5"]);
        let wanted = connections(&get, Some("demo")).unwrap();
        assert_eq!(query(&wanted).unwrap(), "?limit=5&namespace=demo&pod=o/p&service=demo/web");
        let get = asked(&["ct", "--state", "syn_sent", "--port", "80", "--sort-by", EXPIRES]);
        let wanted = connections(&get, None).unwrap();
        assert_eq!(query(&wanted).unwrap(), "?port=80&sort=expiresSeconds&state=syn_sent");
        let other = connections(&asked(&["ct", "--sort-by", "state"]), None).unwrap();
        assert_eq!(other.sort, None, "all that is told is sorted here");
        let get = asked(&["ct", "--address", "fd00::1", "--protocol", "udp", "--service", "a&b"]);
        let wanted = connections(&get, None).unwrap();
        assert_eq!(query(&wanted).unwrap(), "?address=fd00::1&protocol=udp&service=a%26b");
        let refused = |words: &[&str]| match connections(&asked(words), None) {
            Err(Failure::Usage(message, _)) => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(refused(&["conntrack", "web"]), "conntrack takes no word, and so not web");
        assert_eq!(refused(&["ports", "--limit", "5"]), "get ports has no such option");
        let other = connections(&asked(&["svc", "web"]), Some("demo")).unwrap();
        assert_eq!(query(&other).unwrap(), "?namespace=demo");
    }

    #[test]
    fn sorting_needs_a_field_that_is_there() {
        let mut items = vec![json!({"n": 9, "t": "b"}), json!({"n": 10, "t": "a"})];
        sort(&mut items, "n").unwrap();
        assert_eq!(items[0]["n"], 10);
        sort(&mut items, "t").unwrap();
        assert_eq!(items[0]["t"], "a");
        assert!(
            matches!(sort(&mut items, "x"), Err(Failure::Usage(_, hint)) if hint.contains("n, t"))
        );
    }
}
