//! What is decided about a request before the API sees it: whether it came by a way that it may come,
//! and who sent it.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use http::{header, request::Parts};
use url::Host;

use super::live::Live;
use crate::{
    access::{Identity, Keyring, Scope},
    api::problem::{BAD_HOST, HOST_NOT_ALLOWED, ORIGIN_NOT_ALLOWED, OTHER_USER, Problem, UNAUTHORIZED},
    log::Throttle,
};

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    /// A process of this machine, of this user.
    Unix { uid: u32 },
    /// To this address of ours.
    Tcp { local: IpAddr, remote: IpAddr },
}

/// Decides.
pub(super) struct Gate {
    live: Live,
    keyring: Arc<Keyring>,
    /// Our own user.
    uid: u32,
}

/// Lines about callers that nobody knows, in a second.
static FAILURES: Throttle = Throttle::new(5);

impl Gate {
    pub(super) fn new(live: Live, keyring: Arc<Keyring>) -> Self {
        Self { live, keyring, uid: rustix::process::geteuid().as_raw() }
    }

    /// Refuses what no caller may send; else says who sends it.
    pub(super) fn judge(&self, head: &Parts, peer: Peer) -> Result<Result<Identity, Problem>, Problem> {
        self.check_host(head, peer)?;
        self.check_origin(head)?;
        match peer {
            Peer::Unix { uid } => self.peer(uid).map(Ok),
            Peer::Tcp { remote, .. } => Ok(self.bearer(head).inspect_err(|problem| {
                if FAILURES.allows() {
                    tracing::warn!(target: "audit", %remote, "no access: {}", problem.detail);
                }
            })),
        }
    }

    /// The peer's user stands for a token: our own may do everything, since it could open the store.
    fn peer(&self, uid: u32) -> Result<Identity, Problem> {
        if uid == self.uid || uid == 0 {
            let grant = self.live.current().local.clone();
            return Ok(Identity::new(format!("uid:{uid}"), Scope::ALL, grant));
        }
        if FAILURES.allows() {
            tracing::warn!(target: "audit", uid, "no access: another user on the unix socket");
        }
        Err(OTHER_USER
            .says("the unix socket is for the daemon's own user and root; other users use TCP with a token"))
    }

    /// The same words whatever is wrong with a token.
    fn bearer(&self, head: &Parts) -> Result<Identity, Problem> {
        let refused = |detail: &str| UNAUTHORIZED.says(detail);
        let mut values = head.headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (values.next(), values.next()) else {
            return Err(refused("send a token: Authorization: Bearer …; `sendoff token create` makes one"));
        };
        let words = value.to_str().ok().and_then(|text| text.split_once(' '));
        let secret = words.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let known = secret.and_then(|(_, secret)| self.keyring.find(secret.trim()));
        let known = known.ok_or_else(|| refused("the token is not good (any more)"))?;
        Ok(Identity::of_token(known, self.keyring.clone(), self.live.current().remote.clone()))
    }

    /// A page in a browser can send requests here under a name of its own that resolves to this
    /// machine. The name gives it away.
    fn check_host(&self, head: &Parts, peer: Peer) -> Result<(), Problem> {
        let mut hosts = head.headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else {
            return Err(BAD_HOST.says("send exactly one Host header"));
        };
        let Peer::Tcp { local, .. } = peer else { return Ok(()) };
        let named = host.to_str().ok().and_then(host_of);
        let target = head.uri.authority().map(|authority| host_of(authority.as_str()));
        if self.is_ours(named.as_ref(), local)
            && target.is_none_or(|target| self.is_ours(target.as_ref(), local))
        {
            return Ok(());
        }
        Err(HOST_NOT_ALLOWED.says(
            "the daemon does not go by this name; address it by its IP address or localhost, or add the name \
             to hosts in its configuration",
        ))
    }

    fn is_ours(&self, host: Option<&Host>, local: IpAddr) -> bool {
        let Some(host) = host else { return false };
        let by_itself = match host {
            Host::Domain(name) => name == "localhost",
            // An address cannot be made to resolve to another one.
            Host::Ipv4(ip) => *ip == local || *ip == Ipv4Addr::LOCALHOST,
            Host::Ipv6(ip) => *ip == local || *ip == Ipv6Addr::LOCALHOST,
        };
        by_itself || self.live.current().config().hosts.contains(&host.to_string())
    }

    fn check_origin(&self, head: &Parts) -> Result<(), Problem> {
        let live = self.live.current();
        let allowed = |origin: &http::HeaderValue| {
            origin.to_str().is_ok_and(|origin| live.config().origins.iter().any(|ours| ours == origin))
        };
        if head.headers.get_all(header::ORIGIN).iter().all(allowed) {
            return Ok(());
        }
        Err(ORIGIN_NOT_ALLOWED.says(
            "pages of this origin may send nothing here; add it to origins in the daemon's configuration",
        ))
    }
}

/// The host of `host[:port]`, in its one form; none if that is no host.
fn host_of(authority: &str) -> Option<Host> {
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (authority, ""),
    };
    if !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Host::parse(host.strip_suffix('.').unwrap_or(host)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_in_every_spelling() {
        let same = |text: &str| host_of(text).map(|host| host.to_string());
        for (text, host) in [
            ("localhost", "localhost"),
            ("LOCALHOST:8222", "localhost"),
            ("localhost.", "localhost"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("[::1]", "[::1]"),
            ("[0:0:0:0:0:0:0:1]:80", "[::1]"),
        ] {
            assert_eq!(same(text).as_deref(), Some(host), "{text}");
        }
        for text in ["", ":80", "a:b", "user@localhost", "a b", "[::1", "localhost:80:80"] {
            assert_eq!(same(text), None, "{text}");
        }
    }
}
