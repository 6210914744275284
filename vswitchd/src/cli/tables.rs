//! Columns of each list.

use std::collections::BTreeMap;
use std::time::Duration;

use super::output::{Rows, Tone, age};
use crate::admin::objects::{
    Backend, Connection, Counter, Drop, FdbEntry, Lease, Neighbor, Port, Recording, Route, Service,
    Trigger,
};

/// An object that is a row of a table.
pub trait Row {
    /// Column names, those for `-o wide` last, and how many of them are always shown.
    const HEADER: (&'static [&'static str], usize);

    /// The cells, as many as column names.
    fn cells(&self) -> Vec<String>;

    /// How the row is meant.
    fn tone(&self) -> Tone {
        Tone::Plain
    }
}

/// A table of objects.
#[must_use]
pub fn rows<T: Row>(items: &[T], wide: bool) -> Rows {
    let (names, narrow) = T::HEADER;
    let shown = if wide { names.len() } else { narrow };
    let cells = |item: &T| item.cells().into_iter().take(shown).collect();
    Rows {
        header: names.iter().copied().take(shown).collect(),
        rows: items.iter().map(|item| (item.tone(), cells(item))).collect(),
    }
}

impl Row for Port {
    const HEADER: (&'static [&'static str], usize) = (
        &[
            "NAME",
            "TYPE",
            "UP",
            "ADDRESSES",
            "RECEIVED",
            "TRANSMITTED",
            "DROPPED",
            "AGE",
            "ID",
            "LINK",
            "MAC",
            "MTU",
            "INTERFACE",
            "CONTAINER",
            "ALLOWED",
        ],
        8,
    );

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.r#type.clone(),
            yes(self.up),
            listed(&self.addresses),
            self.received.to_string(),
            self.transmitted.to_string(),
            self.dropped.to_string(),
            aged(self.age_seconds),
            self.id.to_string(),
            optional(self.link.as_ref()),
            self.mac.clone(),
            self.mtu.to_string(),
            optional(self.interface.as_ref()),
            optional(self.container_id.as_ref()).chars().take(12).collect(),
            listed(&self.allowed),
        ]
    }

    fn tone(&self) -> Tone {
        if self.up { Tone::Plain } else { Tone::Bad }
    }
}

impl Row for FdbEntry {
    const HEADER: (&'static [&'static str], usize) = (&["MAC", "PORT", "TYPE"], 3);

    fn cells(&self) -> Vec<String> {
        vec![self.mac.clone(), self.port.clone(), self.r#type.clone()]
    }
}

impl Row for Route {
    const HEADER: (&'static [&'static str], usize) = (&["PREFIX", "TYPE", "PORT"], 3);

    fn cells(&self) -> Vec<String> {
        vec![self.prefix.clone(), self.r#type.clone(), optional(self.port.as_ref())]
    }
}

impl Row for Neighbor {
    const HEADER: (&'static [&'static str], usize) = (&["ADDRESS", "MAC", "PORT"], 3);

    fn cells(&self) -> Vec<String> {
        vec![self.address.clone(), self.mac.clone(), self.port.clone()]
    }
}

impl Row for Drop {
    const HEADER: (&'static [&'static str], usize) =
        (&["COUNT", "REASON", "PORT", "WHAT HAPPENED", "CODE", "CLASS", "WHAT TO DO"], 4);

    fn cells(&self) -> Vec<String> {
        vec![
            self.count.to_string(),
            self.reason.clone(),
            self.port.clone(),
            self.text.clone(),
            self.code.to_string(),
            self.class.clone(),
            self.hint.clone(),
        ]
    }

    fn tone(&self) -> Tone {
        if self.class == "bug" { Tone::Bad } else { Tone::Plain }
    }
}

impl Row for Counter {
    const HEADER: (&'static [&'static str], usize) = (
        &[
            "PORT",
            "RECEIVED",
            "FORWARDED",
            "FLOODED",
            "ANSWERED",
            "DELIVERED",
            "DROPPED",
            "TRANSMITTED",
            "FAILED",
            "LOST",
            "RECEIVED BYTES",
            "TRANSMITTED BYTES",
            "WRITTEN",
            "RECEIVE FAILED",
            "HELD",
        ],
        10,
    );

    fn cells(&self) -> Vec<String> {
        vec![
            self.port.clone(),
            self.received.to_string(),
            self.forwarded.to_string(),
            self.flooded.to_string(),
            self.answered.to_string(),
            self.delivered.to_string(),
            self.dropped.to_string(),
            self.transmitted.to_string(),
            errors(&self.failed),
            self.lost.to_string(),
            self.received_bytes.to_string(),
            self.transmitted_bytes.to_string(),
            self.written.to_string(),
            errors(&self.receive_failed),
            self.held.to_string(),
        ]
    }
}

impl Row for Lease {
    const HEADER: (&'static [&'static str], usize) =
        (&["ADDRESS", "POD", "INTERFACE", "AGE", "CONTAINER"], 4);

    fn cells(&self) -> Vec<String> {
        vec![
            self.address.clone(),
            format!("{}/{}", self.namespace, self.pod),
            self.interface.clone(),
            aged(self.age_seconds),
            self.container_id.clone(),
        ]
    }
}

impl Row for Connection {
    const HEADER: (&'static [&'static str], usize) = (
        &[
            "PROTO",
            "STATE",
            "SOURCE",
            "DESTINATION",
            "BACKEND",
            "TRANSLATED SOURCE",
            "SERVICE",
            "EXPIRES",
            "FROM",
            "TO",
        ],
        8,
    );

    fn cells(&self) -> Vec<String> {
        vec![
            self.protocol.clone(),
            self.state.clone(),
            self.source.clone(),
            self.destination.clone(),
            optional(self.backend.as_ref()),
            optional(self.translated_source.as_ref()),
            optional(self.service.as_ref()),
            aged(Some(self.expires_seconds)),
            self.from.clone(),
            self.to.clone(),
        ]
    }
}

impl Row for Service {
    const HEADER: (&'static [&'static str], usize) = (
        &[
            "SERVICE",
            "PROTO",
            "FRONTENDS",
            "METHOD",
            "AFFINITY",
            "BACKENDS",
            "REFUSED",
            "LOCAL",
            "LOCAL BACKENDS",
            "ALLOWED",
            "ID",
        ],
        7,
    );

    fn cells(&self) -> Vec<String> {
        let asked: Vec<_> =
            self.frontends.iter().map(|frontend| frontend.address.clone()).collect();
        let local = match (self.internal_local, self.external_local) {
            (false, false) => "-",
            (true, false) => "internal",
            (false, true) => "external",
            (true, true) => "internal,external",
        };
        vec![
            self.name.clone(),
            self.protocol.clone(),
            listed(&asked),
            self.method.clone(),
            aged(self.affinity_seconds),
            format!("{}/{}", self.usable, self.backends),
            self.refused.to_string(),
            local.to_owned(),
            self.usable_local.to_string(),
            listed(&self.source_ranges),
            self.id.to_string(),
        ]
    }

    fn tone(&self) -> Tone {
        if self.usable == 0 { Tone::Warning } else { Tone::Plain }
    }
}

impl Row for Backend {
    const HEADER: (&'static [&'static str], usize) = (
        &["SERVICE", "PROTO", "ADDRESS", "WHERE", "STATE", "WEIGHT", "ACTIVE", "TOTAL", "USABLE"],
        8,
    );

    fn cells(&self) -> Vec<String> {
        vec![
            self.service.clone(),
            self.protocol.clone(),
            self.address.clone(),
            self.r#where.clone(),
            self.state.clone(),
            self.weight.to_string(),
            self.active.to_string(),
            self.total.to_string(),
            yes(self.usable),
        ]
    }

    fn tone(&self) -> Tone {
        if self.state == "ready" { Tone::Plain } else { Tone::Warning }
    }
}

impl Row for Recording {
    const HEADER: (&'static [&'static str], usize) =
        (&["AGE", "RULE", "COVERS", "PACKETS", "SIZE", "PATH", "TIME", "EVENT"], 6);

    fn cells(&self) -> Vec<String> {
        let lacks = match self.missing_ms {
            0 => String::new(),
            missing => format!(" ({} earlier were gone)", seconds(missing)),
        };
        vec![
            aged(Some(self.age_seconds)),
            self.rule.clone(),
            format!("{}{lacks}", seconds(self.covered_ms)),
            self.packets.to_string(),
            bytes(self.size_bytes),
            self.path.clone(),
            self.time.clone(),
            self.event.clone(),
        ]
    }

    fn tone(&self) -> Tone {
        if self.rule == crate::recorder::quarantine::RULE { Tone::Bad } else { Tone::Plain }
    }
}

impl Row for Trigger {
    const HEADER: (&'static [&'static str], usize) =
        (&["RULE", "FIRED", "SUPPRESSED", "RECORDED", "BEFORE", "AFTER", "EVERY", "GIVEN UP"], 7);

    fn cells(&self) -> Vec<String> {
        vec![
            self.rule.clone(),
            self.fired.to_string(),
            self.suppressed.to_string(),
            self.recorded.to_string(),
            self.before.clone(),
            self.after.clone(),
            self.every.clone(),
            self.given_up.to_string(),
        ]
    }
}

/// Milliseconds as `12.3s`.
fn seconds(millis: u64) -> String {
    format!("{}.{}s", millis / 1_000, millis / 100 % 10)
}

/// Bytes in the unit that leaves at most four digits.
pub(super) fn bytes(size: u64) -> String {
    let unit =
        [(30, "GiB"), (20, "MiB"), (10, "KiB")].into_iter().find(|(bits, _)| size >> bits > 9);
    match unit {
        Some((bits, name)) => format!("{} {name}", size >> bits),
        None => format!("{size} B"),
    }
}

/// `ENOBUFS 3, EIO 1`, or 0.
fn errors(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "0".to_owned();
    }
    let each: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    each.join(", ")
}

fn yes(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

fn listed(values: &[String]) -> String {
    if values.is_empty() { "-".to_owned() } else { values.join(",") }
}

fn optional(value: Option<&String>) -> String {
    value.cloned().unwrap_or_else(|| "-".to_owned())
}

fn aged(seconds: Option<u64>) -> String {
    seconds.map_or_else(|| "-".to_owned(), |seconds| age(Duration::from_secs(seconds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::objects::Frontend;

    fn lines<T: Row>(item: &T) -> Vec<String> {
        let table = rows(std::slice::from_ref(item), false);
        table.lines().into_iter().map(|(_, line)| line).collect()
    }

    #[test]
    fn translations_are_seen_at_a_glance() {
        let connection = Connection {
            protocol: "tcp".into(),
            state: "ESTABLISHED".into(),
            source: "10.1.0.2:40000".into(),
            destination: "10.96.0.10:80".into(),
            backend: Some("10.1.0.3:8080".into()),
            service: Some("demo/web".into()),
            expires_seconds: 7_300,
            from: "pod/demo/a".into(),
            ..Connection::default()
        };
        assert_eq!(
            lines(&connection),
            [
                "PROTO   STATE         SOURCE           DESTINATION     BACKEND         \
                 TRANSLATED SOURCE   SERVICE    EXPIRES",
                "tcp     ESTABLISHED   10.1.0.2:40000   10.96.0.10:80   10.1.0.3:8080   \
                 -                   demo/web   2h1m",
            ]
        );
    }

    #[test]
    fn services_and_backends_have_their_columns() {
        let frontend = |address: &str| Frontend { address: address.into(), ..Frontend::default() };
        let service = Service {
            name: "demo/web".into(),
            protocol: "tcp".into(),
            frontends: vec![frontend("10.96.0.10:80"), frontend("node:30080")],
            method: "random".into(),
            backends: 3,
            usable: 2,
            refused: 5,
            ..Service::default()
        };
        assert_eq!(
            lines(&service),
            [
                "SERVICE    PROTO   FRONTENDS                  METHOD   AFFINITY   BACKENDS   \
                 REFUSED",
                "demo/web   tcp     10.96.0.10:80,node:30080   random   -          2/3        5",
            ]
        );
        assert_eq!(service.tone(), Tone::Plain);
        assert_eq!(Service::default().tone(), Tone::Warning);
        let backend = Backend {
            service: "demo/web".into(),
            protocol: "tcp".into(),
            address: "10.1.0.3:8080".into(),
            r#where: "local".into(),
            state: "ready".into(),
            weight: 1,
            active: 2,
            total: 3,
            ..Backend::default()
        };
        assert_eq!(
            lines(&backend),
            [
                "SERVICE    PROTO   ADDRESS         WHERE   STATE   WEIGHT   ACTIVE   TOTAL",
                "demo/web   tcp     10.1.0.3:8080   local   ready   1        2        3",
            ]
        );
    }
}
