//! The grammar of the daemon and what belongs to it: `serve`, `config`, `token`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sendoff::time::Span;

use super::Output;
use crate::{
    access::Scope,
    config::{Quiet, Settings},
};

/// Run the daemon: the engine and its HTTP API
///
/// It listens on a unix socket that only its own user and root can use, and by TCP if asked to.
/// Each flag is also a key of the configuration (`--connections` is `connections` in the
/// table `[limits]`); flags beat SENDOFF_* variables, which beat the file, which beats the
/// defaults.
#[derive(Debug, Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    pub(crate) settings: Settings,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// Check or show the daemon's configuration
#[derive(Debug, Args)]
#[command(after_help = CONFIG_HELP)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    pub(crate) command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    Check(ConfigCheckArgs),
    Show(ConfigShowArgs),
}

/// Say OK, or everything that is wrong with a configuration
#[derive(Debug, Args)]
#[command(after_help = CONFIG_HELP)]
pub(crate) struct ConfigCheckArgs {
    /// The file to check [default: the one that serve would read]
    pub(crate) file: Option<PathBuf>,

    #[command(flatten)]
    pub(crate) settings: Quiet,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// Show each value of the configuration and where it comes from
///
/// It takes the flags of serve too, and shows what serve would make of them.
#[derive(Debug, Args)]
#[command(after_help = CONFIG_HELP)]
pub(crate) struct ConfigShowArgs {
    #[command(flatten)]
    pub(crate) settings: Quiet,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// Make, list and revoke the tokens of TCP callers
#[derive(Debug, Args)]
#[command(after_help = TOKEN_HELP)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    pub(crate) command: TokenCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    Create(CreateArgs),
    List(ListTokensArgs),
    Revoke(RevokeArgs),
}

impl TokenArgs {
    pub(crate) fn output(&self) -> Output {
        match &self.command {
            TokenCommand::Create(args) => args.output,
            TokenCommand::List(args) => args.output,
            TokenCommand::Revoke(args) => args.output,
        }
    }
}

/// Make a token and print it, once
#[derive(Debug, Args)]
#[command(after_help = TOKEN_HELP)]
pub(crate) struct CreateArgs {
    /// How it is called, in records and logs too
    #[arg(value_parser = token_name)]
    pub(crate) name: String,

    /// What it is good for; admin includes all
    #[arg(
        long = "scope",
        value_name = "SCOPE",
        env = "SENDOFF_SCOPE",
        value_delimiter = ',',
        required = true
    )]
    pub(crate) scopes: Vec<Scope>,

    /// How long it is good [default: until it is revoked]
    #[arg(long, value_name = "TIME", env = "SENDOFF_EXPIRES")]
    pub(crate) expires: Option<Span>,

    #[command(flatten)]
    pub(crate) settings: Quiet,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// List the tokens, without their secrets
#[derive(Debug, Args)]
#[command(after_help = TOKEN_HELP)]
pub(crate) struct ListTokensArgs {
    #[command(flatten)]
    pub(crate) settings: Quiet,

    #[command(flatten)]
    pub(crate) output: Output,
}

/// Revoke a token; a running daemon notices within a second
#[derive(Debug, Args)]
#[command(after_help = TOKEN_HELP)]
pub(crate) struct RevokeArgs {
    /// How it is called
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) settings: Quiet,

    #[command(flatten)]
    pub(crate) output: Output,
}

fn token_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if text.is_empty() || text.len() > 64 || !text.chars().all(plain) {
        return Err("a token's name has 1 to 64 letters, digits, dots, hyphens and underscores".into());
    }
    Ok(text.to_owned())
}

const SERVE_HELP: &str = "\
Examples:
  sendoff serve                                   on the default socket and store
  sendoff serve --listen 127.0.0.1:8222           and by TCP, with a token (sendoff token create)
  sendoff serve --listen 0.0.0.0:8222 --tls-certificate cert.pem --tls-key key.pem
  sendoff serve --store /srv/jobs.db --socket /run/sendoff/sendoff.sock
  sendoff serve --store postgres://sendoff@db1,db2/jobs --queues gpu,default
  sendoff config show --listen 127.0.0.1:8222     what it would make of that

When it serves, one line on stdout says where. SIGTERM or Ctrl-C refuses new jobs, lets starts under
way end and stops; a second one ends at once. SIGHUP reads the configuration and the tokens again.
Started processes live on. A command line can be seen by others: give a database's password as
PGPASSWORD, or the URL with it as SENDOFF_STORE.

Exit codes:
  0  stopped as it was told
  1  ended at once by a second signal
  2  wrong usage or configuration
  4  the store or the socket is in use, broken or cannot be reached";

const CONFIG_HELP: &str = "\
Examples:
  sendoff config check                      the file that serve would read
  sendoff config check sendoff.toml         another one
  sendoff config show                       each value and where it comes from
  sendoff config show --json --listen 127.0.0.1:8222

Exit codes:
  0  it is good
  2  it is not; each fault is a line that names file, line, key and what is expected";

const TOKEN_HELP: &str = "\
Examples:
  sendoff token create ci --scope read,submit --expires 90d
  sendoff token list
  sendoff token revoke ci

The token itself is shown once, when it is made; the file holds only its hash. The file is found as
serve finds it: --tokens, the configuration, or sendoff/tokens.toml in $XDG_STATE_HOME.

Exit codes:
  0  done
  2  wrong usage, or there is a token of this name already
  3  there is no token of this name";
