//! What comes past the gate: hosts, origins and tokens that hold anything.

use std::{net::IpAddr, path::PathBuf, sync::Arc, sync::LazyLock};

use http::{Request, header};
use sendoff::testing::fuzz::parts;

use super::{
    gate::{Gate, Peer},
    live::Live,
};
use crate::{
    access::Keyring,
    api::problem::{HOST_NOT_ALLOWED, ORIGIN_NOT_ALLOWED, UNAUTHORIZED},
    config::{self, Entry, Key, Origin, Settings},
};

const OURS: [u8; 4] = [192, 0, 2, 1];

static GATE: LazyLock<Gate> = LazyLock::new(|| {
    let entry = |name: &str, value: serde_json::Value| Entry {
        key: Key::named(name).expect("a key"),
        value,
        origin: Origin::Flag,
    };
    let given = vec![
        entry("hosts", ["sendoff.example.com"].as_slice().into()),
        entry("origins", ["https://ops.example.com"].as_slice().into()),
        entry("store", "memory".into()),
        entry("socket", "/srv/socket".into()),
        entry("tokens", "/srv/tokens".into()),
    ];
    let nothing = Some(PathBuf::from("/dev/null"));
    let loaded = config::load(&Settings { file: nothing, given }).unwrap_or_else(|faults| panic!("{faults}"));
    // A file that is not there holds no tokens.
    let keyring = Keyring::open("/nowhere/tokens".into()).unwrap_or_else(|failure| panic!("{failure}"));
    Gate::new(Live::new(loaded), Arc::new(keyring))
});

/// A Host header, an Origin header (none if it is empty), and what stands behind Authorization.
pub(crate) fn gate(data: &[u8]) {
    let [host, origin, token] = parts(data);
    let mut request = Request::builder().uri("/v1/jobs").header(header::HOST, host);
    if !origin.is_empty() {
        request = request.header(header::ORIGIN, origin);
    }
    if !token.is_empty() {
        request = request.header(header::AUTHORIZATION, token);
    }
    let Ok(request) = request.body(()) else { return };
    let head = request.into_parts().0;
    let peer = Peer::Tcp { local: IpAddr::from(OURS), remote: IpAddr::from([198, 51, 100, 7]) };
    let origin_fits = origin.is_empty() || origin == b"https://ops.example.com";
    match GATE.judge(&head, peer) {
        Ok(Ok(identity)) => panic!("no token is good, and {} is known", identity.name),
        Ok(Err(problem)) => {
            assert_eq!(problem.kind, UNAUTHORIZED.name);
            assert!(origin_fits && is_ours(host), "{:?}", String::from_utf8_lossy(host));
            let secret = String::from_utf8_lossy(token);
            assert!(secret.len() < 20 || !problem.detail.contains(&*secret), "{problem}");
        }
        Err(problem) => {
            assert!([HOST_NOT_ALLOWED.name, ORIGIN_NOT_ALLOWED.name].contains(&problem.kind), "{problem}");
            // In their plain spellings they are let in.
            let plain =
                [&b"localhost"[..], b"127.0.0.1:8222", b"192.0.2.1", b"[::1]:1", b"sendoff.example.com"];
            assert!(!(origin_fits && plain.contains(&host)), "{problem}");
        }
    }
}

/// Whether a host names this machine, as a browser reads it.
fn is_ours(host: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(host) else { return false };
    let name = match text.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => text,
    };
    let Ok(url) = url::Url::parse(&format!("http://{name}/")) else { return false };
    let name = url.host_str().unwrap_or_default();
    let name = name.strip_suffix('.').unwrap_or(name);
    let plain = url.username().is_empty() && url.password().is_none() && url.path() == "/";
    plain && ["localhost", "127.0.0.1", "192.0.2.1", "[::1]", "sendoff.example.com"].contains(&name)
}
