//! MACs of pods: derived from the address, or requested and checked (SEC-23).

use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use stack::NodeConfig;
use stack::hash::Hasher;

/// Keys the MACs that are not spelled out by an IPv4 address.
const KEY: u64 = 0x686f_7073_636f_7065;

/// A MAC as the kernel and the specification write it, with colons.
#[must_use]
pub fn text(mac: EthernetAddress) -> String {
    let [a, b, c, d, e, f] = mac.0;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

/// A locally administered MAC for a pod with these addresses: 02:48 and the IPv4 address, so that a
/// capture can be read at a glance; else a hash of the addresses. `taken` says which are not free.
#[must_use]
pub fn derive(addresses: &[IpCidr], taken: impl Fn(EthernetAddress) -> bool) -> EthernetAddress {
    let free = |mac| mac != NodeConfig::GATEWAY_MAC && !taken(mac);
    for cidr in addresses {
        if let IpAddress::Ipv4(address) = cidr.address() {
            let [a, b, c, d] = address.octets();
            let mac = EthernetAddress([0x02, 0x48, a, b, c, d]);
            if free(mac) {
                return mac;
            }
        }
    }
    let mut attempt = 0_u64;
    loop {
        let mut hasher = Hasher::new(KEY);
        hasher.number(attempt);
        for cidr in addresses {
            match cidr.address() {
                IpAddress::Ipv4(address) => hasher.bytes(&address.octets()),
                IpAddress::Ipv6(address) => hasher.bytes(&address.octets()),
            }
        }
        let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
        // 02:68 keeps these apart from the ones that spell an address.
        let mac = EthernetAddress([0x02, 0x68, a, b, c, d]);
        if free(mac) {
            return mac;
        }
        attempt += 1;
    }
}

/// Reads a requested MAC and says why a pod may not have it.
///
/// # Errors
/// A clause that goes after key and value.
pub fn parse(
    requested: &str,
    taken: impl Fn(EthernetAddress) -> bool,
) -> Result<EthernetAddress, &'static str> {
    let Ok(mac) = requested.parse::<EthernetAddress>() else {
        return Err("is no MAC such as 02:48:0a:00:00:02");
    };
    if mac.is_multicast() || mac.is_broadcast() {
        return Err("is a multicast MAC; a host's has an even first byte");
    }
    if mac.0 == [0; 6] {
        return Err("is all zeros");
    }
    if mac == NodeConfig::GATEWAY_MAC {
        return Err("is the gateway's MAC");
    }
    if taken(mac) {
        return Err("is in use on this node");
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(list: &[&str]) -> Vec<IpCidr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_mac_spells_the_address() {
        let mac = derive(&cidrs(&["fd00::2/64", "10.1.0.2/24"]), |_mac| false);
        assert_eq!(text(mac), "02:48:0a:01:00:02");
    }

    #[test]
    fn what_is_taken_is_passed_over() {
        let gateways_own = derive(&cidrs(&["79.80.0.1/24"]), |_mac| false);
        assert_ne!(gateways_own, NodeConfig::GATEWAY_MAC);
        let first = derive(&cidrs(&["fd00::2/64"]), |_mac| false);
        let second = derive(&cidrs(&["fd00::2/64"]), |mac| mac == first);
        assert_ne!(first, second);
        for mac in [gateways_own, first, second] {
            assert_eq!(mac.0[0] & 3, 2, "unicast and locally administered: {mac}");
            assert_eq!(mac.0[1], 0x68);
        }
    }

    #[test]
    fn requests_are_checked() {
        let why = |text: &str| parse(text, |mac| mac.0[5] == 9).unwrap_err();
        assert!(why("junk").contains("no MAC"));
        assert!(why("01:00:5e:00:00:01").contains("multicast"));
        assert!(why("ff:ff:ff:ff:ff:ff").contains("multicast"));
        assert!(why("00:00:00:00:00:00").contains("zeros"));
        assert!(why("02:48:4f:50:00:01").contains("gateway"));
        assert!(why("02:00:00:00:00:09").contains("in use"));
        let global = parse("00:1b:21:3c:4d:5e", |_mac| false).unwrap();
        assert_eq!(text(global), "00:1b:21:3c:4d:5e");
    }
}
