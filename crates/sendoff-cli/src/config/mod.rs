//! The daemon's configuration: defaults, then the file, then `SENDOFF_*`, then flags. Each value
//! knows where it comes from.

mod command;
mod database;
mod file;
#[cfg(test)]
pub(crate) mod fuzz;
mod keys;
mod kind;
pub(crate) mod paths;
mod settings;

use std::{fmt, net::SocketAddr, path::PathBuf, time::Duration};

use sendoff::{Reach, starter::Policy, time::Span};
use serde::Deserialize;
use serde_json::{Map, Value};

pub(crate) use command::{check, show};
pub(crate) use database::DatabaseUrl;
pub(crate) use keys::{KEYS, Key};
use kind::Kind;
pub(crate) use settings::{Quiet, Settings};

use crate::{failure::Failure, run::Place};

/// All of it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Config {
    pub(crate) store: Place,
    pub(crate) queues: Vec<String>,
    pub(crate) poll_interval: Option<Span>,
    pub(crate) poll_only: bool,
    pub(crate) allow_async_failover: bool,
    socket: PathBuf,
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) insecure: bool,
    pub(crate) hosts: Vec<String>,
    pub(crate) origins: Vec<String>,
    pub(crate) tokens: PathBuf,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    pub(crate) grace: Span,
    pub(crate) keep_free: Option<u64>,
    pub(crate) limits: Limits,
    tls: Tls,
    pub(crate) retention: Retention,
    allow: Reach,
    allow_local: Reach,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Limits {
    pub(crate) max_in_flight: usize,
    pub(crate) max_running: usize,
    pub(crate) max_per_destination: usize,
    pub(crate) connections: usize,
    header_timeout: Span,
    body_timeout: Span,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Tls {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Retention {
    #[serde(rename = "final")]
    pub(crate) ended: Span,
    pub(crate) unknown: Span,
    pub(crate) max_final_rows: Option<u64>,
}

impl Limits {
    pub(crate) fn header_timeout(&self) -> Duration {
        self.header_timeout.duration()
    }

    pub(crate) fn body_timeout(&self) -> Duration {
        self.body_timeout.duration()
    }
}

impl Config {
    /// The unix socket's path, if there is to be one.
    pub(crate) fn socket(&self) -> Option<&PathBuf> {
        Some(&self.socket).filter(|path| path.as_os_str() != "none")
    }

    /// Certificate and key.
    pub(crate) fn tls(&self) -> Option<(&PathBuf, &PathBuf)> {
        self.tls.certificate.as_ref().zip(self.tls.key.as_ref())
    }

    pub(crate) fn policy(&self) -> Policy {
        Policy { everyone: self.allow.clone(), local: self.allow_local.clone() }
    }

    /// Keys that mean nothing to the store that is chosen.
    fn misplaced(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        const FLEET: &str = "is for nodes that share a PostgreSQL database (store = \"postgres://…\")";
        const DISK: &str = "is about the disk beside an embedded store, and PostgreSQL minds its own";
        let fleet = matches!(self.store, Place::Postgres(_));
        [
            ("queues", !fleet && !self.queues.is_empty(), FLEET),
            ("poll_interval", !fleet && self.poll_interval.is_some(), FLEET),
            ("poll_only", !fleet && self.poll_only, FLEET),
            ("allow_async_failover", !fleet && self.allow_async_failover, FLEET),
            ("keep_free", fleet && self.keep_free.is_some(), DISK),
        ]
        .into_iter()
        .filter_map(|(key, wrong, why)| wrong.then_some((key, why)))
    }

    /// What no single key can tell.
    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        faults.extend(self.misplaced().map(|(key, why)| format!("{key}: {why}; leave it out")));
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            faults.push("tls.certificate and tls.key go together: give both or none".to_owned());
        }
        let open = self.listen.iter().find(|address| !address.ip().is_loopback());
        if let (Some(address), None, false) = (open, self.tls(), self.insecure) {
            faults.push(format!(
                "listen: {address} can be reached from other machines, and without TLS tokens and jobs can be \
                 read on the way: give tls.certificate and tls.key, or listen on 127.0.0.1, or accept it with \
                 --insecure"
            ));
        }
        if self.socket().is_none() && self.listen.is_empty() {
            faults.push("there is nothing to listen on: socket is none and listen is empty".to_owned());
        }
        if self.retention.unknown.duration() < Duration::from_hours(90 * 24) {
            faults.push(
                "retention.unknown: at least 90d, so that an operator can resolve what may have started"
                    .to_owned(),
            );
        }
        faults
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    File { line: usize },
    Variable,
    Flag,
}

/// A value of a key.
#[derive(Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) key: &'static Key,
    pub(crate) value: Value,
    pub(crate) origin: Origin,
}

impl Entry {
    /// The value without a password.
    fn shown(&self) -> Value {
        let url = self.value.as_str().filter(|_| self.key.kind == Kind::Store).and_then(DatabaseUrl::given);
        url.map_or_else(|| self.value.clone(), |url| url.to_string().into())
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} ({:?})", self.key.name, self.shown(), self.origin)
    }
}

/// A configuration and where each value of it comes from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) file: Option<PathBuf>,
    /// One for each key, in the order of the table.
    pub(crate) entries: Vec<Entry>,
}

/// Everything that is wrong, one line each.
#[derive(Debug)]
pub(crate) struct Faults(Vec<String>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("\n"))
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::usage(faults.to_string())
    }
}

/// Puts the layers together: whatever `settings` give beats the file, which beats the defaults.
pub(crate) fn load(settings: &Settings) -> Result<Loaded, Faults> {
    let file = settings.file.clone().or_else(paths::file);
    let mut entries = KEYS.iter().map(default).collect::<Result<Vec<_>, Faults>>()?;
    let mut layer = Vec::new();
    if let Some(path) = &file {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path)
            .map_err(|err| Faults(vec![format!("{name}: the configuration cannot be read: {err}")]))?;
        layer = file::read(&name, &text).map_err(Faults)?;
    }
    for entry in layer.into_iter().chain(settings.given.iter().cloned()) {
        if let Some(held) = entries.iter_mut().find(|held| std::ptr::eq(held.key, entry.key)) {
            *held = entry;
        }
    }
    let config: Config = serde_json::from_value(tree(&entries))
        .map_err(|err| Faults(vec![format!("the configuration does not fit together: {err}")]))?;
    let faults = config.faults();
    if faults.is_empty() { Ok(Loaded { config, file, entries }) } else { Err(Faults(faults)) }
}

fn default(key: &'static Key) -> Result<Entry, Faults> {
    let path = |found: Result<PathBuf, Failure>| match found {
        Ok(path) => Ok(Value::from(path.to_string_lossy())),
        Err(failure) => Err(Faults(vec![format!("{}: {failure}", key.name)])),
    };
    let value = match key.name {
        "store" => path(paths::state().map(|state| state.join("sendoff.db")))?,
        "socket" => path(paths::socket())?,
        "tokens" => path(paths::state().map(|state| state.join("tokens.toml")))?,
        _ => {
            let words = key.default.split(',').filter(|word| !word.is_empty());
            let values = words.map(|word| key.kind.read(word).map_err(|why| Faults(vec![why])));
            let mut values = values.collect::<Result<Vec<_>, _>>()?;
            if key.kind.is_list() { values.into() } else { values.pop().unwrap_or_default() }
        }
    };
    Ok(Entry { key, value, origin: Origin::Default })
}

/// The entries as nested objects.
fn tree(entries: &[Entry]) -> Value {
    let mut tree = Map::new();
    for Entry { key, value, .. } in entries {
        match key.name.split_once('.') {
            None => drop(tree.insert(key.name.to_owned(), value.clone())),
            Some((table, name)) => {
                let inner = tree.entry(table).or_insert_with(|| Map::new().into());
                inner[name] = value.clone();
            }
        }
    }
    tree.into()
}
