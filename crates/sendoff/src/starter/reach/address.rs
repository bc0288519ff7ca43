//! Which addresses are public, and what the others are.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(a: u16, b: u16, c: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix)
}

/// What is not public of IPv4: IANA's special-purpose registry, multicast and what is reserved.
static V4: [(Ipv4Net, &str); 17] = [
    (v4(0, 0, 0, 8), "an address of no host"),
    (v4(10, 0, 0, 8), "a private address"),
    (v4(100, 64, 0, 10), "an address behind a carrier's NAT"),
    (v4(127, 0, 0, 8), "a loopback address"),
    (Ipv4Net::new_assert(Ipv4Addr::new(168, 63, 129, 16), 32), "the address of a cloud's host"),
    (v4(169, 254, 0, 16), "a link-local address"),
    (v4(172, 16, 0, 12), "a private address"),
    (v4(192, 0, 0, 24), "an address reserved for protocols"),
    (v4(192, 0, 2, 24), "an address for documentation"),
    (v4(192, 88, 99, 24), "an address reserved for relays"),
    (v4(192, 168, 0, 16), "a private address"),
    (v4(198, 18, 0, 15), "an address for benchmarks"),
    (v4(198, 51, 100, 24), "an address for documentation"),
    (v4(203, 0, 113, 24), "an address for documentation"),
    (v4(224, 0, 0, 4), "a multicast address"),
    (Ipv4Net::new_assert(Ipv4Addr::BROADCAST, 32), "the broadcast address"),
    (v4(240, 0, 0, 4), "a reserved address"),
];

/// Likewise of IPv6. What is in neither list is public only in 2000::/3.
static V6: [(Ipv6Net, &str); 10] = [
    (Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128), "the unspecified address"),
    (Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128), "the loopback address"),
    (v6(0x64, 0xff9b, 1, 48), "an address of a translator's own network"),
    (v6(0x2001, 0, 0, 23), "an address reserved for protocols"),
    (v6(0x2001, 0xdb8, 0, 32), "an address for documentation"),
    (v6(0x3fff, 0, 0, 20), "an address for documentation"),
    (v6(0xfc00, 0, 0, 7), "a private address"),
    (v6(0xfe80, 0, 0, 10), "a link-local address"),
    (v6(0xfec0, 0, 0, 10), "a site-local address"),
    (v6(0xff00, 0, 0, 8), "a multicast address"),
];

static UNICAST: Ipv6Net = v6(0x2000, 0, 0, 3);
/// The translators' prefix that everybody knows: as public as the IPv4 address in it.
static NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

/// Why an address is not to be connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::starter) struct NotPublic {
    ip: IpAddr,
    /// What `ip` stands for; `ip` itself where it hides no other.
    face: IpAddr,
    kind: &'static str,
}

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ip, face, kind } = self;
        if ip == face { write!(f, "{ip} is {kind}") } else { write!(f, "{ip} stands for {face}, {kind}") }
    }
}

/// Whether one of these networks holds the address.
pub(in crate::starter) fn holds(networks: &[IpNet], ip: IpAddr) -> bool {
    networks.iter().any(|network| network.contains(&ip))
}

/// Whether the address is public or allowed, and with it every IPv4 address that hides in it.
///
/// # Errors
/// The first that is neither.
pub(in crate::starter) fn admit(ip: IpAddr, allowed: impl Fn(IpAddr) -> bool) -> Result<(), NotPublic> {
    for face in faces(ip).into_iter().flatten() {
        if let Some(kind) = special(face)
            && !allowed(face)
        {
            return Err(NotPublic { ip, face, kind });
        }
    }
    Ok(())
}

/// What an address is, if it is not public.
fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) => V4.iter().find(|(network, _)| network.contains(&ip)).map(|(_, kind)| *kind),
        IpAddr::V6(ip) => match V6.iter().find(|(network, _)| network.contains(&ip)) {
            Some((_, kind)) => Some(kind),
            None if UNICAST.contains(&ip) || NAT64.contains(&ip) => None,
            None => Some("a reserved address"),
        },
    }
}

/// The addresses that one address has to be judged by: itself, and the IPv4 addresses that it is a
/// tunnel's or a translator's way of writing, of which there may be several: which of them a network
/// on the way knows cannot be told. A mapped one is nothing but IPv4.
///
/// A translator's prefix of an operator's own choice cannot be told from any other address.
fn faces(ip: IpAddr) -> [Option<IpAddr>; 5] {
    let IpAddr::V6(v6) = ip else { return [Some(ip), None, None, None, None] };
    if let Some(mapped) = v6.to_ipv4_mapped() {
        return [Some(mapped.into()), None, None, None, None];
    }
    let octets = v6.octets();
    let at = |n: usize| Ipv4Addr::from([octets[n], octets[n + 1], octets[n + 2], octets[n + 3]]);
    let segments = v6.segments();
    let last = match segments {
        // :: and ::1 look like IPv4-compatible addresses and are none.
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        // IPv4-compatible; translated (RFC 2765); NAT64; ISATAP's interface identifiers.
        [0, 0, 0, 0, 0, 0, ..]
        | [0, 0, 0, 0, 0xffff, 0, ..]
        | [0x64, 0xff9b, ..]
        | [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some(at(12)),
        _ => None,
    };
    let (relayed, teredo) = (segments[0] == 0x2002, segments[..2] == [0x2001, 0]);
    // 6to4; Teredo: the server, and the client with all bits turned over.
    let (server, client) = (teredo.then(|| at(4)), teredo.then(|| Ipv4Addr::from_bits(!at(12).to_bits())));
    let hidden = [last, relayed.then(|| at(2)), server, client].map(|face| face.map(IpAddr::V4));
    [Some(ip), hidden[0], hidden[1], hidden[2], hidden[3]]
}

#[cfg(test)]
mod tests;
