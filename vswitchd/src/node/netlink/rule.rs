//! Rules of the routing policy database: which table is asked for which packet.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, Nla};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{
    RuleAction, RuleAttribute, RuleFlags, RuleMessage, RulePortRange,
};
use netlink_packet_route::{IpProtocol, RouteNetlinkMessage};
use smoltcp::wire::{IpAddress, IpCidr};

use super::{Family, Netlink, PROTOCOL, doing};
use crate::node::NodeError;

/// `FRA_DPORT_MASK` of linux/fib_rules.h: newer kernels repeat a range of ports as a mask.
const DPORT_MASK: u16 = 29;

/// A rule that looks a table up, as it shall be or as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Rule {
    /// Its family.
    pub(crate) family: Family,
    /// Lower ones are asked first.
    pub(crate) preference: u32,
    /// Only packets that came by the interface of this name.
    pub(crate) input: Option<String>,
    /// Only packets to this prefix.
    pub(crate) to: Option<IpCidr>,
    /// Only packets of this IP protocol.
    pub(crate) protocol: Option<u8>,
    /// Only packets to an L4 port of this range, both ends included.
    pub(crate) l4_ports: Option<(u16, u16)>,
    /// The table.
    pub(crate) table: u32,
}

/// A rule and who made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundRule {
    /// What it says.
    pub(crate) rule: Rule,
    /// The maker's number; [`PROTOCOL`] is us.
    pub(crate) maker: u8,
}

impl Rule {
    /// A rule that asks `table` for every packet.
    pub(crate) fn new(family: Family, preference: u32, table: u32) -> Self {
        Self { family, preference, input: None, to: None, protocol: None, l4_ports: None, table }
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rule {}:", self.family, self.preference)?;
        if let Some(to) = &self.to {
            write!(f, " to {to}")?;
        }
        if let Some(input) = &self.input {
            write!(f, " iif {input}")?;
        }
        if let Some(protocol) = self.protocol {
            write!(f, " ipproto {protocol}")?;
        }
        if let Some((first, last)) = self.l4_ports {
            write!(f, " dport {first}-{last}")?;
        }
        match self.table {
            super::route::LOCAL => f.write_str(" lookup local"),
            super::route::MAIN => f.write_str(" lookup main"),
            table => write!(f, " lookup {table}"),
        }
    }
}

impl Netlink {
    /// Adds a rule of ours; one that is there already is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn add_rule(&mut self, rule: &Rule) -> Result<(), NodeError> {
        self.add_rule_of(rule, PROTOCOL)
    }

    /// Adds a rule in the name of another maker; one that is there already is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn add_rule_of(&mut self, rule: &Rule, maker: u8) -> Result<(), NodeError> {
        let request = RouteNetlinkMessage::NewRule(message(rule, Some(maker)));
        match self.change(request, NLM_F_CREATE | NLM_F_EXCL) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            result => doing(result, || format!("cannot add the {rule}")),
        }
    }

    /// Removes a rule, whoever made it; one that is gone is no error.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn delete_rule(&mut self, rule: &Rule) -> Result<(), NodeError> {
        // The kernel removes the first rule that has what is asked for, and takes preference 0 for
        // "any": a rule that is not there must not be asked for, or another goes.
        if !self.rules(rule.family)?.iter().any(|found| found.rule == *rule) {
            return Ok(());
        }
        match self.change(RouteNetlinkMessage::DelRule(message(rule, None)), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => doing(result, || format!("cannot remove the {rule}")),
        }
    }

    /// The rules of a family that look up a table by nothing but what [`Rule`] holds.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn rules(&mut self, family: Family) -> Result<Vec<FoundRule>, NodeError> {
        let mut request = RuleMessage::default();
        request.header.family = family.code();
        let request = RouteNetlinkMessage::GetRule(request);
        let all = doing(self.dump(&request), || format!("cannot list the {family} rules"))?;
        Ok(all.into_iter().filter_map(|message| parse(message, family)).collect())
    }
}

fn message(rule: &Rule, maker: Option<u8>) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = rule.family.code();
    message.header.table = u8::try_from(rule.table).unwrap_or(0);
    message.header.action = RuleAction::ToTable;
    message.header.dst_len = rule.to.map_or(0, |to| to.prefix_len());
    let attributes = [
        Some(RuleAttribute::Priority(rule.preference)),
        Some(RuleAttribute::Table(rule.table)),
        rule.input.clone().map(RuleAttribute::Iifname),
        rule.to.map(|to| RuleAttribute::Destination(to.address().into())),
        rule.protocol.map(|protocol| RuleAttribute::IpProtocol(IpProtocol::from(protocol))),
        rule.l4_ports
            .map(|(start, end)| RuleAttribute::DestinationPortRange(RulePortRange { start, end })),
        maker.map(|maker| RuleAttribute::Protocol(RouteProtocol::from(maker))),
    ];
    message.attributes = attributes.into_iter().flatten().collect();
    message
}

fn parse(message: RouteNetlinkMessage, family: Family) -> Option<FoundRule> {
    let RouteNetlinkMessage::NewRule(message) = message else { return None };
    let header = &message.header;
    let plain = header.action == RuleAction::ToTable && header.src_len == 0 && header.tos == 0;
    if !plain
        || Family::from_code(header.family) != Some(family)
        || header.flags.contains(RuleFlags::Invert)
    {
        return None;
    }
    // Preference 0 is left out by the kernel.
    let mut rule = Rule::new(family, 0, header.table.into());
    let mut maker = 0;
    for attribute in message.attributes {
        match attribute {
            RuleAttribute::Priority(preference) => rule.preference = preference,
            RuleAttribute::Table(table) => rule.table = table,
            RuleAttribute::Iifname(name) => rule.input = Some(name),
            RuleAttribute::Destination(to) => {
                rule.to = Some(IpCidr::new(IpAddress::from(to), header.dst_len));
            }
            RuleAttribute::IpProtocol(protocol) => rule.protocol = Some(u8::from(protocol)),
            RuleAttribute::DestinationPortRange(range) => {
                rule.l4_ports = Some((range.start, range.end));
            }
            RuleAttribute::Protocol(protocol) => maker = protocol.into(),
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            RuleAttribute::Other(other) if other.kind() == DPORT_MASK => {}
            _ => return None,
        }
    }
    Some(FoundRule { rule, maker })
}
