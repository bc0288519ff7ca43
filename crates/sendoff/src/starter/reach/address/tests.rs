//! The verdicts against a list written down by hand, and what must hold for all addresses.

use proptest::prelude::*;

use super::*;

fn refused(text: &str) -> Option<NotPublic> {
    admit(text.parse().unwrap(), |_| false).err()
}

/// Written from the list of what must not be reached, not from the tables above.
#[test]
fn addresses_that_are_not_public_are_refused_in_every_spelling() {
    for text in [
        // Unspecified, this network, loopback.
        "0.0.0.0",
        "0.1.2.3",
        "0.255.255.255",
        "127.0.0.1",
        "127.0.0.0",
        "127.255.255.255",
        "127.1.2.3",
        // RFC 1918 and its edges.
        "10.0.0.0",
        "10.1.2.3",
        "10.255.255.255",
        "172.16.0.0",
        "172.20.1.1",
        "172.31.255.255",
        "192.168.0.0",
        "192.168.1.1",
        "192.168.255.255",
        // Link-local and the addresses where clouds tell secrets.
        "169.254.0.0",
        "169.254.169.254",
        "169.254.170.2",
        "169.254.255.255",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd00:ec2::254",
        // A carrier's NAT.
        "100.64.0.0",
        "100.127.255.255",
        // Protocols, documentation, benchmarks, relays.
        "192.0.0.0",
        "192.0.0.255",
        "192.0.2.1",
        "198.51.100.7",
        "203.0.113.255",
        "198.18.0.0",
        "198.19.255.255",
        "192.88.99.1",
        // Multicast, reserved, broadcast.
        "224.0.0.0",
        "224.0.0.1",
        "239.255.255.255",
        "240.0.0.0",
        "255.255.255.254",
        "255.255.255.255",
        // IPv6 by itself.
        "::",
        "::1",
        "fc00::",
        "fc00::1",
        "fdff:ffff::1",
        "fe80::",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "feff::1",
        "ff00::",
        "ff02::1",
        "ff0e::1",
        "2001:db8::",
        "2001:db8:ffff::1",
        "3fff::1",
        "3fff:fff:ffff::1",
        "2001::1",
        "2001:10::1",
        "2001:20::1",
        "100::1",
        "1::",
        "4000::1",
        "5f00::1",
        "e000::1",
        // IPv4 in IPv6: mapped, compatible, translated.
        "::ffff:127.0.0.1",
        "::ffff:10.1.2.3",
        "::ffff:169.254.169.254",
        "::ffff:0.0.0.0",
        "::127.0.0.1",
        "::10.1.2.3",
        "::8.8.8.8",
        "::ffff:0:127.0.0.1",
        "::ffff:0:8.8.8.8",
        // NAT64, also of a network's own.
        "64:ff9b::127.0.0.1",
        "64:ff9b::10.1.2.3",
        "64:ff9b::169.254.169.254",
        "64:ff9b:1::8.8.8.8",
        "64:ff9b:1:ffff::1",
        "64:ff9b:2::1",
        // 6to4, Teredo (server, client), ISATAP.
        "2002:7f00:1::",
        "2002:a01:203::1",
        "2002:a9fe:a9fe::",
        "2001:0:a01:203::1",
        "2001:0:808:808:0:0:80ff:fffe",
        "2600::5efe:127.0.0.1",
        "2600::200:5efe:10.1.2.3",
        // One in the other.
        "2002:7f00:1::5efe:8.8.8.8",
    ] {
        assert!(refused(text).is_some(), "{text} is reachable");
    }
}

#[test]
fn public_addresses_are_reached() {
    for text in [
        "1.0.0.0",
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.0",
        "168.63.129.15",
        "168.63.129.17",
        "169.253.255.255",
        "169.255.0.0",
        "172.15.255.255",
        "172.32.0.0",
        "191.255.255.255",
        "192.0.1.0",
        "192.0.3.0",
        "192.88.98.255",
        "192.167.255.255",
        "192.169.0.0",
        "198.17.255.255",
        "198.20.0.0",
        "198.51.99.255",
        "198.51.101.0",
        "203.0.112.255",
        "203.0.114.0",
        "223.255.255.255",
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2606:4700::1111",
        "2a00::1",
        "3ffe:ffff::1",
        "3fff:1000::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "2600::5efe:8.8.8.8",
    ] {
        assert_eq!(refused(text), None, "{text}");
    }
}

#[test]
fn words_say_what_an_address_stands_for() {
    let words = |text| refused(text).unwrap().to_string();
    assert_eq!(words("10.1.2.3"), "10.1.2.3 is a private address");
    assert_eq!(words("64:ff9b::a01:203"), "64:ff9b::a01:203 stands for 10.1.2.3, a private address");
    assert_eq!(words("::ffff:127.0.0.1"), "::ffff:127.0.0.1 stands for 127.0.0.1, a loopback address");
    assert_eq!(words("::1"), "::1 is the loopback address");
    assert_eq!(words("255.255.255.255"), "255.255.255.255 is the broadcast address");
}

#[test]
fn an_allowed_network_allows_what_it_holds_in_every_spelling() {
    let reached = |networks: &[&str], ip: &str| {
        let networks: Vec<IpNet> = networks.iter().map(|network| network.parse().unwrap()).collect();
        admit(ip.parse().unwrap(), |face| holds(&networks, face)).is_ok()
    };
    for (networks, ip, wanted) in [
        (&["10.1.0.0/16"][..], "10.1.2.3", true),
        (&["10.1.0.0/16"], "10.2.2.3", false),
        (&["10.1.0.0/16"], "::ffff:10.1.2.3", true),
        (&["10.1.0.0/16"], "64:ff9b::10.1.2.3", true),
        (&["10.1.0.0/16"], "2002:a01:203::1", true),
        // These are nothing public themselves.
        (&["10.1.0.0/16"], "::10.1.2.3", false),
        (&["10.1.0.0/16"], "64:ff9b:1::10.1.2.3", false),
        (&["10.1.0.0/16", "64:ff9b:1::/48"], "64:ff9b:1::10.1.2.3", true),
        // A network of one kind does not open the other.
        (&["::/0"], "10.1.2.3", false),
        (&["::/0"], "::ffff:10.1.2.3", false),
        (&["::/0"], "64:ff9b::10.1.2.3", false),
        (&["0.0.0.0/0"], "fd00::1", false),
        (&["0.0.0.0/0", "::/0"], "fd00::1", true),
        (&["0.0.0.0/0", "::/0"], "2001:0:a01:203::1", true),
        (&["::1/128"], "::1", true),
        (&["127.0.0.0/8"], "::1", false),
        (&["127.0.0.0/8"], "127.9.9.9", true),
    ] {
        assert_eq!(reached(networks, ip), wanted, "{networks:?} {ip}");
    }
}

/// Every way to write an IPv4 address as an IPv6 one.
fn embeddings(ip: Ipv4Addr, rest: u64) -> Vec<Ipv6Addr> {
    let [high, low] = [(ip.to_bits() >> 16) as u16, ip.to_bits() as u16];
    let [a, b, c] = [(rest >> 32) as u16, (rest >> 16) as u16, rest as u16];
    let client = !ip.to_bits();
    vec![
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
        Ipv6Addr::new(0x64, 0xff9b, 1, a, b, c, high, low),
        Ipv6Addr::new(0x2002, high, low, a, b, c, a, b),
        Ipv6Addr::new(0x2001, 0, high, low, a, b, c, a),
        Ipv6Addr::new(0x2001, 0, a, b, c, a, (client >> 16) as u16, client as u16),
        Ipv6Addr::new(0x2600 | a & 0xff, a, b, c, 0, 0x5efe, high, low),
        Ipv6Addr::new(0x2600 | a & 0xff, a, b, c, 0x200, 0x5efe, high, low),
    ]
}

proptest! {
    #[test]
    fn what_is_refused_stays_refused_in_every_embedding(
        ip in prop_oneof![
            any::<Ipv4Addr>(),
            (0..V4.len(), any::<u32>()).prop_map(|(n, bits)| {
                let network = V4[n].0;
                (network.network().to_bits() | bits & network.hostmask().to_bits()).into()
            }),
        ],
        rest: u64,
        allowed in prop::collection::vec(any::<(Ipv4Addr, u8)>(), 0..3),
    ) {
        let allowed: Vec<IpNet> =
            allowed.into_iter().map(|(ip, prefix)| Ipv4Net::new(ip, prefix % 33).unwrap().into()).collect();
        // All of IPv6 is allowed: only the address inside can refuse.
        let allowed = [allowed, vec!["::/0".parse().unwrap()]].concat();
        let verdict = |ip: IpAddr| admit(ip, |face| holds(&allowed, face)).is_ok();
        for embedded in embeddings(ip, rest) {
            // These two are addresses of their own.
            if embedded.is_unspecified() || embedded.is_loopback() {
                continue;
            }
            prop_assert!(verdict(ip.into()) || !verdict(embedded.into()), "{ip} {embedded}");
        }
    }
}
