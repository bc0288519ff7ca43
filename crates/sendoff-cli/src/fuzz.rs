//! The parts of the command that read from outside, as targets like those of the library
//! (`sendoff::testing::fuzz`): the committed inputs (`fuzz/command`), and changes of them;
//! `SENDOFF_FUZZ=100000` for longer.

use std::{collections::BTreeSet, ffi::OsString, fs, os::unix::ffi::OsStringExt, path::Path};

use clap::Parser;
use sendoff::testing::fuzz::{Target, Trial, trials};

use crate::{
    access::Tokens,
    api,
    args::{Cli, Command},
    client, config, serve,
};

#[test]
fn whatever_is_read_is_read_soundly() {
    let inputs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/command");
    let given: BTreeSet<_> = fs::read_dir(&inputs)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(given, TARGETS.iter().map(|target| target.name.to_owned()).collect());
    trials(&[TARGETS], &inputs, Trial::of_environment(2_000));
}

const TARGETS: &[Target] = &[
    Target { cost: 30, ..Target::new("command_line", command_line) },
    Target { cost: 2, ..Target::new("config", config::fuzz::config) },
    Target::new("cursor", api::fuzz::cursor),
    Target::new("lines", api::batch_fuzz::lines),
    Target::new("tokens", tokens),
    Target::new("gate", serve::fuzz::gate),
    Target::new("events", client::events_fuzz::events),
    Target { cost: 10, ..Target::new("api", api::fuzz::request) },
];

/// A command line: its words, each ended by a line feed.
fn command_line(data: &[u8]) {
    let words = data.split(|&byte| byte == b'\n').map(|word| OsString::from_vec(word.to_vec()));
    match Cli::try_parse_from(std::iter::once("sendoff".into()).chain(words)) {
        Ok(Cli { command, .. }) => {
            // Whatever can be said has a form in words: none of it panics.
            let _ = format!("{command:?}");
            if let Command::Client(command) = &command {
                let _ = (command.connect(), command.output());
            }
        }
        Err(err) => {
            let words = err.to_string();
            assert!(!words.trim().is_empty());
            // Help and the version are no errors; everything else is wrong usage.
            let asked_for = matches!(err.exit_code(), 0) && !err.use_stderr();
            assert!(asked_for || err.exit_code() == 2 && err.use_stderr(), "{}: {words}", err.exit_code());
        }
    }
}

/// A file of tokens.
fn tokens(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("tokens.toml");
    match Tokens::parse(path, text) {
        Ok(tokens) => {
            let written = toml::to_string(&tokens).expect("tokens have a TOML form");
            let again = Tokens::parse(path, &written).unwrap_or_else(|err| panic!("{err}\n{written}"));
            assert_eq!(toml::to_string(&again).expect("tokens have a TOML form"), written);
            for (token, other) in tokens.all.iter().zip(&again.all) {
                assert!(token.hash().is_some() && token.hash() == other.hash());
                assert_eq!(
                    (&token.name, &token.scopes, token.expires),
                    (&other.name, &other.scopes, other.expires)
                );
            }
        }
        Err(failure) => {
            assert!(failure.message.starts_with("tokens.toml: the file of tokens "), "{failure}");
            // A hash is not quoted.
            let long = text.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() >= 40);
            assert!(long.is_none_or(|hash| !failure.message.contains(hash)), "{failure}");
        }
    }
}
