//! Help, completions and manual pages, which are made from the grammar.

use crate::harness::Place;

/// Every command.
pub(crate) const COMMANDS: [&str; 39] = [
    "run",
    "sink",
    "backup",
    "migrate",
    "bench",
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
    "submit",
    "submit http",
    "submit process",
    "submit simulated",
    "submit job",
    "batch",
    "list",
    "show",
    "wait",
    "cancel",
    "reschedule",
    "start-now",
    "resolve",
    "stats",
    "nodes",
    "watch",
    "queue",
    "queue list",
    "queue show",
    "queue set",
    "queue pause",
    "queue resume",
    "queue purge",
    "queue forget",
];

/// Flags that only the command line can give: what a command is about stands in the command, as its
/// operands do. A variable that is left over from another command must not choose what is cancelled.
const BY_HAND: [(&str, &[&str]); 3] = [
    ("list", &["--state", "--queue", "--label", "--from", "--to", "--submitted-by"]),
    ("cancel", &["--queue", "--label", "--from", "--to", "--submitted-by", "--all"]),
    ("watch", &["--state", "--queue", "--job"]),
];

fn help_of(place: &Place, command: &str) -> String {
    place.run(command.split(' ').chain(["--help"])).code(0).stdout
}

#[test]
fn help_texts() {
    let place = Place::new();
    insta::assert_snapshot!("help", place.run(["--help"]).code(0).stdout);
    for command in COMMANDS {
        let help = help_of(&place, command);
        assert!(help.contains("Examples:\n  "), "{help}");
        insta::assert_snapshot!(format!("help_{}", command.replace(' ', "_")), help);
    }
}

#[test]
fn every_flag_has_an_environment_variable() {
    let place = Place::new();
    for command in COMMANDS {
        let help = help_of(&place, command);
        let by_hand = BY_HAND.iter().find(|(name, _)| *name == command).map_or(&[][..], |(_, flags)| flags);
        let options = help.split("Options:\n").nth(1).unwrap().split("Examples:").next().unwrap();
        let flags = options.lines().filter(|line| line.trim_start().starts_with('-')).filter(|line| {
            let flag = line.split_whitespace().find(|word| word.starts_with("--"));
            flag.is_some_and(|flag| flag != "--help" && !by_hand.contains(&flag))
        });
        let flags = flags.count();
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
        let page = format!("pages/man1/sendoff-{}.1", command.replace(' ', "-"));
        assert!(place.read(&page).contains("Examples"), "{command}");
    }
    let pages = std::fs::read_dir(place.path("pages/man1")).unwrap().count();
    assert_eq!(pages, COMMANDS.len() + 1, "COMMANDS leaves none out");
    place.write("file", "");
    place.run(["man", "file"]).code(2).stderr_has("cannot be written");
}
