//! Attacks on the address policy: nothing that a job may not reach gets so much as a connection.
//!
//! Where a test needs a target that may be reached, one address of loopback is allowed.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use sendoff::{
    Grant, Reach,
    ports::{Refusal, StartErrorClass, Starter},
    starter::{Http, HttpStarter, HttpStarterBuilder, Policy, SharedPolicy},
};

use super::{
    attempt,
    server::{Server, no_content, send, within},
    start, start_once,
};

fn reach(networks: &[&str]) -> Reach {
    Reach { networks: networks.iter().map(|network| network.parse().unwrap()).collect(), ..Reach::default() }
}

/// A policy with these networks for jobs from anywhere.
fn policy(networks: &[&str]) -> SharedPolicy {
    SharedPolicy::new(Policy { everyone: reach(networks), local: Reach::default() }).hint("ask the operator")
}

fn builder(networks: &[&str]) -> HttpStarterBuilder {
    HttpStarter::builder().policy(policy(networks))
}

fn check(starter: &HttpStarter, url: &str, grant: Option<&Grant>) -> Result<(), Refusal> {
    let payload = serde_json::value::to_raw_value(&Http::post(url)).unwrap();
    starter.check(&payload, grant).map(drop)
}

#[test]
fn literals_are_refused_at_submit_in_every_spelling() {
    let starter = builder(&[]).build().unwrap();
    for host in [
        "127.0.0.1",
        "2130706433",
        "0177.0.0.1",
        "0x7f.0.0.1",
        "0x7f000001",
        "127.1",
        "127.0.1",
        "%31%32%37.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::127.0.0.1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "[fd00:ec2::254]",
        "10.1.2.3",
        "192.168.0.1",
        "100.64.0.1",
    ] {
        let refusal = check(&starter, &format!("http://{host}/"), None).unwrap_err();
        assert_eq!(refusal.field, "url", "{host}");
        let message = &refusal.message;
        assert!(message.contains("no allowed network holds it; ask the operator"), "{host}: {message}");
    }
    for host in ["8.8.8.8", "[2606:4700::1111]", "localhost", "example.com"] {
        check(&starter, &format!("http://{host}/"), None).unwrap();
    }
}

#[tokio::test]
async fn the_connection_is_refused_too_whatever_submit_said() {
    let server = Server::start(|_| no_content()).await;
    let shared = policy(&["127.0.0.0/8"]);
    let starter = HttpStarter::builder().policy(shared.clone()).build().unwrap();
    check(&starter, &server.url("/"), None).unwrap();
    shared.set(Policy::default());
    let error = start(&starter, &Http::post(server.url("/"))).await.unwrap_err();
    assert_eq!(error.class, StartErrorClass::Permanent);
    let words = "127.0.0.1 is a loopback address, and no allowed network holds it";
    assert!(error.message.contains(words), "{error}");
    assert_eq!(server.opened(), 0);
}

#[tokio::test]
async fn names_are_held_to_where_they_lead() {
    let server = Server::start(|_| no_content()).await;
    let port = server.address.port();
    let starter = builder(&[]).build().unwrap();
    let error = start(&starter, &Http::post(format!("http://localhost:{port}/"))).await.unwrap_err();
    assert_eq!(error.class, StartErrorClass::Permanent, "{error}");
    for address in ["127.0.0.1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1", "fd00:ec2::254", "::1"] {
        let ip: IpAddr = address.parse().unwrap();
        let starter = builder(&[]).resolver(move |_, port| Ok(vec![(ip, port).into()])).build().unwrap();
        let error = start(&starter, &Http::post(format!("http://a.example:{port}/"))).await.unwrap_err();
        assert_eq!(error.class, StartErrorClass::Permanent, "{address}: {error}");
        assert!(error.message.starts_with(&format!("a.example:{port}: {address} ")), "{error}");
    }
    assert_eq!(server.opened(), 0);
}

#[tokio::test]
async fn of_several_addresses_the_refused_ones_are_left_out() {
    let server = Server::start(|_| no_content()).await;
    let payload = Http::post(format!("http://a.example:{}/", server.address.port()));
    // All of 127/8 is this machine: the server would see a connection to any of them.
    let both = |_: &str, port| Ok(vec![([169, 254, 169, 254], port).into(), ([127, 0, 0, 1], port).into()]);
    let starter = builder(&["127.0.0.1/32"]).resolver(both).build().unwrap();
    start(&starter, &payload).await.unwrap();
    // What is allowed and fails is to be tried again.
    let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let payload = Http::post(format!("http://a.example:{}/", free.local_addr().unwrap().port()));
    drop(free);
    let error = start(&starter, &payload).await.unwrap_err();
    assert_eq!(error.class, StartErrorClass::NotStarted, "{error}");
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_the_second_time_is_looked_up_once_and_dialled_as_found() {
    let (good, secret) = (Server::start(|_| no_content()).await, Server::start(|_| no_content()).await);
    let (good_at, port) = (good.address, secret.address.port());
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let answer = move |_: &str, _: u16| -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![match count.fetch_add(1, Ordering::Relaxed) {
            0 => good_at,
            // The same machine by an address that is not allowed.
            _ => ([127, 0, 0, 2], port).into(),
        }])
    };
    let starter = builder(&["127.0.0.1/32"]).resolver(answer).build().unwrap();
    let payload = Http::post(format!("http://rebind.example:{port}/"));
    start_once(&starter, &payload).await.unwrap();
    assert_eq!((asked.load(Ordering::Relaxed), good.opened()), (1, 1), "one look-up for check and use");
    let error = start_once(&starter, &payload).await.unwrap_err();
    assert_eq!(error.class, StartErrorClass::Permanent, "{error}");
    assert_eq!((asked.load(Ordering::Relaxed), secret.opened()), (2, 0));
}

#[tokio::test]
async fn a_redirect_to_what_is_refused_leads_nowhere() {
    let secret = Server::start(|_| no_content()).await;
    for target in ["http://169.254.169.254/latest/meta-data/".to_owned(), secret.url("/")] {
        for status in [301, 302, 303, 307, 308] {
            let answer = format!("HTTP/1.1 {status} X\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n");
            let server = Server::start(move |_| vec![send(&answer)]).await;
            let starter = builder(&["127.0.0.1/32"]).build().unwrap();
            let error = start(&starter, &Http::post(server.url("/"))).await.unwrap_err();
            assert_eq!(error.class, StartErrorClass::Permanent, "{error}");
            assert!(error.message.contains("redirects are not followed"), "{error}");
            assert_eq!((server.seen().len(), server.opened()), (1, 1));
        }
    }
    assert_eq!(secret.opened(), 0);
}

#[tokio::test]
async fn a_job_never_rides_a_connection_that_its_own_grant_would_not_allow() {
    let server = Server::start(|_| no_content()).await;
    let shared = policy(&["127.0.0.0/8"]);
    let starter = HttpStarter::builder().policy(shared.clone()).build().unwrap();
    let granted = |networks: &[&str]| {
        let mut attempt = attempt(&Http::post(server.url("/")));
        attempt.grant = Some(Arc::new(Grant { local: false, reach: reach(networks) }));
        within(starter.start(attempt))
    };
    granted(&["127.0.0.1/32"]).await.unwrap();
    assert_eq!(server.open(), 1, "a connection is kept");
    for networks in [&[][..], &["10.0.0.0/8"], &["127.0.0.2/32"]] {
        let error = granted(networks).await.unwrap_err();
        assert_eq!(error.class, StartErrorClass::Permanent, "{error}");
    }
    granted(&["127.0.0.0/8"]).await.unwrap();
    assert_eq!((server.seen().len(), server.opened()), (2, 1), "it stayed, for those who may");
    shared.set(Policy::default());
    let error = granted(&["127.0.0.0/8"]).await.unwrap_err();
    assert_eq!(error.class, StartErrorClass::Permanent, "kept under a policy that has gone: {error}");
    assert_eq!(server.seen().len(), 2);
}

#[tokio::test]
async fn policy_and_grant_both_have_to_allow_and_the_local_half_is_for_local_jobs() {
    let server = Server::start(|_| no_content()).await;
    let loopback = || reach(&["127.0.0.1/32"]);
    let shared = SharedPolicy::new(Policy { everyone: Reach::default(), local: loopback() });
    let starter = HttpStarter::builder().policy(shared).build().unwrap();
    for (grant, allowed) in [
        (None, false),
        (Some(Grant { local: false, reach: loopback() }), false),
        (Some(Grant { local: true, reach: Reach::default() }), false),
        (Some(Grant { local: true, reach: loopback() }), true),
    ] {
        assert_eq!(check(&starter, &server.url("/"), grant.as_ref()).is_ok(), allowed, "{grant:?}");
        let mut attempt = attempt(&Http::post(server.url("/")));
        attempt.grant = grant.map(Arc::new);
        assert_eq!(within(starter.start(attempt)).await.is_ok(), allowed);
    }
    assert_eq!(server.opened(), 1);
}

#[tokio::test]
async fn everything_can_be_allowed_but_what_names_no_host() {
    let server = Server::start(|_| no_content()).await;
    let starter = builder(&["0.0.0.0/0", "::/0"]).build().unwrap();
    start(&starter, &Http::post(server.url("/"))).await.unwrap();
    for url in ["http://0.0.0.0/", "http://[::]/", "http://[::ffff:0.0.0.0]/", "http://255.255.255.255/"] {
        assert_eq!(check(&starter, url, None).unwrap_err().field, "url", "{url}");
    }
}

#[tokio::test]
async fn without_a_policy_a_grant_refuses_nothing() {
    let server = Server::start(|_| no_content()).await;
    let starter = HttpStarter::new();
    let mut attempt = attempt(&Http::post(server.url("/")));
    attempt.grant = Some(Arc::default());
    check(&starter, &server.url("/"), attempt.grant.as_deref()).unwrap();
    within(starter.start(attempt)).await.unwrap();
}
