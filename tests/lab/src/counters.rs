//! The law of conservation, read from `hopctl get counters -o json`:
//! `received = forwarded + flooded + answered + delivered + dropped`, for every port.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{Error, Node, Result};

/// What became of frames: the verdicts beside drops.
const VERDICTS: &[&str] = &["forwarded", "flooded", "answered", "delivered"];

/// The counters of one port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Port {
    /// `pod/NS/NAME`, `host` or `endpoint/NAME`.
    pub name: String,
    /// Frames that came in.
    pub received: u64,
    /// Frames that went on or were answered.
    pub accounted: u64,
    /// Drops by reason.
    pub dropped: BTreeMap<String, u64>,
}

impl Port {
    /// What `received` exceeds the sum of verdicts by. 0 unless there is a bug.
    pub fn imbalance(&self) -> i128 {
        let drops: u64 = self.dropped.values().sum();
        i128::from(self.received) - i128::from(self.accounted) - i128::from(drops)
    }
}

/// Reads the counters of all ports.
///
/// # Errors
/// When hopctl fails or prints another form.
pub fn read(node: &Node) -> Result<Vec<Port>> {
    parse(&node.hopctl_json(&["get", "counters"])?)
}

fn parse(list: &Value) -> Result<Vec<Port>> {
    let items = list
        .get("items")
        .and_then(Value::as_array)
        .ok_or_else(|| Error::new(format!("counters have no items: {list}")))?;
    items.iter().map(port).collect()
}

fn port(item: &Value) -> Result<Port> {
    let missing = |key: &str| Error::new(format!("counters of a port lack {key}: {item}"));
    let count = |key: &str| item.get(key).and_then(Value::as_u64).ok_or_else(|| missing(key));
    let name = item.get("port").and_then(Value::as_str).ok_or_else(|| missing("port"))?;
    let mut accounted = 0;
    for verdict in VERDICTS {
        accounted += count(verdict)?;
    }
    let drops = item.get("dropped").and_then(Value::as_object).ok_or_else(|| missing("dropped"))?;
    let dropped = drops
        .iter()
        .map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or(u64::MAX)))
        .filter(|(_, count)| *count > 0)
        .collect();
    Ok(Port { name: name.to_owned(), received: count("received")?, accounted, dropped })
}

/// The law holds for every port, and nothing was dropped but for the reasons that a test expects.
///
/// # Errors
/// Every port and reason that is wrong.
pub fn conservation(node: &Node, expected: &[&str]) -> Result<Vec<Port>> {
    let ports = read(node)?;
    let wrong = wrong(&ports, expected);
    if wrong.is_empty() {
        return Ok(ports);
    }
    Err(Error::new(format!("counters of {}:\n{}", node.name(), wrong.join("\n"))))
}

fn wrong(ports: &[Port], expected: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for port in ports {
        if port.imbalance() != 0 {
            wrong.push(format!("{}: {} frames unaccounted for", port.name, port.imbalance()));
        }
        for (reason, count) in &port.dropped {
            if !expected.contains(&reason.as_str()) {
                wrong.push(format!("{}: {count} dropped for {reason}", port.name));
            }
        }
    }
    wrong
}

/// How often a port dropped for that reason.
pub fn drops(ports: &[Port], port: &str, reason: &str) -> u64 {
    let found = ports.iter().find(|candidate| candidate.name == port);
    found.and_then(|port| port.dropped.get(reason)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forgotten_count_and_a_strange_drop_are_found() {
        let mut list = serde_json::json!({"items": [{
            "port": "pod/default/a", "received": 10, "forwarded": 5, "flooded": 1, "answered": 2,
            "delivered": 0, "dropped": {"NoRoute": 2, "Martian": 0},
        }]});
        let ports = parse(&list).unwrap();
        assert_eq!(wrong(&ports, &["NoRoute"]), Vec::<String>::new());
        assert_eq!(wrong(&ports, &[]), ["pod/default/a: 2 dropped for NoRoute"]);
        assert_eq!(drops(&ports, "pod/default/a", "NoRoute"), 2);
        list["items"][0]["received"] = 11.into();
        let ports = parse(&list).unwrap();
        assert_eq!(wrong(&ports, &["NoRoute"]), ["pod/default/a: 1 frames unaccounted for"]);
        list["items"][0].as_object_mut().unwrap().remove("flooded");
        assert!(parse(&list).unwrap_err().to_string().contains("flooded"));
    }
}
