//! The law of conservation, read from `hopctl get counters` and `get drops`:
//! `received = forwarded + flooded + answered + delivered + dropped + held`, and
//! `transmitted = written + failed + earlier`, for every port.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use crate::{Error, Node, Result};

/// What became of frames, drops apart.
const VERDICTS: &[&str] = &["forwarded", "flooded", "answered", "delivered", "held"];
/// Two readings are compared this often, for the moment in which nothing moves.
const READINGS: usize = 40;
/// Between two readings.
const PAUSE: Duration = Duration::from_millis(100);

/// The counters of one port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Port {
    /// `pod/NS/NAME`, `host` or `endpoint/NAME`.
    pub name: String,
    /// Frames that came in.
    pub received: u64,
    /// Of those: went on or were answered.
    pub accounted: u64,
    /// Of those: dropped.
    pub dropped: u64,
    /// Frames that were handed to the port's driver.
    pub transmitted: u64,
    /// Of those: written, or the write failed and was counted, or an earlier daemon's.
    pub ended: u64,
    /// Drops by reason.
    pub drops: BTreeMap<String, u64>,
}

/// Reads the counters of all ports at a moment when nothing moves.
///
/// # Errors
/// When hopctl fails, prints another form, or frames never cease.
pub fn read(node: &Node) -> Result<Vec<Port>> {
    let mut before = node.hopctl_json(&["get", "counters"])?;
    for _ in 0..READINGS {
        std::thread::sleep(PAUSE);
        let drops = node.hopctl_json(&["get", "drops"])?;
        let after = node.hopctl_json(&["get", "counters"])?;
        if before == after {
            return parse(&after, &drops);
        }
        before = after;
    }
    Err(Error::new(format!("{}: frames never cease", node.name())))
}

fn items(list: &Value) -> Result<&[Value]> {
    let items = list.get("items").and_then(Value::as_array);
    items.map(Vec::as_slice).ok_or_else(|| Error::new(format!("no items: {list}")))
}

fn text<'a>(item: &'a Value, key: &str) -> Result<&'a str> {
    let found = item.get(key).and_then(Value::as_str);
    found.ok_or_else(|| Error::new(format!("{key} is missing: {item}")))
}

fn count(item: &Value, key: &str) -> Result<u64> {
    let found = item.get(key).and_then(Value::as_u64);
    found.ok_or_else(|| Error::new(format!("{key} is missing: {item}")))
}

fn parse(counters: &Value, drops: &Value) -> Result<Vec<Port>> {
    let mut ports: Vec<Port> = items(counters)?.iter().map(port).collect::<Result<_>>()?;
    for drop in items(drops)? {
        let (name, reason) = (text(drop, "port")?, text(drop, "reason")?);
        let port = ports.iter_mut().find(|port| port.name == name);
        let port = port.ok_or_else(|| Error::new(format!("drops of no port: {drop}")))?;
        port.drops.insert(reason.to_owned(), count(drop, "count")?);
    }
    Ok(ports)
}

fn port(item: &Value) -> Result<Port> {
    let mut accounted = 0;
    for verdict in VERDICTS {
        accounted += count(item, verdict)?;
    }
    let failed = item.get("failed").and_then(Value::as_object);
    let failed = failed.ok_or_else(|| Error::new(format!("failed is missing: {item}")))?;
    Ok(Port {
        name: text(item, "port")?.to_owned(),
        received: count(item, "received")?,
        accounted,
        dropped: count(item, "dropped")?,
        transmitted: count(item, "transmitted")?,
        ended: count(item, "written")?
            + item.get("earlier").and_then(Value::as_u64).unwrap_or(0)
            + failed.values().filter_map(Value::as_u64).sum::<u64>(),
        drops: BTreeMap::new(),
    })
}

/// The laws hold for every port, and nothing was dropped but for the reasons that a test expects: a
/// reason's name, or `PORT:REASON` where only one port may.
///
/// # Errors
/// Every port and reason that is wrong.
pub fn conservation(node: &Node, expected: &[&str]) -> Result<Vec<Port>> {
    judged(node, |ports| [unbalanced(ports), unexpected(ports, expected)].concat())
}

/// The laws hold for every port, whatever was dropped.
///
/// # Errors
/// Every port that is wrong.
pub fn balance(node: &Node) -> Result<Vec<Port>> {
    judged(node, unbalanced)
}

fn judged(node: &Node, judge: impl Fn(&[Port]) -> Vec<String>) -> Result<Vec<Port>> {
    let ports = read(node)?;
    let wrong = judge(&ports);
    if wrong.is_empty() {
        return Ok(ports);
    }
    Err(Error::new(format!("counters of {}:\n{}", node.name(), wrong.join("\n"))))
}

/// What contradicts the laws.
fn unbalanced(ports: &[Port]) -> Vec<String> {
    let mut wrong = Vec::new();
    for port in ports {
        let Port { name, received, accounted, dropped, transmitted, ended, drops } = port;
        if *received != accounted + dropped {
            wrong.push(format!("{name}: {received} received, {accounted} + {dropped} explained"));
        }
        if *dropped != drops.values().sum::<u64>() {
            wrong.push(format!("{name}: {dropped} dropped, by reason {drops:?}"));
        }
        if transmitted != ended {
            wrong.push(format!("{name}: {transmitted} transmitted, {ended} written or failed"));
        }
    }
    wrong
}

/// Drops that nobody expects.
fn unexpected(ports: &[Port], expected: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for Port { name, drops, .. } in ports {
        for (reason, count) in drops {
            let here = format!("{name}:{reason}");
            let meant = |one: &&str| *one == reason || *one == here;
            if *count > 0 && !expected.iter().any(meant) {
                wrong.push(format!("{name}: {count} dropped for {reason}"));
            }
        }
    }
    wrong
}

/// How often a port dropped for that reason.
pub fn drops(ports: &[Port], port: &str, reason: &str) -> u64 {
    let found = ports.iter().find(|candidate| candidate.name == port);
    found.and_then(|port| port.drops.get(reason)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_forgotten_count_and_a_strange_drop_are_found() {
        let mut counters = json!({"items": [{
            "port": "pod/default/a", "received": 11, "forwarded": 5, "flooded": 1, "answered": 2,
            "delivered": 0, "held": 1, "dropped": 2, "transmitted": 4, "written": 3,
            "failed": {"ENOBUFS": 1},
        }]});
        let list = json!({"items": [
            {"port": "pod/default/a", "reason": "NoRoute", "count": 2},
        ]});
        let wrong = |ports: &[Port], expected: &[&str]| {
            [unbalanced(ports), unexpected(ports, expected)].concat()
        };
        let ports = parse(&counters, &list).unwrap();
        assert_eq!(wrong(&ports, &["NoRoute"]), Vec::<String>::new());
        assert_eq!(wrong(&ports, &["pod/default/a:NoRoute"]), Vec::<String>::new());
        assert_eq!(wrong(&ports, &["host:NoRoute"]).len(), 1);
        assert_eq!(wrong(&ports, &[]), ["pod/default/a: 2 dropped for NoRoute"]);
        assert_eq!(drops(&ports, "pod/default/a", "NoRoute"), 2);
        assert_eq!(wrong(&parse(&counters, &json!({"items": []})).unwrap(), &[]).len(), 1);
        counters["items"][0]["received"] = 12.into();
        counters["items"][0]["transmitted"] = 5.into();
        assert_eq!(wrong(&parse(&counters, &list).unwrap(), &["NoRoute"]).len(), 2);
        counters["items"][0].as_object_mut().unwrap().remove("flooded");
        assert!(parse(&counters, &list).unwrap_err().to_string().contains("flooded"));
    }
}
