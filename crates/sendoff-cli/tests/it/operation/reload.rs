//! What SIGHUP changes.

use std::net::TcpStream;

use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, pem::PemObject};

use super::{ended, submit};
use crate::{
    endpoint::Endpoint,
    harness::{Daemon, Place, http, tls_client},
};

const AGAIN: &str = "the configuration was read again";

#[test]
fn more_starts_at_once() {
    let mut endpoint = Endpoint::answering(0);
    let place = Place::new();
    place.write("conf", "[limits]\nmax_in_flight = 1\n");
    let daemon = Daemon::start(&place, &["--store", "memory", "--config", "conf"]);
    for job in http(endpoint.address, 3, "").lines() {
        submit(&daemon, job);
    }
    endpoint.wait_for(1);
    let stats = daemon.ask("GET", "/v1/stats", "").status(200).json();
    assert_eq!(stats["in_flight"], 1, "{stats}");
    place.write("conf", "[limits]\nmax_in_flight = 3\n");
    daemon.signal(Signal::HUP);
    endpoint.wait_for(2);
    endpoint.open();
}

#[test]
fn what_local_jobs_may_reach_and_what_is_logged() {
    let place = Place::new();
    place.write("conf", "log = 'error'\n");
    let daemon = Daemon::start(&place, &["--store", "memory", "--config", "conf"]);
    let job = r#"{"start":{"process":{"program":"/bin/true"}}}"#;
    assert_eq!(ended(&daemon, &submit(&daemon, job))["state"], "started");

    place.write("conf", "log = 'audit=debug,sendoff=info'\n[allow_local]\nprograms = ['/nowhere']\n");
    daemon.signal(Signal::HUP);
    daemon.until_log(AGAIN);
    let refused = daemon.ask("POST", "/v1/jobs", job).problem(400, "invalid_job").json();
    assert_eq!(refused["field"], "start.process.program");
    let guid = submit(&daemon, r#"{"start":{"simulated":{"delay":"1ms"}}}"#);
    daemon.until_log(&guid);
}

/// Whether the daemon shows this certificate.
fn shows(daemon: &Daemon, certificate: &CertificateDer<'static>) -> bool {
    let mut session = tls_client(certificate.clone());
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    while session.is_handshaking() {
        if session.complete_io(&mut stream).is_err() {
            return false;
        }
    }
    true
}

fn certificate(place: &Place) -> CertificateDer<'static> {
    let signed = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    place.write("cert.pem", signed.cert.pem());
    place.write("key.pem", signed.signing_key.serialize_pem());
    CertificateDer::from_pem_slice(signed.cert.pem().as_bytes()).unwrap()
}

#[test]
fn a_renewed_certificate() {
    let place = Place::new();
    let first = certificate(&place);
    let flags = ["--listen", "127.0.0.1:0", "--tls-certificate", "cert.pem", "--tls-key", "key.pem"];
    let daemon = Daemon::start(&place, &[&["--store", "memory"][..], &flags].concat());
    assert!(shows(&daemon, &first));
    let second = certificate(&place);
    daemon.signal(Signal::HUP);
    daemon.until_log(AGAIN);
    assert!(shows(&daemon, &second) && !shows(&daemon, &first));
    // Half a renewal changes nothing.
    place.write("cert.pem", "nonsense");
    daemon.signal(Signal::HUP);
    daemon.until_log("the configuration stays as it was: tls.certificate");
    assert!(shows(&daemon, &second) && !shows(&daemon, &first));
}
