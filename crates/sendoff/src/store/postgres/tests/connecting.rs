//! URLs, TLS, and what is said when there is no connection.

use std::sync::{Arc, Mutex};

use tokio::runtime::Handle;

use super::super::{connect::Target, link::Link};

fn shown(url: &str) -> String {
    format!("{:?}", Target::parse(url).unwrap())
}

#[test]
fn urls_are_read() {
    assert_eq!(
        shown("postgres://u:secret@one,two:6000/jobs?sslmode=disable"),
        r#"Target { servers: ["one:5432", "two:6000"], database: Some("jobs"), .. }"#
    );
    for url in [
        "postgresql://u@h/d",
        "postgres://u@h/d?sslmode=require",
        "postgres://u@h/d?sslmode=verify-full&connect_timeout=1",
        "postgres://u@h/d?sslmode=prefer&target_session_attrs=read-write",
        "postgres://h",
    ] {
        assert!(Target::parse(url).is_ok(), "{url}");
    }
    assert!(shown("postgres:///jobs?host=/run/postgresql&user=u").contains("/run/postgresql/.s.PGSQL.5432"));
}

#[test]
fn a_url_that_is_none_is_refused_without_its_password() {
    for (url, word) in [
        ("mysql://u:hunter2@h/d", "postgres://"),
        ("host=h password=hunter2", "postgres://"),
        ("postgres://u:hun@ter2@h/d", "%40"),
        ("postgres://u:hun/ter2@h/d", "%2F"),
        ("postgres://u:hun#ter2@h/d", "%23"),
        ("postgres://u:hun?ter2@h/d", "%3F"),
        ("postgres://u:hun?ter2=&x@h/d", "%3F"),
        ("postgres://u:hunter2@h:port/d", "port"),
        ("postgres://u:hunter2@h/d?sslmode=verify-ca", "verify-full"),
        ("postgres://u:hunter2@h/d?sslmode=allow", "verify-full"),
        ("postgres://u:hunter2@h/d?colour=red", "colour"),
        ("postgres://u:hunter2@h/d?connect_timeout=soon", "connect_timeout"),
        ("postgres://u:hunter2@h/d?prepare=never", "on, off"),
        ("postgres://u:hunter2@a,b/d?target_session_attrs=any", "read-write"),
        ("postgres://u:hunter2@a,b,c/d?port=1,2", "port"),
        ("postgres://u:hunter2@h/d?sslmode=disable&sslrootcert=/ca.pem", "sslrootcert"),
        ("postgres://u:hunter2@h/d?sslrootcert=/ca%zz", "sslrootcert"),
        ("postgres://u:hunter2@/d", "host"),
    ] {
        let err = Target::parse(url).unwrap_err();
        let words = format!("{err:?}");
        assert!(err.is_invalid() && words.contains(word), "{url}: {words}");
        assert!(!words.contains("hun") && !words.contains("ter2"), "{words}");
    }
    let err = Target::parse("postgres://u:hunter2@h/d?sslrootcert=/no/such.pem").unwrap_err();
    assert!(err.is_unusable() && err.to_string().contains("/no/such.pem"), "{err}");
    assert!(!shown("postgres://u:hunter2@h/d").contains("hunter2"));
    let prepares = |url: &str| Target::parse(url).unwrap().prepares();
    assert!(prepares("postgres://u@h/d") && !prepares("postgres://u@h/d?prepare=off"));
}

#[tokio::test]
async fn a_refusal_says_what_to_do() {
    if !testpg::wanted() {
        return;
    }
    let server = testpg::shared();
    let refused = async |url: &str| Target::parse(url).unwrap().connect().await.err().unwrap();
    let err = refused(&server.url("nowhere")).await;
    assert!(err.is_unusable() && err.to_string().contains("create it"), "{err}");
    let err = refused("postgres://u@127.0.0.1:1/d").await;
    assert!(err.is_unavailable() && err.to_string().contains("127.0.0.1:1"), "{err}");
    let err = refused(&server.url("postgres").replace("sendoff@", "nobody:hunter2@")).await;
    assert!(err.is_unusable() && !err.to_string().contains("hunter2"), "{err}");
    let err = refused(&format!("{}?sslmode=require", server.url("postgres"))).await;
    assert!(err.is_unusable() && err.to_string().contains("TLS"), "{err}");
}

#[tokio::test]
async fn a_server_that_says_nothing_does_not_hide_the_next() {
    if !testpg::wanted() {
        return;
    }
    let server = testpg::shared();
    // As a machine without power: connections go nowhere.
    let silent = testpg::Proxy::start(([127, 0, 0, 1], server.port()).into());
    silent.stall();
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", silent.port(), server.port());
    // Longer than a caller waits, so that the first one gives up before the second server is tried.
    let url =
        format!("postgres://sendoff@{hosts}/postgres?target_session_attrs=read-write&connect_timeout=3");
    let link = Link::new(Target::parse(&url).unwrap(), Arc::default());
    assert!(link.client().await.unwrap_err().is_unavailable());
    assert!(link.client().await.is_ok());
}

#[tokio::test]
async fn a_socket_in_a_directory_is_a_host() {
    if !testpg::wanted() {
        return;
    }
    let server = testpg::shared();
    let url = format!(
        "postgres:///postgres?host={}&port={}&user=sendoff&sslmode=require",
        server.directory().display(),
        server.port()
    );
    let client = super::connect(&url).await;
    let row = client.query_typed_one("SELECT current_setting('application_name')", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "sendoff");
}

#[tokio::test]
async fn notifications_reach_whoever_listens() {
    if !testpg::wanted() {
        return;
    }
    let url = testpg::shared().new_database().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let told = heard.clone();
    let listening = Target::parse(&url)
        .unwrap()
        .connect_listening(move |notification| told.lock().unwrap().push(notification.payload().to_owned()))
        .await
        .unwrap();
    Handle::current().spawn(listening.driver);
    listening.client.batch_execute("LISTEN hint").await.unwrap();
    super::connect(&url).await.batch_execute("NOTIFY hint, 'one'").await.unwrap();
    // Whatever was said before comes no later than an answer.
    listening.client.batch_execute("SELECT 1").await.unwrap();
    assert_eq!(*heard.lock().unwrap(), ["one"]);
}

#[tokio::test]
async fn certificates_are_verified() {
    let installed = testpg::Installation::find();
    if !testpg::wanted() || !installed.as_ref().is_ok_and(testpg::Installation::has_tls) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = write("server.pem", &made.cert.pem());
    let key = write("server.key", &made.signing_key.serialize_pem());
    let stranger = write("other.pem", &other.cert.pem());
    let options = testpg::Options::new().tls(&certificate, key);
    let server = testpg::Server::start(&installed.unwrap(), options).unwrap();
    let url = server.url("postgres");
    for mode in ["prefer", "require", "verify-full"] {
        let good = format!("{url}?sslmode={mode}&sslrootcert={}", certificate.display());
        let client = super::connect(&good).await;
        let query = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert!(client.query_typed_one(query, &[]).await.unwrap().get::<_, bool>(0), "{mode}");
        let bad = [
            format!("{url}?sslmode={mode}"),
            format!("{url}?sslmode={mode}&sslrootcert={}", stranger.display()),
        ];
        for url in bad {
            let err = Target::parse(&url).unwrap().connect().await.err().unwrap();
            assert!(err.is_unusable() && err.to_string().contains("sslrootcert"), "{err}");
        }
    }
    // Another name for the same server.
    let named = url.replace("127.0.0.1", "localhost");
    let err = Target::parse(&format!("{named}?sslmode=require&sslrootcert={}", certificate.display()));
    assert!(err.unwrap().connect().await.is_err_and(|err| err.is_unusable()));
    super::connect(&format!("{url}?sslmode=disable")).await;
}
