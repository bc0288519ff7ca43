//! The walk through every command and every endpoint in `docs/walkthrough.md`: each block is run, in
//! order, and must give what the page shows, but for guids, times and the like.
//!
//! `SENDOFF_UPDATE_DOCS=1 cargo test -p sendoff-cli walkthrough` writes what came into the page.

mod page;
mod same;
mod shell;
mod web;

use std::{fs, path::Path};

use page::{Block, Page};
use same::Names;
use shell::Shell;

use crate::harness::Place;

#[test]
fn the_page_shows_what_happens() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/walkthrough.md");
    let mut page = Page::read(&fs::read_to_string(&path).unwrap());
    let place = Place::new();
    let mut shell = Shell::new(&place);
    let mut names = Names::default();
    let update = std::env::var_os("SENDOFF_UPDATE_DOCS").is_some();
    let mut wrong = Vec::new();
    let mut steps = 0;
    for block in page.blocks() {
        let console = matches!(block, Block::Console(_));
        for step in block.steps() {
            let asked = names.actual(&step.asked);
            let came =
                if console { shell.run(&asked) } else { web::ask(&shell.socket(), &asked, &step.shown) };
            steps += 1;
            if !names.learn(&step.shown, &came) {
                wrong.push(format!(
                    "line {}: {}\n--- the page\n{}\n--- what came\n{came}",
                    step.line, step.asked, step.shown
                ));
            }
            if update {
                step.asked = asked;
                step.shown = came;
            }
        }
    }
    assert!(steps > 40, "{steps} steps");
    if update {
        fs::write(&path, page.text()).unwrap();
    } else {
        assert!(wrong.is_empty(), "{} of {steps} steps differ:\n\n{}", wrong.len(), wrong.join("\n\n"));
    }
}
