//! `sendoff token`.

use std::os::unix::fs::PermissionsExt;

use crate::harness::Place;

#[test]
fn a_token_is_shown_once_and_only_its_hash_is_kept() {
    let place = Place::new();
    let made = place.run(["token", "create", "ci", "--scope", "submit,read", "--expires", "90d"]).code(0);
    let secret = made.stdout.trim().to_owned();
    assert!(secret.starts_with("sdo_") && secret.len() == 4 + 43, "{made}");
    made.stderr_has("the only time that it is shown");
    let file = place.read("state/sendoff/tokens.toml");
    assert!(file.contains("name = \"ci\"") && !file.contains(&secret[4..]), "{file}");
    let mode = std::fs::metadata(place.path("state/sendoff/tokens.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let again = place.run(["token", "create", "ci", "--scope", "read"]).code(2);
    again.stderr_has("`sendoff token revoke ci` revokes it");
    let made = place.run(["token", "create", "root", "--scope", "admin", "--json"]).code(0).json();
    assert_eq!(made["scopes"], serde_json::json!(["admin"]));
    let listed = place.run(["token", "list"]).code(0).stdout_has("read,submit").stdout;
    assert!(!listed.contains("sdo_"), "{listed}");
    assert_eq!(place.run(["token", "list", "-q"]).code(0).stdout, "ci\nroot\n");

    place.run(["token", "revoke", "ci"]).code(0).stdout_has("ci is revoked");
    place.run(["token", "revoke", "ci"]).code(3).stderr_has("there is no token \"ci\"");
    assert_eq!(place.run(["token", "list", "-q"]).code(0).stdout, "root\n");
}

#[test]
fn what_is_no_token_is_refused() {
    let place = Place::new();
    place.run(["token", "create", "a b", "--scope", "read"]).code(2).stderr_has("letters, digits, dots");
    place.run(["token", "create", "a"]).code(2).stderr_has("--scope");
    place.run(["token", "create", "a", "--scope", "root"]).code(2).stderr_has("[possible values: read");
    place.write("tokens", "[[token]]\nname = 'x'\n");
    let broken = place.run(["token", "list", "--tokens", "tokens"]).code(2);
    broken.stderr_has("tokens: the file of tokens is no file of tokens");
}

#[test]
fn many_at_once_lose_none() {
    let place = Place::new();
    let names: Vec<_> = (0..8).map(|number| format!("t{number}")).collect();
    let running: Vec<_> = names
        .iter()
        .map(|name| place.spawn(place.command(["token", "create", name, "--scope", "read"])))
        .collect();
    for command in running {
        command.end().code(0);
    }
    let mut listed: Vec<_> = place.run(["token", "list", "-q"]).stdout.lines().map(str::to_owned).collect();
    listed.sort();
    assert_eq!(listed, names);
}
