//! Datagrams in fragments as another build reads them, with what is held of them.

use alloc::vec::Vec;

use smoltcp::wire::EthernetAddress;

use super::super::Tables;
use super::super::form::{Damaged, Fields, Writer};
use super::connections::{put_tuple, take_tuple};
use crate::input::PortId;
use crate::table::conntrack::Tuple;
use crate::table::fragment::{Datagram, DatagramKey, Fate, Held, Passage, Spans};
use crate::time::Instant;

pub(super) fn put(form: &mut Writer, tables: &Tables) {
    form.list("datagrams", tables.datagrams().iter(), |form, (_, datagram)| {
        let Datagram { key, deadline, fate, first_len, spans, held } = datagram;
        let DatagramKey { port, mac, src, dst, protocol, id } = *key;
        form.number("port", u64::from(port.0));
        let [a, b, c, d, e, f] = mac.0;
        form.number("mac", u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
        let flow = Tuple { src, dst, src_port: 0, dst_port: 0, protocol };
        form.record("flow", |form| put_tuple(form, &flow));
        form.number("id", u64::from(id));
        form.number("deadline", deadline.0);
        form.number("first-len", u64::from(*first_len));
        form.number("fate", number(fate));
        if let Fate::Passed(Passage { seen, out, given_back }) = fate {
            form.record("seen", |form| put_tuple(form, seen));
            form.record("out", |form| put_tuple(form, out));
            form.number("given-back", u64::from(*given_back));
        }
        form.list("spans", spans.spans.iter(), |form, (begin, end)| {
            form.number("begin", u64::from(*begin));
            form.number("end", u64::from(*end));
        });
        if let Some(end) = spans.end {
            form.number("end", u64::from(end));
        }
        form.list("held", held.iter(), |form, Held { bytes, valid }| {
            form.bytes("frame", bytes);
            form.number("valid", u64::from(*valid));
        });
    });
}

const fn number(fate: &Fate) -> u64 {
    match fate {
        Fate::Waiting => 0,
        Fate::Passed(_) => 1,
        Fate::Refused => 2,
        Fate::Overlapping => 3,
    }
}

/// The datagrams that this build can go on with; of a fate that it does not know it has none.
pub(super) fn take(fields: &Fields<'_>) -> Result<Vec<Datagram>, Damaged> {
    let each = fields.list("datagrams")?.into_iter().map(|fields| take_one(&fields));
    Ok(each.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

fn take_one(fields: &Fields<'_>) -> Result<Option<Datagram>, Damaged> {
    let fate = match fields.number("fate", u64::MAX)? {
        0 => Fate::Waiting,
        1 => Fate::Passed(Passage {
            seen: take_tuple(&fields.record("seen")?)?,
            out: take_tuple(&fields.record("out")?)?,
            given_back: fields.number("given-back", 0)? != 0,
        }),
        2 => Fate::Refused,
        3 => Fate::Overlapping,
        _ => return Ok(None),
    };
    let narrow = |name| u32::try_from(fields.number(name, u64::MAX)?).map_err(|_large| Damaged);
    let [_, _, a, b, c, d, e, f] = fields.number("mac", 0)?.to_be_bytes();
    let Tuple { src, dst, protocol, .. } = take_tuple(&fields.record("flow")?)?;
    let mut held = Vec::new();
    for one in fields.list("held")? {
        let bytes = one.bytes("frame")?.to_vec();
        held.push(Held { bytes, valid: one.number("valid", 0)? != 0 });
    }
    Ok(Some(Datagram {
        key: DatagramKey {
            port: PortId(narrow("port")?),
            mac: EthernetAddress([a, b, c, d, e, f]),
            src,
            dst,
            protocol,
            id: narrow("id")?,
        },
        deadline: Instant(fields.number("deadline", 0)?),
        fate,
        first_len: small(fields.number("first-len", 0)?)?,
        spans: take_spans(fields)?,
        held,
    }))
}

fn small(number: u64) -> Result<u16, Damaged> {
    u16::try_from(number).map_err(|_large| Damaged)
}

fn take_spans(fields: &Fields<'_>) -> Result<Spans, Damaged> {
    let end = fields.number_if_there("end")?.map(small).transpose()?;
    let mut spans = Vec::new();
    for one in fields.list("spans")? {
        spans.push((small(one.number("begin", 0)?)?, small(one.number("end", 0)?)?));
    }
    Spans::of(&spans, end).ok_or(Damaged)
}

impl Tables {
    /// Goes on with datagrams of another build, as far as there is room. What is held of them was
    /// received, and is counted again as it comes in.
    pub(super) fn import_datagrams(&mut self, carried: Vec<Datagram>) {
        let now = self.now;
        for datagram in carried.into_iter().filter(|datagram| now < datagram.deadline) {
            let (port, held) = (datagram.key.port, datagram.held() as u64);
            if self.take_datagram(datagram) {
                let slot = self.ports.slot(port);
                let counters = self.counters_mut(slot);
                counters.held += held;
                counters.received += held;
            }
        }
    }
}
