//! The address filter against a reading of the registries of its own, in numbers instead of networks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::super::connect;
use crate::{
    job::{Grant, Reach},
    starter::{Policy, SharedPolicy},
};

/// IANA's special-purpose registry of IPv4 with what is not globally reachable, first and last
/// address, and what else is no unicast address of a host in the internet.
const NOT_PUBLIC: [(u32, u32); 16] = [
    (0x0000_0000, 0x00ff_ffff), // 0.0.0.0/8, this network
    (0x0a00_0000, 0x0aff_ffff), // 10.0.0.0/8, private use
    (0x6440_0000, 0x647f_ffff), // 100.64.0.0/10, shared address space
    (0x7f00_0000, 0x7fff_ffff), // 127.0.0.0/8, loopback
    (0xa83f_8110, 0xa83f_8110), // 168.63.129.16, a cloud's own host
    (0xa9fe_0000, 0xa9fe_ffff), // 169.254.0.0/16, link local
    (0xac10_0000, 0xac1f_ffff), // 172.16.0.0/12, private use
    (0xc000_0000, 0xc000_00ff), // 192.0.0.0/24, IETF protocol assignments
    (0xc000_0200, 0xc000_02ff), // 192.0.2.0/24, TEST-NET-1
    (0xc058_6300, 0xc058_63ff), // 192.88.99.0/24, 6to4 relay anycast
    (0xc0a8_0000, 0xc0a8_ffff), // 192.168.0.0/16, private use
    (0xc612_0000, 0xc613_ffff), // 198.18.0.0/15, benchmarking
    (0xc633_6400, 0xc633_64ff), // 198.51.100.0/24, TEST-NET-2
    (0xcb00_7100, 0xcb00_71ff), // 203.0.113.0/24, TEST-NET-3
    (0xe000_0000, 0xefff_ffff), // 224.0.0.0/4, multicast
    (0xf000_0000, 0xffff_ffff), // 240.0.0.0/4, reserved, and broadcast
];

/// The same of IPv6 within 2000::/3, by the first 64 bits.
const NOT_PUBLIC_6: [(u64, u64); 3] = [
    (0x2001_0000_0000_0000, 0x2001_01ff_ffff_ffff), // 2001::/23, IETF protocol assignments
    (0x2001_0db8_0000_0000, 0x2001_0db8_ffff_ffff), // 2001:db8::/32, documentation
    (0x3fff_0000_0000_0000, 0x3fff_0fff_ffff_ffff), // 3fff::/20, documentation
];

/// A family (odd: IPv6), an address, and networks that are allowed: for each a family and a prefix's
/// length (a byte each), and an address.
pub(crate) fn address(data: &[u8]) {
    let mut bytes = data;
    let Some(ip) = take(&mut bytes).and_then(|[family]| read(family, &mut bytes)) else { return };
    let mut networks = Vec::new();
    while let Some([family, prefix]) = take(&mut bytes) {
        let Some(ip) = read(family, &mut bytes) else { break };
        networks.push(match ip {
            IpAddr::V4(ip) => IpNet::V4(Ipv4Net::new_assert(ip, prefix % 33)),
            IpAddr::V6(ip) => IpNet::V6(Ipv6Net::new_assert(ip, prefix % 129)),
        });
    }
    let reach = Reach { networks, ..Reach::default() };
    let policy = SharedPolicy::new(Policy { everyone: reach.clone(), local: Reach::default() });
    let admitted = |grant: Option<&Grant>| connect::admit(ip, Some(&policy.bounds(grant))).is_ok();
    let expected = reachable(ip, &reach.networks);
    assert_eq!(admitted(None), expected, "{ip}, allowed {:?}", reach.networks);
    // A grant takes away and adds nothing; the other half of the policy allows nothing more.
    let grant = |local, reach: &Reach| Grant { local, reach: reach.clone() };
    let bare = reachable(ip, &[]);
    assert_eq!(admitted(Some(&grant(false, &reach))), expected, "{ip}");
    assert_eq!(admitted(Some(&grant(false, &Reach::default()))), bare, "{ip}");
    assert_eq!(admitted(Some(&grant(true, &reach))), bare, "{ip}");
    assert!(!bare || expected, "what is allowed takes nothing away");
    // Without a policy, all but what names no one host.
    assert_eq!(connect::admit(ip, None).is_ok(), is_of_a_host(ip), "{ip}");
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn read(family: u8, bytes: &mut &[u8]) -> Option<IpAddr> {
    Some(if family % 2 == 1 { take::<16>(bytes)?.into() } else { take::<4>(bytes)?.into() })
}

/// Whether the policy lets a start connect to it.
fn reachable(ip: IpAddr, allowed: &[IpNet]) -> bool {
    is_of_a_host(ip)
        && stands_for(ip).into_iter().all(|ip| is_public(ip) || allowed.iter().any(|net| within(net, ip)))
}

fn is_of_a_host(ip: IpAddr) -> bool {
    match stands_for(ip)[0] {
        IpAddr::V4(ip) => !matches!(ip.octets(), [0, 0, 0, 0] | [224..=239, ..] | [255, 255, 255, 255]),
        IpAddr::V6(ip) => !matches!(ip.octets(), [255, ..]) && u128::from(ip) != 0,
    }
}

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let number = u32::from(ip);
            !NOT_PUBLIC.iter().any(|&(first, last)| (first..=last).contains(&number))
        }
        IpAddr::V6(ip) => {
            let number = u128::from(ip);
            let high = (number >> 64) as u64;
            // 2000::/3, and the NAT64 prefix that everybody knows, 64:ff9b::/96.
            let global = high >> 61 == 1 || number >> 32 == 0x0064_ff9b_0000_0000_0000_0000;
            global && !NOT_PUBLIC_6.iter().any(|&(first, last)| (first..=last).contains(&high))
        }
    }
}

/// The address itself, or the IPv4 address that it is but another spelling of, and every IPv4 address
/// that a tunnel or translator would make of it.
fn stands_for(ip: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = ip else { return vec![ip] };
    let number = u128::from(v6);
    let v4 = |bits: u128| IpAddr::from(Ipv4Addr::from((bits & 0xffff_ffff) as u32));
    if number >> 32 == 0xffff {
        return vec![v4(number)];
    }
    let mut all = vec![ip];
    let last = number >> 32 == 0 && number > 1        // IPv4-compatible
        || number >> 32 == 0xffff_0000                // IPv4-translated
        || number >> 96 == 0x0064_ff9b                // NAT64, of everybody and of a network's own
        || number >> 32 & 0xfdff_ffff == 0x0000_5efe; // ISATAP
    if last {
        all.push(v4(number));
    }
    if number >> 112 == 0x2002 {
        all.push(v4(number >> 80)); // 6to4
    }
    if number >> 96 == 0x2001_0000 {
        all.extend([v4(number >> 64), v4(!number)]); // Teredo: its server, and the client
    }
    all
}

/// Whether a network holds an address of its own family.
fn within(network: &IpNet, ip: IpAddr) -> bool {
    let same = |network: u128, ip: u128, bits: u8, prefix: u8| {
        prefix == 0 || network >> (bits - prefix) == ip >> (bits - prefix)
    };
    match (network, ip) {
        (IpNet::V4(network), IpAddr::V4(ip)) => {
            same(u32::from(network.addr()).into(), u32::from(ip).into(), 32, network.prefix_len())
        }
        (IpNet::V6(network), IpAddr::V6(ip)) => same(
            u128::from(network.addr()),
            u128::from(Ipv6Addr::from(ip.octets())),
            128,
            network.prefix_len(),
        ),
        _ => false,
    }
}
