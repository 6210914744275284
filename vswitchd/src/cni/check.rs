//! CHECK: the runtime's memory, ours, the kernel's and the switch's must agree (CNI-CHK-1 to
//! CNI-CHK-3).

use std::path::Path;

use shim::fault::{Code, Fault};
use smoltcp::wire::{EthernetAddress, IpCidr};

use super::attachment::Attachment;
use super::types::CniResult;
use super::validate::Call;
use super::verbs::Cni;
use super::wiring::Wiring;

impl<W: Wiring> Cni<W> {
    pub(super) async fn check(&self, call: &Call) -> Result<String, Fault> {
        let Some(previous) = call.previous()? else {
            let msg = "prevResult: is missing; CHECK compares with the result of the ADD";
            return Err(Fault::new(Code::InvalidConfig, msg));
        };
        let key = call.key();
        let _held = self.serial.hold(&key).await;
        let Some(attachment) = self.registry.get(&key).filter(|a| a.network == call.network) else {
            let msg = format!("{key} is not attached to network {}", call.network);
            return Err(Fault::new(Code::UnknownContainer, msg));
        };
        let mut problems = compare(&attachment, &previous);
        let netns = self.wiring.open(Path::new(&call.environment.netns)).await?;
        if netns.inode == attachment.netns_inode && attachment.boot_id == self.registry.boot_id() {
            let found = self.wiring.check(&attachment, netns).await?;
            problems.extend(found.into_iter().map(|problem| problem.0));
        } else {
            let named = &call.environment.netns;
            problems.push(format!("CNI_NETNS {named:?} is not the namespace of the ADD"));
        }
        if problems.is_empty() {
            return Ok(String::new());
        }
        let msg = format!("{key} is not as its ADD left it");
        Err(Fault::new(Code::CheckFailed, msg).with_details(problems.join("; ")))
    }
}

/// What of ours the runtime's result lacks. More than ours in it is a later plugin's.
fn compare(attachment: &Attachment, previous: &CniResult) -> Vec<String> {
    let mut problems = Vec::new();
    let ours = previous.interfaces.iter().enumerate().find(|(_, interface)| {
        interface.name == attachment.key.ifname && !interface.sandbox.is_empty()
    });
    let Some((index, interface)) = ours else {
        return vec![format!("prevResult has no interface {}", attachment.key.ifname)];
    };
    let mac = interface.mac.parse::<EthernetAddress>().ok();
    if !interface.mac.is_empty() && mac != Some(attachment.mac) {
        let ours = super::mac::text(attachment.mac);
        problems.push(format!("prevResult says MAC {:?}, the lease {ours}", interface.mac));
    }
    if let Some(mtu) = interface.mtu.filter(|mtu| *mtu != u32::from(attachment.mtu)) {
        problems.push(format!("prevResult says MTU {mtu}, the lease {}", attachment.mtu));
    }
    for address in &attachment.addresses {
        let told = previous.ips.iter().any(|ip| {
            ip.address.parse::<IpCidr>().ok() == Some(*address)
                && ip.interface.is_none_or(|of| of == index)
        });
        if !told {
            problems.push(format!("prevResult lacks the leased address {address}"));
        }
    }
    problems
}
