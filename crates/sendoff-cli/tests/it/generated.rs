//! Help, completions and manual pages, which are made from the grammar.

use crate::harness::Place;

const COMMANDS: [&str; 13] = [
    "run",
    "sink",
    "backup",
    "serve",
    "config",
    "config check",
    "config show",
    "token",
    "token create",
    "token list",
    "token revoke",
    "completions",
    "man",
];

fn help(place: &Place, command: &str) -> String {
    place.run(command.split(' ').chain(["--help"])).code(0).stdout
}

#[test]
fn help_texts() {
    let place = Place::new();
    insta::assert_snapshot!("help", place.run(["--help"]).code(0).stdout);
    for command in COMMANDS {
        let help = help(&place, command);
        assert!(help.contains("Examples:\n  "), "{help}");
        insta::assert_snapshot!(format!("help_{}", command.replace(' ', "_")), help);
    }
}

#[test]
fn every_flag_has_an_environment_variable() {
    let place = Place::new();
    for command in COMMANDS {
        let help = help(&place, command);
        let options = help.split("Options:\n").nth(1).unwrap().split("Examples:").next().unwrap();
        // A hyphen and a space begin a possible value.
        let is_flag = |line: &&str| {
            let line = line.trim_start();
            line.starts_with('-') && !line.starts_with("- ") && !line.contains("--help")
        };
        let flags = options.lines().filter(is_flag).count();
        let words: Vec<_> = options.split_whitespace().collect();
        assert_eq!(words.join(" ").matches("[env: SENDOFF_").count(), flags, "{help}");
    }
}

#[test]
fn completions_for_every_shell() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        place.run(["completions", shell]).code(0).stdout_has("each-line");
    }
    place.run(["completions", "tcsh"]).code(2);
}

#[test]
fn manual_pages() {
    let place = Place::new();
    place.run(["man"]).code(0).stdout_has(".TH sendoff 1");
    place.run(["man", "pages/man1"]).code(0);
    assert!(place.read("pages/man1/sendoff.1").contains("sendoff"));
    for command in COMMANDS {
        assert!(
            place.read(&format!("pages/man1/sendoff-{}.1", command.replace(' ', "-"))).contains("Examples"),
            "{command}"
        );
    }
    place.write("file", "");
    place.run(["man", "file"]).code(2).stderr_has("cannot be written");
}
