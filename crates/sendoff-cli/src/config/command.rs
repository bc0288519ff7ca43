//! `sendoff config check` and `sendoff config show`.

use std::process::ExitCode;

use comfy_table::{Table, presets};
use serde_json::{Map, Value, json};

use super::{Entry, Loaded, Origin, load};
use crate::{
    args::{ConfigCheckArgs, ConfigShowArgs},
    failure::{Exit, Failure},
    out,
};

/// Says OK, or everything that is wrong.
pub(crate) fn check(args: &ConfigCheckArgs) -> Result<ExitCode, Failure> {
    let mut settings = args.settings.0.clone();
    settings.file = args.file.clone().or(settings.file);
    let loaded = load(&settings)?;
    let file = loaded.file.as_ref().map(|path| path.display().to_string());
    if args.output.json {
        out::json(&json!({ "ok": true, "file": file }))?;
    } else if !args.output.quiet {
        out::line(&format!("{}: OK", file.as_deref().unwrap_or("no file, defaults only")))?;
    }
    Ok(Exit::Ok.into())
}

/// Shows each value and where it comes from.
pub(crate) fn show(args: &ConfigShowArgs) -> Result<ExitCode, Failure> {
    let loaded = load(&args.settings.0)?;
    if args.output.json {
        let mut all = Map::new();
        for entry in &loaded.entries {
            let origin = origin(entry, &loaded);
            all.insert(entry.key.name.to_owned(), json!({ "value": entry.shown(), "origin": origin }));
        }
        out::json(&all)?;
    } else {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for entry in &loaded.entries {
            table.add_row([entry.key.name.to_owned(), words(&entry.shown()), origin(entry, &loaded)]);
        }
        out::line(&table.trim_fmt())?;
    }
    Ok(Exit::Ok.into())
}

fn origin(entry: &Entry, loaded: &Loaded) -> String {
    match (entry.origin, &loaded.file) {
        (Origin::File { line }, Some(path)) => format!("{}:{line}", path.display()),
        (Origin::Variable, _) => entry.key.variable(),
        (Origin::Flag, _) => format!("--{}", entry.key.flag()),
        _ => "default".to_owned(),
    }
}

/// A value as its flag takes it.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if items.is_empty() => "-".to_owned(),
        Value::Array(items) => items.iter().map(words).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}
