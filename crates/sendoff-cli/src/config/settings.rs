//! What flags and environment variables give, one of each for every key.

use std::path::PathBuf;

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches,
    builder::BoolishValueParser,
    error::{Error, ErrorKind},
    parser::ValueSource,
};
use serde_json::Value;

use super::{
    Entry, Origin,
    keys::{KEYS, Key},
    kind::Kind,
};

/// The file that was named, and the values that were given.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settings {
    pub(crate) file: Option<PathBuf>,
    pub(crate) given: Vec<Entry>,
}

/// The same, where the help need not list them.
#[derive(Debug, Clone)]
pub(crate) struct Quiet(pub(crate) Settings);

/// `--log` is a flag of every command.
const LOG: &str = "log";

impl Args for Settings {
    fn augment_args(command: Command) -> Command {
        let config = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .env("SENDOFF_CONFIG")
            .value_parser(clap::value_parser!(PathBuf))
            .help(
                "The configuration [default: sendoff/sendoff.toml in $XDG_CONFIG_HOME or /etc, if it is there]",
            );
        command.arg(config).args(KEYS.iter().filter(|key| key.name != LOG).map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Settings {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut settings = Self { file: matches.get_one::<PathBuf>("config").cloned(), given: Vec::new() };
        for key in &KEYS {
            let origin = match matches.value_source(key.name) {
                Some(ValueSource::CommandLine) => Origin::Flag,
                Some(ValueSource::EnvVariable) => Origin::Variable,
                _ => continue,
            };
            if let Some(value) = value(key, matches)? {
                settings.given.push(Entry { key, value, origin });
            }
        }
        Ok(settings)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for Quiet {
    fn augment_args(command: Command) -> Command {
        Settings::augment_args(command)
            .mut_args(|arg| if Key::named(arg.get_id().as_str()).is_some() { arg.hide(true) } else { arg })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Quiet {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Settings::from_arg_matches(matches).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.0.update_from_arg_matches(matches)
    }
}

fn value(key: &'static Key, matches: &ArgMatches) -> Result<Option<Value>, Error> {
    Ok(match key.kind {
        _ if key.name == LOG => match matches.get_one::<String>(LOG) {
            Some(words) => Some(
                key.kind
                    .read(words)
                    .map_err(|why| Error::raw(ErrorKind::ValueValidation, format!("--log: {why}\n")))?,
            ),
            None => None,
        },
        Kind::Switch => Some(matches.get_flag(key.name).into()),
        // An empty variable is an empty list.
        Kind::List(_) => matches
            .get_many::<Value>(key.name)
            .map(|values| values.filter(|value| !value.is_null()).cloned().collect()),
        _ => matches.get_one::<Value>(key.name).cloned(),
    })
}

fn argument(key: &'static Key) -> Arg {
    let help = match key.default {
        "" => key.help.to_owned(),
        _ if matches!(key.kind, Kind::Switch) => key.help.to_owned(),
        default => format!("{} [default: {default}]", key.help),
    };
    // The URL of a database may hold a password.
    let secret = key.kind == Kind::Store;
    let argument = Arg::new(key.name).long(key.flag()).env(key.variable()).hide_env_values(secret).help(help);
    let heading = match key.table() {
        "limits" => "Limits",
        "tls" => "TLS",
        "retention" => "Retention",
        "allow" => "What starts may reach, whoever submitted them (each may be given often)",
        "allow_local" => "What starts may reach that were submitted over the unix socket",
        _ => return kinded(argument, key.kind),
    };
    kinded(argument.help_heading(heading), key.kind)
}

fn kinded(argument: Arg, kind: Kind) -> Arg {
    let name = match kind {
        Kind::Switch => {
            return argument.action(ArgAction::SetTrue).value_parser(BoolishValueParser::new());
        }
        Kind::List(item) => {
            let read = |text: &str| if text.is_empty() { Ok(Value::Null) } else { item.read(text) };
            return argument
                .action(ArgAction::Append)
                .value_delimiter(',')
                .value_name(word(*item))
                .value_parser(read);
        }
        kind => word(kind),
    };
    argument.value_name(name).value_parser(move |text: &str| kind.read(text))
}

fn word(kind: Kind) -> &'static str {
    match kind {
        Kind::Path | Kind::Absolute => "PATH",
        Kind::Store => "PATH|URL",
        Kind::Queue => "QUEUE",
        Kind::Count { .. } => "N",
        Kind::Time | Kind::Wait => "TIME",
        Kind::Address => "ADDR",
        Kind::Network => "NET",
        Kind::Host => "HOST",
        Kind::Origin => "ORIGIN",
        Kind::Secret => "REF",
        _ => "WORD",
    }
}
