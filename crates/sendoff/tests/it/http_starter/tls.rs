//! https, with a CA of our own.

use std::{sync::Arc, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use sendoff::{
    ports::StartErrorClass,
    starter::{Http, HttpStarter},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

use super::{
    server::{Server, Step, no_content},
    start, start_once,
};

/// A server's side of TLS for `name`, and the CA's certificate as PEM.
fn certified(name: &str) -> (TlsAcceptor, String) {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &ca).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())),
        )
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), ca.pem())
}

#[tokio::test]
async fn https_verifies_and_keeps_its_connections() {
    for name in ["localhost", "127.0.0.1"] {
        let (tls, ca) = certified(name);
        let server = Server::start_tls(tls, |_| no_content()).await;
        let starter = HttpStarter::builder().root_certificates_pem(ca).build().unwrap();
        let payload = Http::post(format!("https://{name}:{}/", server.address.port())).body("x");
        for _ in 0..10 {
            assert_eq!(start(&starter, &payload).await.unwrap().status, Some(204));
        }
        assert_eq!(server.opened(), 1);
        start_once(&starter, &payload).await.unwrap();
        assert_eq!(server.opened(), 2);
        assert_eq!(
            server.seen()[0].header("host"),
            Some(format!("{name}:{}", server.address.port()).as_str())
        );
    }
}

#[tokio::test]
async fn large_bodies_go_through_tls() {
    let (tls, ca) = certified("localhost");
    let server = Server::start_tls(tls, |_| no_content()).await;
    let starter = HttpStarter::builder().root_certificates_pem(ca).build().unwrap();
    let body: String = ('a'..='w').cycle().take(2 << 20).collect();
    let payload = Http::post(format!("https://localhost:{}/", server.address.port())).body(&body);
    for _ in 0..2 {
        start(&starter, &payload).await.unwrap();
    }
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.body == body.as_bytes()), "byte for byte");
    assert_eq!(server.opened(), 1);
}

#[tokio::test]
async fn an_answer_may_overtake_its_request_in_tls() {
    let (tls, ca) = certified("localhost");
    let server = Server::start_tls(tls, |seen| match seen.header("x-answer-early") {
        Some(_) => [no_content(), vec![Step::Wait]].concat(),
        None => no_content(),
    })
    .await;
    let starter = HttpStarter::builder().root_certificates_pem(ca).build().unwrap();
    let payload = Http::post(format!("https://localhost:{}/", server.address.port()));
    let large = payload.header("x-answer-early", "1").body("y".repeat(8 << 20));
    start(&starter, &large).await.unwrap();
    start(&starter, &Http::post(large.url)).await.unwrap();
    assert_eq!(server.opened(), 2, "what was not sent whole leaves nothing to use again");
}

#[tokio::test]
async fn a_tls_connection_that_the_target_ended_is_replaced_in_the_same_attempt() {
    let (tls, ca) = certified("localhost");
    let server = Server::start_tls(tls, |_| [no_content(), vec![Step::Close]].concat()).await;
    let starter = HttpStarter::builder().root_certificates_pem(ca).build().unwrap();
    let payload = Http::post(format!("https://localhost:{}/", server.address.port()));
    for n in 1..=3 {
        start(&starter, &payload).await.unwrap();
        server.closed(n).await;
        server.settled().await;
    }
    assert_eq!((server.seen().len(), server.opened()), (3, 3));
}

#[tokio::test]
async fn a_certificate_that_does_not_hold_is_permanent() {
    let (tls, ca) = certified("somebody.else.example");
    let server = Server::start_tls(tls, |_| no_content()).await;
    let payload = Http::post(format!("https://localhost:{}/", server.address.port()));
    let trusting = HttpStarter::builder().root_certificates_pem(ca).build().unwrap();
    for (starter, words) in [(&HttpStarter::new(), "UnknownIssuer"), (&trusting, "not valid for name")] {
        let error = start(starter, &payload).await.unwrap_err();
        assert_eq!(error.class, StartErrorClass::Permanent, "{error}");
        assert!(error.message.contains("certificate refused") && error.message.contains(words), "{error}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_handshake_that_fails_or_hangs_is_not_started() {
    let server = Server::start(|_| vec![Step::Close]).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = format!("https://{}/", listener.local_addr().unwrap());
    let closing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = format!("https://{}/", closing.local_addr().unwrap());
    let close = async { while closing.accept().await.is_ok() {} };
    let starter = HttpStarter::builder().connect_timeout(Duration::from_millis(200)).build().unwrap();
    let starts = async {
        for (url, words) in [
            (silent, "TLS handshake not done within 200ms"),
            (closed, "TLS handshake failed"),
            (server.url("/").replace("http:", "https:"), "TLS handshake"),
        ] {
            let error = start(&starter, &Http::post(url)).await.unwrap_err();
            assert_eq!(error.class, StartErrorClass::NotStarted, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    };
    tokio::select! {
        () = starts => {}
        () = close => panic!("the listener failed"),
    }
    assert!(server.seen().is_empty());
}

#[test]
fn roots_that_are_none_are_refused() {
    for pem in ["nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let error = HttpStarter::builder().root_certificates_pem(pem).build().unwrap_err();
        assert!(error.is_invalid() && error.to_string().contains("root certificates"), "{error}");
    }
}
