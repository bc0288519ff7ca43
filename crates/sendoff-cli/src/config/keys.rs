//! Every key of the configuration: its name, what it holds, its default, what it is for. Flags,
//! environment variables, the help and `config show` are made from this table.

use super::kind::Kind;

/// One key. `a.b_c` is the flag `--a-b-c` and the variable `SENDOFF_A_B_C`; a limit goes by its own
/// name, `--max-in-flight`, as for `run`.
#[derive(Debug, PartialEq)]
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// As it would be given on the command line; empty: nothing, or what `help` says.
    pub(crate) default: &'static str,
    /// SIGHUP changes it; the others need a restart.
    pub(crate) live: bool,
    pub(crate) help: &'static str,
}

const fn fixed(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { name, kind, default, live: false, help }
}

const fn live(name: &'static str, kind: Kind, default: &'static str, help: &'static str) -> Key {
    Key { name, kind, default, live: true, help }
}

const LOOPBACK: &str = "127.0.0.0/8,::1/128";

/// The table, in the order in which it is shown.
pub(crate) static KEYS: [Key; 36] = [
    fixed(
        "store",
        Kind::Store,
        "",
        "Where jobs are kept: a path, memory, or postgres://… for a database that many nodes share \
         [default: sendoff/sendoff.db in $XDG_STATE_HOME]",
    ),
    fixed(
        "queues",
        Kind::List(&Kind::Queue),
        "",
        "On PostgreSQL: a queue whose jobs this node starts; it takes jobs for all; may be given often \
         [default: all queues]",
    ),
    fixed(
        "poll_interval",
        Kind::Wait,
        "",
        "On PostgreSQL: how long to go at most without looking for jobs that other nodes stored [default: 5s]",
    ),
    fixed(
        "poll_only",
        Kind::Switch,
        "false",
        "On PostgreSQL: rely on looking alone, without LISTEN and NOTIFY, which some poolers do not pass on",
    ),
    fixed(
        "allow_async_failover",
        Kind::Switch,
        "false",
        "On PostgreSQL with several hosts and no synchronous standby: accept at_most_once jobs all the same, \
         though a failover may make one start twice",
    ),
    fixed(
        "socket",
        Kind::Path,
        "",
        "The unix socket, or none [default: sendoff/sendoff.sock in $XDG_RUNTIME_DIR or $XDG_STATE_HOME]",
    ),
    fixed(
        "listen",
        Kind::List(&Kind::Address),
        "",
        "An address and port to listen on by TCP too; port 0 takes a free one; may be given often",
    ),
    fixed(
        "insecure",
        Kind::Switch,
        "false",
        "Listen on addresses other than loopback without TLS: tokens and jobs can be read on the way",
    ),
    live(
        "hosts",
        Kind::List(&Kind::Host),
        "",
        "A further name by which TCP callers may address the daemon (the Host header, without port)",
    ),
    live(
        "origins",
        Kind::List(&Kind::Origin),
        "",
        "An origin, like https://ops.example.com, whose pages may send requests; others are refused",
    ),
    fixed(
        "tokens",
        Kind::Path,
        "",
        "The file of tokens for TCP callers [default: sendoff/tokens.toml in $XDG_STATE_HOME]",
    ),
    live("log", Kind::Filter, "info", "What to log, as --log"),
    fixed("log_format", Kind::OneOf(&["text", "json"]), "text", "How to log: text or json"),
    live("grace", Kind::Time, "35s", "How long starts under way may take to end after SIGTERM"),
    fixed(
        "keep_free",
        Kind::Count { least: 0 },
        "",
        "Accept no more jobs while less than this many MiB are free beside the store [default: 256, or 2 % \
         of the file system if that is less]",
    ),
    live("limits.max_in_flight", Kind::Count { least: 1 }, "1024", "Starts under way at once"),
    fixed("limits.max_running", Kind::Count { least: 1 }, "1024", "Processes alive at once"),
    fixed(
        "limits.max_per_destination",
        Kind::Count { least: 1 },
        "64",
        "Requests under way to one host and port at once",
    ),
    fixed(
        "limits.connections",
        Kind::Count { least: 1 },
        "1024",
        "TCP connections at once; when all are taken the one that has been idle longest makes room. The unix \
         socket has an eighth of that beside them, at least 16",
    ),
    live(
        "limits.header_timeout",
        Kind::Wait,
        "10s",
        "A connection that sends no whole request head for so long is closed, also between requests",
    ),
    live(
        "limits.body_timeout",
        Kind::Wait,
        "30s",
        "A request whose body stands still for so long is given up",
    ),
    fixed("tls.certificate", Kind::Path, "", "The certificate chain for TCP, a PEM file"),
    fixed("tls.key", Kind::Path, "", "The certificate's private key, a PEM file"),
    live("retention.final", Kind::Time, "7d", "How long the records of jobs that ended are kept"),
    live(
        "retention.unknown",
        Kind::Time,
        "90d",
        "How long those of unknown jobs that nobody resolved are kept, at least 90d",
    ),
    live(
        "retention.max_final_rows",
        Kind::Count { least: 0 },
        "",
        "Keep no more records of jobs that ended than so many; the oldest go first [default: no limit]",
    ),
    live(
        "allow.networks",
        Kind::List(&Kind::Network),
        "",
        "A network that is not public, as address/bits, which HTTP starts may reach",
    ),
    live(
        "allow.programs",
        Kind::List(&Kind::Absolute),
        "",
        "A program, or a directory of programs, that process starts may execute",
    ),
    live(
        "allow.directories",
        Kind::List(&Kind::Absolute),
        "",
        "A directory in which processes may work and write their output",
    ),
    live(
        "allow.env",
        Kind::List(&Kind::Text),
        "",
        "A variable, or a prefix with *, that a job may set for its process",
    ),
    live(
        "allow.secrets",
        Kind::List(&Kind::Secret),
        "",
        "A secret that headers may refer to: env:NAME, file:PATH or file:DIRECTORY/",
    ),
    live(
        "allow_local.networks",
        Kind::List(&Kind::Network),
        LOOPBACK,
        "As --allow-networks, for callers on the unix socket",
    ),
    live(
        "allow_local.programs",
        Kind::List(&Kind::Absolute),
        "/",
        "As --allow-programs, for callers on the unix socket",
    ),
    live(
        "allow_local.directories",
        Kind::List(&Kind::Absolute),
        "/",
        "As --allow-directories, for callers on the unix socket",
    ),
    live("allow_local.env", Kind::List(&Kind::Text), "*", "As --allow-env, for callers on the unix socket"),
    live(
        "allow_local.secrets",
        Kind::List(&Kind::Secret),
        "env:*,file:/",
        "As --allow-secrets, for callers on the unix socket",
    ),
];

impl Key {
    /// The key of this name.
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Its flag, without the hyphens in front.
    pub(crate) fn flag(&self) -> String {
        self.spoken().replace(['.', '_'], "-")
    }

    pub(crate) fn variable(&self) -> String {
        format!("SENDOFF_{}", self.spoken().replace('.', "_").to_uppercase())
    }

    fn spoken(&self) -> &'static str {
        self.name.strip_prefix("limits.").unwrap_or(self.name)
    }

    /// The table that it stands in; empty for the first.
    pub(crate) fn table(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(table, _)| table)
    }
}
