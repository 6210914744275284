//! Which connection is meant: two ends as `hopctl get conntrack` prints them, and a protocol.

use smoltcp::wire::IpAddress;
use stack::table::conntrack::{Connection, Side, Tuple};

use crate::admin::connections::{end, protocol, protocols};

/// An end: an address and, unless any will do, its port. An echo's is its identifier.
type End = (IpAddress, Option<u16>);

/// What a connection has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Numbers of the protocol; none: any.
    protocols: Option<Vec<u8>>,
    ends: [End; 2],
}

impl Wanted {
    /// The connection that has this flow.
    #[must_use]
    pub fn exactly(tuple: &Tuple) -> Self {
        let Tuple { src, dst, src_port, dst_port, protocol } = *tuple;
        Self {
            protocols: Some(vec![protocol]),
            ends: [(src, Some(src_port)), (dst, Some(dst_port))],
        }
    }

    /// Reads two ends, `ADDRESS[:PORT]`, the second with `/PROTOCOL` or without.
    ///
    /// # Errors
    /// A sentence that names what cannot be read.
    pub fn read(source: &str, destination: &str) -> Result<Self, String> {
        let (destination, name) = match destination.split_once('/') {
            Some((destination, name)) => (destination, Some(name)),
            None => (destination, None),
        };
        let numbers = name.map(|name| {
            let name = name.to_lowercase();
            protocols(&name).ok_or_else(|| format!("{name}: no protocol: tcp, udp, sctp or icmp"))
        });
        let numbers = numbers.transpose()?.map(<[u8]>::to_vec);
        let ends = [read(source)?, read(destination)?];
        let [(from, _), (to, _)] = &ends;
        if from.version() != to.version() {
            return Err(format!("{from} and {to} are not of one family"));
        }
        Ok(Self { protocols: numbers, ends })
    }

    /// Whether it is the connection that is meant, by what its sides say or by what the switch
    /// makes of it, in either direction; or, where there is none, the flow that asked for one.
    #[must_use]
    pub fn is(&self, found: &Option<(Connection, Side)>, seen: &Tuple) -> bool {
        match found {
            Some((connection, _)) => [Side::Originator, Side::Responder].into_iter().any(|side| {
                self.has(&connection.of(side)) || self.has(&connection.translated(side))
            }),
            None => self.has(seen) || self.has(&seen.inverse()),
        }
    }

    fn has(&self, flow: &Tuple) -> bool {
        let [source, destination] = self.ends;
        let is = |(address, port): End, of: IpAddress, its: u16| {
            address == of && port.is_none_or(|port| port == its)
        };
        self.protocols.as_ref().is_none_or(|known| known.contains(&flow.protocol))
            && is(source, flow.src, flow.src_port)
            && is(destination, flow.dst, flow.dst_port)
    }
}

impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some([number, ..]) = self.protocols.as_deref() {
            write!(f, "{} ", protocol(*number))?;
        }
        let [source, destination] =
            self.ends.map(|(address, port)| end(&address, port.unwrap_or(0)));
        write!(f, "{source} to {destination}")
    }
}

/// `ADDRESS`, `ADDRESS:PORT`, `[ADDRESS]:PORT`.
fn read(text: &str) -> Result<End, String> {
    let whole = || {
        let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
        Some((bare.parse().ok()?, None))
    };
    let with_port = || {
        let (address, port) = text.rsplit_once(':')?;
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let is_bracketed = bare.is_some();
        let address: IpAddress = bare.unwrap_or(address).parse().ok()?;
        let plain = matches!(address, IpAddress::Ipv4(_));
        (plain || is_bracketed).then_some((address, Some(port.parse().ok()?)))
    };
    whole().or_else(with_port).ok_or_else(|| {
        format!("{text} is no end of a connection: as in 10.244.1.5:43210 or [fd00::5]:43210")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_read_as_they_are_printed() {
        for (source, destination, shown) in [
            ("10.1.0.2:40000", "10.96.0.10:53/udp", "udp 10.1.0.2:40000 to 10.96.0.10:53"),
            ("[fd00::2]:40000", "[fd00::a]:80", "[fd00::2]:40000 to [fd00::a]:80"),
            ("10.1.0.2:7", "192.0.2.1/ICMP", "icmp 10.1.0.2:7 to 192.0.2.1"),
            ("fd00::2", "[fd00::a]", "fd00::2 to fd00::a"),
        ] {
            assert_eq!(Wanted::read(source, destination).unwrap().to_string(), shown);
        }
        for (source, destination, part) in [
            ("10.1.0.2:70000", "10.1.0.3:80", "10.1.0.2:70000 is no end"),
            ("demo/web", "10.1.0.3:80", "demo/web is no end"),
            ("10.1.0.2", "10.1.0.3:80/quic", "quic: no protocol"),
            ("10.1.0.2", "fd00::1", "not of one family"),
        ] {
            let refused = Wanted::read(source, destination).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }
}
