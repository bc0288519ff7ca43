//! `--each-line`: as xargs would.

use std::{
    fs::File,
    io::{BufRead, BufReader},
};

use crate::harness::{Place, next_line};

/// A pipe into which started processes tell what they got; open for writing too, so that it has
/// no end in between.
fn pipe(place: &Place) -> BufReader<File> {
    let path = place.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    BufReader::new(File::options().read(true).write(true).open(path).unwrap())
}

fn lines(pipe: &mut impl BufRead, count: usize) -> Vec<String> {
    let mut lines: Vec<_> = (0..count).map(|_| next_line(pipe)).collect();
    lines.sort();
    lines
}

#[test]
fn each_line_is_one_argument_whatever_it_holds() {
    let place = Place::new();
    let mut pipe = pipe(&place);
    place.write(
        "lines",
        "plain\n\nwith  two spaces \n$(touch pwned); `x` 'y' \"z\"\n{} -- *\nlast without newline",
    );
    let args =
        ["run", "--json", "--each-line", "lines", "--", "sh", "-c", r#"printf '<%s>\n' "$1" > pipe"#, "sh"];
    let summary = place.run(args).code(0).json();
    assert_eq!(summary["counts"]["started"], 5);
    assert_eq!(
        lines(&mut pipe, 5),
        [
            "<$(touch pwned); `x` 'y' \"z\">",
            "<last without newline>",
            "<plain>",
            "<with  two spaces >",
            "<{} -- *>"
        ]
    );
    assert!(!place.path("pwned").exists());

    // The same lines for another command are another run; the same command has finished.
    place.run(args).code(0);
    assert_eq!(place.run(args).code(0).json()["finished_before"], true);
    let other = ["run", "--json", "--each-line", "lines", "--", "test", "-n", "{}"];
    assert_eq!(place.run(other).code(0).json()["finished_before"], false);
    // Under one name they cannot both go.
    let named = |command: &'static str| ["run", "--run", "x", "--each-line", "lines", "--", command];
    place.run(named("true")).code(0);
    place.run(named("false")).code(2).stderr_has("another command");
}

#[test]
fn only_so_many_processes_are_alive_at_once() {
    let place = Place::new();
    let mut pipe = pipe(&place);
    place.write("lines", "a\n".repeat(20));
    // Whoever finds the directory is not alone.
    let script = "if mkdir alone; then rmdir alone; echo yes > pipe; else echo no > pipe; fi";
    place.run(["run", "-P", "1", "--each-line", "lines", "--", "sh", "-c", script]).code(0);
    assert_eq!(lines(&mut pipe, 20), ["yes"; 20]);
}

#[test]
fn lines_that_are_no_argument_are_refused() {
    let place = Place::new();
    place.write("nul", b"good\nwith \0 nul\n");
    place
        .run(["run", "--each-line", "nul", "--", "touch", "{}"])
        .code(2)
        .stderr_has("nul:2: a NUL at column 6");
    place.write("latin", b"good\n\xe9t\xe9\n");
    place.run(["run", "--each-line", "latin", "--", "touch", "{}"]).code(2).stderr_has("latin:2: not UTF-8");
    place.run(["run", "--each-line", "nul", "--", "no-such-program", "{}"]).code(2).stderr_has("in PATH");
    assert!(!place.path("good").exists());
}

#[test]
fn lines_may_come_from_stdin() {
    let place = Place::new();
    let mut pipe = pipe(&place);
    let script = r#"echo "$1 $SENDOFF_ATTEMPT" > pipe"#;
    place.run_with("one\ntwo\n", ["run", "--each-line", "-", "--", "sh", "-c", script, "sh"]).code(0);
    assert_eq!(lines(&mut pipe, 2), ["one 1", "two 1"]);
}

#[test]
fn the_environment_is_passed_on_unless_told_otherwise() {
    let place = Place::new();
    let mut pipe = pipe(&place);
    place.write("lines", "x\n");
    let script = r#"echo "<$MINE>" > pipe"#;
    let mut run = |flags: &[&str]| {
        let args = [&["run"], flags, &["--each-line", "lines", "--", "sh", "-c", script]].concat();
        let mut command = place.command(args);
        command.env("MINE", "yes");
        place.spawn(command).end().code(0);
        next_line(&mut pipe)
    };
    assert_eq!(run(&[]), "<yes>");
    assert_eq!(run(&["--again", "--clean-env"]), "<>");
}
