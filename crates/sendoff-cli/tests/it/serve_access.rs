//! Who gets in, and by which way.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
};

use rustls::pki_types::{CertificateDer, pem::PemObject};

use crate::harness::{Answer, Daemon, Place, tls_client};

const TCP: &[&str] = &["--store", "memory", "--listen", "127.0.0.1:0"];

fn token(place: &Place, args: &[&str]) -> String {
    let made = place.run(["token", "create"].iter().chain(args)).code(0);
    format!("Authorization: Bearer {}", made.stdout.trim())
}

#[test]
fn tcp_callers_need_a_token_that_is_good() {
    let place = Place::new();
    let daemon = Daemon::start(&place, TCP);
    let ask = |headers: &[&str]| daemon.tcp().ask("GET", "/v1/stats", headers, "");
    let mut refusals =
        vec![ask(&[]), ask(&["Authorization: Bearer sdo_wrong"]), ask(&["Authorization: Basic eDp5"])];
    let expired = token(&place, &["old", "--scope", "read", "--expires", "0s"]);
    let good = token(&place, &["new", "--scope", "read"]);
    refusals.push(ask(&[&expired]));
    refusals.push(ask(&[&good, &good]));
    for refusal in refusals {
        let refusal = refusal.problem(401, "unauthorized");
        assert_eq!(refusal.header("www-authenticate"), Some("Bearer"));
    }
    assert_eq!(
        ask(&["Authorization: Bearer sdo_wrong"]).body,
        ask(&[&expired]).body,
        "nobody learns that a token was good once"
    );
    daemon.until_log("no access");
}

#[test]
fn a_running_daemon_learns_of_tokens() {
    let place = Place::new();
    let daemon = Daemon::start(&place, TCP);
    let good = token(&place, &["new", "--scope", "read"]);
    let ask = || daemon.tcp().ask("GET", "/v1/stats", &[&good], "").status;
    assert_eq!(ask(), 200, "at once");
    place.run(["token", "revoke", "new"]).code(0);
    daemon.signal(rustix::process::Signal::HUP);
    daemon.until_log("the configuration was read again");
    assert_eq!(ask(), 401);
    let (_, log) = daemon.stop();
    assert!(!log.contains(good.split_once("sdo_").unwrap().1), "{log}");
}

#[test]
fn the_unix_socket_is_for_its_own_user() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &["--store", "memory"]);
    let answer = daemon.ask("GET", "/v1/stats", "");
    assert!(![401, 403].contains(&answer.status), "{answer:?}");
    if !rustix::process::geteuid().is_root() {
        return;
    }
    // Root can show what another user meets, also where the modes let it in.
    for path in [".", "runtime", "runtime/sendoff", "runtime/sendoff/sendoff.sock"] {
        std::fs::set_permissions(place.path(path), PermissionsExt::from_mode(0o777)).unwrap();
    }
    let socket = place.text("runtime/sendoff/sendoff.sock");
    let mut command = std::process::Command::new("curl");
    command.args(["-s", "--unix-socket", &socket, "http://localhost/healthz"]).uid(65_534);
    let Ok(other) = command.output() else { return };
    assert!(String::from_utf8_lossy(&other.stdout).contains("/problems/other_user"), "{other:?}");
    daemon.until_log("another user on the unix socket");
}

#[test]
fn names_that_are_not_ours_are_refused() {
    let place = Place::new();
    let good = token(&place, &["t", "--scope", "read"]);
    let daemon = Daemon::start(&place, &[TCP, &["--hosts", "sendoff.example"]].concat());
    let door = daemon.tcp();
    let port = daemon.address().port();
    let named = |host: &str| door.ask("GET", "/v1/stats", &[&good, &format!("Host: {host}")], "");
    for host in ["localhost", "127.0.0.1", "[::1]", "LOCALHOST:1", "sendoff.example", "sendoff.example.:80"] {
        assert_ne!(named(host).status, 403, "{host}");
    }
    for host in ["evil.example", "localhost.evil.example", "10.0.0.1", "user@localhost", "", "localhost:x"] {
        named(host).problem(403, "host_not_allowed");
    }
    door.ask("GET", "http://evil.example/v1/stats", &[&good], "").problem(403, "host_not_allowed");
    let whole = format!("http://127.0.0.1:{port}/v1/stats");
    door.ask("GET", &whole, &[&good, "Host: evil.example"], "").problem(403, "host_not_allowed");
    assert_ne!(door.ask("GET", &whole, &[&good], "").status, 403);
    door.ask("GET", "/", &["Host: localhost", "Host: localhost"], "").problem(400, "bad_host");
    door.exchange("GET / HTTP/1.1\r\nConnection: close\r\n\r\n").problem(400, "bad_host");
}

#[test]
fn pages_of_other_origins_may_send_nothing() {
    let place = Place::new();
    let daemon = Daemon::start(&place, &[TCP, &["--origins", "https://ops.example"]].concat());
    for door in [daemon.tcp(), daemon.unix()] {
        for method in ["GET", "POST", "OPTIONS"] {
            for origin in ["Origin: http://evil.example", "Origin: null", "Origin: http://localhost"] {
                door.ask(method, "/healthz", &[origin], "").problem(403, "origin_not_allowed");
            }
            let ours = door.ask(method, "/healthz", &["Origin: https://ops.example"], "");
            assert_ne!(ours.status, 403);
            assert!(ours.header("access-control-allow-origin").is_none());
        }
    }
}

#[test]
fn tls_is_spoken_when_there_is_a_certificate() {
    let place = Place::new();
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    place.write("cert.pem", signed.cert.pem());
    place.write("key.pem", signed.signing_key.serialize_pem());
    let flags = ["--listen", "0.0.0.0:0", "--tls-certificate", "cert.pem", "--tls-key", "key.pem"];
    let daemon = Daemon::start(&place, &[&["--store", "memory"][..], &flags].concat());
    assert!(daemon.ready["listen"][0].as_str().unwrap().starts_with("https://"));
    let address = SocketAddr::from(([127, 0, 0, 1], daemon.address().port()));
    tls(address, &place.read("cert.pem")).problem(401, "unauthorized");
    let plain = TcpStream::connect(address).unwrap();
    write!(&plain, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reply = Vec::new();
    let _ = std::io::Read::read_to_end(&mut &plain, &mut reply);
    assert!(!reply.starts_with(b"HTTP"), "{reply:?}");

    let one = ["serve", "--store", "memory", "--tls-certificate", "cert.pem"];
    place.run(one).code(2).stderr_has("tls.certificate and tls.key go together");
    place.run([&one[..], &["--tls-key", "cert.pem"]].concat()).code(2).stderr_has("tls.key: cert.pem cannot");
}

fn tls(address: SocketAddr, certificate: &str) -> Answer {
    let session = tls_client(CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap());
    let mut stream = rustls::StreamOwned::new(session, TcpStream::connect(address).unwrap());
    write!(stream, "GET /v1/stats HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    Answer::read(stream)
}
