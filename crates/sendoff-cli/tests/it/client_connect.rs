//! Where a client looks for its daemon, and what it says if there is none.

use std::{net::TcpListener, sync::Arc};

use serde_json::json;

use crate::{
    client_fake::{Answer, Fake, ok, problem},
    harness::Place,
};

#[test]
fn without_a_daemon_it_says_how_to_start_one() {
    let place = Place::new();
    let ended = place.run(["stats"]).code(4);
    let sockets =
        ["runtime", "state"].map(|directory| place.text(&format!("{directory}/sendoff/sendoff.sock")));
    let sockets = sockets.join(" or ");
    assert_eq!(
        ended.stderr,
        format!("sendoff: no daemon listens on {sockets}; start one with `sendoff serve`\n")
    );
    let ended = place.run(["stats", "--json", "--url", "unix:/nowhere/sock"]).code(4);
    let error: serde_json::Value = serde_json::from_str(&ended.stderr).unwrap();
    assert_eq!(error["exit_code"], 4);
    assert!(error["error"].as_str().unwrap().starts_with("no daemon listens on /nowhere/sock;"), "{error}");

    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}");
    place.run(["stats", "--url", &url]).code(4).stderr_has(&format!(
        "no daemon listens on {url}; start one with `sendoff serve --listen 127.0.0.1:{port}`"
    ));
}

#[test]
fn a_runtime_directory_without_a_daemon_does_not_hide_one_in_the_state_directory() {
    let place = Place::new();
    let _fake = Fake::of(&place, |_, _| ok("{}"));
    let mut command = place.command(["stats"]);
    command.env("XDG_RUNTIME_DIR", place.path("runtime"));
    place.spawn(command).end().code(0);
}

#[test]
fn the_token_comes_from_a_variable_a_flag_or_a_file() {
    let place = Place::new();
    let (fake, port) = Fake::on_tcp(None, |_, _| ok("{}"));
    let url = format!("http://127.0.0.1:{port}");
    place.write("token", "so_file\n");
    let mut command = place.command(["stats", "--url", &url]);
    command.env("SENDOFF_TOKEN", "so_env");
    place.spawn(command).end().code(0);
    place.run(["stats", "--url", &url, "--token", "so_flag"]).code(0);
    place.run(["stats", "--url", &url, "--token-file", "token"]).code(0);
    place.run(["stats", "--url", &url]).code(0);
    let sent: Vec<_> = fake
        .asked()
        .iter()
        .map(|asked| asked.headers.lines().find(|line| line.starts_with("authorization")).map(str::to_owned))
        .collect();
    let bearer = |token: &str| Some(format!("authorization: Bearer {token}"));
    assert_eq!(sent, [bearer("so_env"), bearer("so_flag"), bearer("so_file"), None]);
    assert!(fake.asked()[0].headers.contains(&format!("host: 127.0.0.1:{port}\n")));
    place.run(["stats", "--url", &url, "--token", "a\nb"]).code(2).stderr_has("characters that no token has");
    place.run(["stats", "--url", &url, "--token-file", "missing"]).code(2).stderr_has("--token-file missing");
}

#[test]
fn refusals_of_the_caller_say_what_is_needed() {
    let place = Place::new();
    let _fake = Fake::of(&place, |_, before| match before {
        0 => problem(401, "unauthorized", "a token is needed", json!({})),
        _ => problem(403, "forbidden", "this needs the scope admin", json!({"scope": "admin"})),
    });
    place.run(["stats"]).code(4).stderr_has("a token is needed; give a token with SENDOFF_TOKEN");
    place.run(["stats"]).code(4).stderr_has("sendoff: this needs the scope admin");
}

#[test]
fn what_is_no_daemon_is_recognised() {
    let place = Place::new();
    let _fake = Fake::of(&place, |_, before| match before {
        0 => Answer::Whole(502, "", "<html>".into()),
        1 => Answer::Whole(404, "", "not found".into()),
        _ => ok("<html>"),
    });
    place.run(["stats"]).code(4).stderr_has("is this a sendoff daemon?");
    place.run(["stats"]).code(4).stderr_has("is this a sendoff daemon?");
    place.run(["stats"]).code(4).stderr_has("the daemon's answer cannot be read");
}

#[test]
fn urls_that_lead_nowhere_are_refused() {
    let place = Place::new();
    for (url, words) in [
        ("127.0.0.1:8222", "--url \"127.0.0.1:8222\""),
        ("ftp://127.0.0.1/", "its scheme is none of http, https and unix"),
        ("http://", "--url"),
        ("http://user:secret@127.0.0.1/", "it must not hold a user or a password"),
    ] {
        let ended = place.run(["stats", "--url", url]).code(2).stderr_has(words);
        assert!(!ended.stderr.contains("secret"), "{ended}");
    }
    place
        .run(["stats", "--url", "https://127.0.0.1:1", "--ca", "missing"])
        .code(2)
        .stderr_has("--ca missing: No such file");
}

#[test]
fn tls_trusts_the_authority_that_is_named_and_no_other() {
    let place = Place::new();
    let key = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    place.write("ca.pem", key.cert.pem());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![key.cert.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let (_fake, port) = Fake::on_tcp(Some(Arc::new(tls)), |_, _| ok("{}"));
    let url = format!("https://127.0.0.1:{port}");
    place.run(["stats", "--url", &url, "--ca", "ca.pem"]).code(0);
    place.run(["stats", "--url", &url]).code(4).stderr_has("trust it with --ca FILE");
}
