//! Imports point down only: the layers of ARCHITECTURE.md, read from the source.

use std::{collections::BTreeMap, fs, path::Path};

/// The module's layer; a module may use itself and what stands below. Adapters stand on the ports and
/// never use each other; tests and `testing` may use everything.
fn layer(module: &str) -> Option<u32> {
    let layers: BTreeMap<&str, u32> = [
        ("crash", 0),
        ("error", 0),
        ("mutant", 0),
        ("time", 0),
        ("guid", 1),
        ("job", 1),
        ("state", 1),
        ("notice", 1),
        ("ports", 2),
        ("store", 3),
        ("starter", 3),
        ("dispatcher", 3),
        ("scheduler", 4),
        ("schema", 4),
        ("testing", 5),
    ]
    .into();
    layers.get(module).copied()
}

#[test]
fn imports_point_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&root, &mut files);
    assert!(files.len() > 30);
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let module = relative.split(['/', '.']).next().unwrap().to_owned();
        if module == "lib" {
            continue;
        }
        let Some(own) = layer(&module) else {
            wrong.push(format!("{relative}: no layer is given for `{module}`"));
            continue;
        };
        let text = fs::read_to_string(&file).unwrap();
        // Tests stand beside the code and may look anywhere.
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        if relative.ends_with("tests.rs") || relative.ends_with("world.rs") || relative.contains("/fuzz") {
            continue;
        }
        for used in modules_used(code) {
            let Some(other) = layer(&used) else { continue };
            if used != module && (other > own || other == own && own >= 3) {
                wrong.push(format!("{relative} uses `{used}`"));
            }
        }
        // The engine names no starter and no store.
        if matches!(module.as_str(), "dispatcher" | "scheduler") {
            for name in ["simulated", "process", "http", "handler", "sqlite", "memory"] {
                if code.contains(&format!("\"{name}\"")) {
                    wrong.push(format!("{relative} names \"{name}\""));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The crate's modules that a text imports by `crate::…`.
fn modules_used(code: &str) -> Vec<String> {
    let mut used = Vec::new();
    for part in code.split("crate::").skip(1) {
        match part.strip_prefix('{') {
            None => {
                used.push(part.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap().to_owned())
            }
            Some(list) => {
                let mut depth = 0;
                let mut name = String::new();
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => used.push(std::mem::take(&mut name)),
                        c if depth == 0 && !c.is_whitespace() => name.push(c),
                        _ => {}
                    }
                }
                used.push(name);
            }
        }
    }
    used.into_iter()
        .map(|name| name.split("::").next().unwrap().to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

fn rust_files(directory: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
