//! The walk through every command and every endpoint in `docs/walkthrough.md`: each block is run, in
//! order, and must give what the page shows, but for guids, times and the like.
//!
//! `SENDOFF_UPDATE_DOCS=1 cargo test -p sendoff-cli walkthrough` writes what came into the page.

mod complete;
mod page;
mod same;
mod shell;
mod web;

use std::{fs, path::PathBuf};

use page::Page;
use same::Names;
use shell::Shell;

use crate::harness::Place;

#[test]
fn the_page_shows_what_happens() {
    let mut page = Page::read(&fs::read_to_string(path()).unwrap());
    let place = Place::new();
    let mut shell = Shell::new(&place);
    let mut names = Names::default();
    let update = std::env::var_os("SENDOFF_UPDATE_DOCS").is_some();
    let mut wrong = Vec::new();
    for step in page.steps() {
        let asked = names.actual(&step.asked);
        let came = if step.http { web::ask(&mut shell, &asked) } else { shell.run(&asked) };
        if names.agree(&step.shown, &came) {
            continue;
        }
        let came = names.on_the_page(&came);
        wrong.push(format!(
            "line {}: {}\n--- the page\n{}\n--- what came\n{came}",
            step.line, step.asked, step.shown
        ));
        step.shown = came;
    }
    if update {
        fs::write(path(), page.text()).unwrap();
    } else {
        assert!(wrong.is_empty(), "{} steps differ:\n\n{}", wrong.len(), wrong.join("\n\n"));
    }
}

fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/walkthrough.md")
}
