//! Headers that name their secret.

use std::{fs, os::unix::fs::symlink, path::PathBuf};

use sendoff::{
    Reach,
    ports::{Refusal, StartErrorClass, Starter},
    starter::{Http, HttpSecret, HttpStarter, Policy, SharedPolicy},
};

use super::{
    attempt,
    server::{Server, no_content},
    start,
};

/// A directory for secrets, without symbolic links in its path.
fn place() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    (dir, root)
}

/// A starter that may call loopback, and send these secrets.
fn starter(secrets: &[&str]) -> HttpStarter {
    let everyone = Reach {
        networks: vec!["127.0.0.0/8".parse().unwrap()],
        secrets: secrets.iter().map(|&pattern| pattern.to_owned()).collect(),
        ..Reach::default()
    };
    let policy = SharedPolicy::new(Policy { everyone, local: Reach::default() });
    HttpStarter::builder().policy(policy).build().unwrap()
}

fn check(starter: &HttpStarter, headers: &str) -> Result<(), Refusal> {
    let json = format!(r#"{{"url":"http://8.8.8.8/","headers":{headers}}}"#);
    starter.check(&serde_json::value::RawValue::from_string(json).unwrap(), None).map(drop)
}

#[tokio::test]
async fn secrets_are_looked_up_at_each_attempt() {
    let (_dir, root) = place();
    let file = root.join("token");
    let server = Server::start(|_| no_content()).await;
    let starter = HttpStarter::new();
    let payload = Http::post(server.url("/"))
        .header("authorization", HttpSecret::file(&file).prefix("Bearer "))
        .header("x-home", HttpSecret::env("PATH"))
        .header("x-text", "env:PATH");
    for secret in ["first\n", "second"] {
        fs::write(&file, secret).unwrap();
        start(&starter, &payload).await.unwrap();
    }
    let seen = server.seen();
    assert_eq!(seen[0].header("authorization"), Some("Bearer first"));
    assert_eq!(seen[1].header("authorization"), Some("Bearer second"));
    assert_eq!(seen[0].header("x-home"), std::env::var("PATH").ok().as_deref());
    assert_eq!(seen[0].header("x-text"), Some("env:PATH"), "a text stays a text");
}

#[tokio::test]
async fn a_secret_that_is_not_there_is_waited_for() {
    let (_dir, root) = place();
    let server = Server::start(|_| no_content()).await;
    let starter = HttpStarter::new();
    fs::write(root.join("empty"), "\n").unwrap();
    fs::write(root.join("large"), vec![b'x'; 64 * 1024 + 1]).unwrap();
    for (secret, words) in [
        (HttpSecret::env("SENDOFF_NO_SUCH_VARIABLE"), "is not set"),
        (HttpSecret::file(root.join("none")), "No such file"),
        (HttpSecret::file(root.join("empty")), "is empty"),
        (HttpSecret::file(root.join("large")), "larger than"),
        (HttpSecret::file(&root), "not a regular file"),
        (HttpSecret::file("/dev/zero"), "not a regular file"),
    ] {
        let payload = Http::post(server.url("/")).header("X-Token", secret.clone());
        let error = start(&starter, &payload).await.unwrap_err();
        assert_eq!(error.class, StartErrorClass::NotStarted, "{error}");
        assert!(
            error.message.starts_with(&format!("headers.X-Token: the secret {}", secret.secret)),
            "{error}"
        );
        assert!(error.message.contains(words), "{error}");
    }
    assert_eq!(server.opened(), 0);
}

#[tokio::test]
async fn a_secret_cannot_add_headers() {
    let (_dir, root) = place();
    let file = root.join("token");
    let server = Server::start(|_| no_content()).await;
    let starter = HttpStarter::new();
    for content in ["hunter2\r\nx-admin: 1", "hunter2\nx-admin: 1\n", "hunter2\n\n", "hunter2\0", "hunter2é"]
    {
        fs::write(&file, content).unwrap();
        let payload = Http::post(server.url("/")).header("x-token", HttpSecret::file(&file));
        let error = start(&starter, &payload).await.unwrap_err();
        assert_eq!(error.class, StartErrorClass::Permanent, "{error}");
        assert!(error.message.contains("holds a line break"), "{error}");
        assert!(!error.message.contains("hunter2") && !error.message.contains("admin"), "{error}");
    }
    fs::write(&file, vec![b'x'; 33 * 1024]).unwrap();
    let payload = Http::post(server.url("/")).header("x-token", HttpSecret::file(&file));
    let error = start(&starter, &payload).await.unwrap_err();
    assert_eq!(error.class, StartErrorClass::Permanent, "{error}");
    assert!(error.message.contains("32768 allowed"), "{error}");
    assert_eq!(server.opened(), 0);
}

#[test]
fn references_and_prefixes_are_checked_at_submit() {
    let starter = HttpStarter::new();
    for (headers, field, words) in [
        (r#"{"x-a":{"secret":"hunter2"}}"#, "headers.x-a.secret", "write env:NAME or file:/PATH"),
        (r#"{"x-a":{"secret":"file:hunter2"}}"#, "headers.x-a.secret", "absolute path"),
        (r#"{"x-a":{"secret":"file:/a/../hunter2"}}"#, "headers.x-a.secret", "without .."),
        (r#"{"x-a":{"secret":"env:"}}"#, "headers.x-a.secret", "name of a variable"),
        (r#"{"X-A":{"secret":"env:A","prefix":"a\r\nx-b: "}}"#, "headers.X-A", "line break"),
        (r#"{"x-a":"b\r\nx-b: c"}"#, "headers.x-a", "line break"),
        (r#"{"x-a":{"secret":"env:A","hunter":"2"}}"#, "headers.x-a.hunter", "unknown field"),
        (r#"{"x-a":{"prefix":"hunter2"}}"#, "headers.x-a", "missing field `secret`"),
        (r#"{"x-a":{"secret":{"hunter2":1}}}"#, "headers.x-a.secret", "expected a string"),
        (r#"{"x-a":["hunter2"]}"#, "headers.x-a", "expected a string or an object"),
        (r#"{"x-sendoff-a":{"secret":"env:A"}}"#, "headers.x-sendoff-a", "sendoff sets this header"),
        (r#"{"x-a":{"secret":"env:A"},"X-A":"b"}"#, "headers.x-a", "given twice"),
    ] {
        let refusal = check(&starter, headers).unwrap_err();
        assert_eq!(refusal.field, field, "{headers}: {refusal:?}");
        assert!(refusal.message.contains(words), "{headers}: {refusal:?}");
        assert!(!refusal.message.contains("hunter2"), "{refusal:?}");
    }
}

#[test]
fn the_policy_says_which_secrets_may_be_sent() {
    for (secrets, secret, allowed) in [
        (&[][..], "env:TOKEN", false),
        (&["env:TOKEN"], "env:TOKEN", true),
        (&["env:TOKEN"], "env:TOKEN2", false),
        (&["env:*"], "env:TOKEN", true),
        (&["env:*"], "file:/run/secrets/token", false),
        (&["file:/run/secrets/"], "file:/run/secrets/token", true),
        (&["file:/run/secrets/"], "file:/run/secrets-of-others/token", false),
        (&["file:/run/secrets/"], "file:/etc/shadow", false),
        (&["file:/run/secrets/token"], "file:/run/secrets/token", true),
    ] {
        let headers = format!(r#"{{"x-a":{{"secret":"{secret}"}}}}"#);
        match check(&starter(secrets), &headers) {
            Ok(()) => assert!(allowed, "{secrets:?} {secret}"),
            Err(refusal) => {
                assert!(!allowed, "{secrets:?} {secret}");
                assert_eq!(refusal.field, "headers.x-a.secret");
                assert!(
                    refusal.message.contains(&format!("the secret {secret} is not among")),
                    "{refusal:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_link_to_a_secret_is_followed_only_to_what_is_allowed() {
    let (_dir, root) = place();
    for directory in ["allowed", "allowed/v1", "other"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    fs::write(root.join("allowed/v1/token"), "inside").unwrap();
    fs::write(root.join("other/token"), "outside").unwrap();
    // As Kubernetes mounts secrets: a link to a file in a directory that is a link.
    symlink("v1", root.join("allowed/data")).unwrap();
    symlink("data/token", root.join("allowed/token")).unwrap();
    symlink(root.join("other/token"), root.join("allowed/out")).unwrap();
    symlink(root.join("other"), root.join("allowed/outer")).unwrap();
    let server = Server::start(|_| no_content()).await;
    let starter = starter(&[&format!("file:{}/", root.join("allowed").display())]);
    let send = |path: &str| {
        let payload = Http::post(server.url("/")).header("x-token", HttpSecret::file(root.join(path)));
        let starter = &starter;
        async move { start(starter, &payload).await }
    };
    send("allowed/token").await.unwrap();
    assert_eq!(server.seen()[0].header("x-token"), Some("inside"));
    for path in ["allowed/out", "allowed/outer/token", "other/token"] {
        let error = send(path).await.unwrap_err();
        assert_eq!(error.class, StartErrorClass::Permanent, "{path}: {error}");
        assert!(error.message.contains("allowed"), "{path}: {error}");
        let names_it = error.message.contains(&root.join("other").display().to_string());
        assert_eq!(names_it, path == "other/token", "where a link leads is not told: {error}");
    }
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn debug_names_the_reference_and_shows_no_text() {
    let payload = Http::post("http://h/").header("a", "hunter2").header("b", HttpSecret::env("TOKEN"));
    assert!(!format!("{payload:?} {:?}", payload.headers).contains("hunter2"));
    assert!(format!("{:?}", payload.headers).contains("env:TOKEN"));
    let json = serde_json::to_string(&payload).unwrap();
    assert_eq!(json, r#"{"url":"http://h/","headers":{"a":"hunter2","b":{"secret":"env:TOKEN"}}}"#);
    assert!(!format!("{:?}", attempt(&payload)).contains("TOKEN"));
}
