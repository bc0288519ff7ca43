//! Where the daemon is, and who asks.

use std::{fmt, path::PathBuf, str::FromStr};

use clap::Args;

use super::Output;

/// What every command to a daemon takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) output: Output,
    // Last: its heading would take in what follows.
    #[command(flatten)]
    pub(crate) connect: Connect,
}

/// Where the daemon is.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "The daemon")]
pub(crate) struct Connect {
    /// The daemon: http://HOST:PORT, https://HOST:PORT or unix:/PATH [default: the unix socket
    /// sendoff/sendoff.sock in $XDG_RUNTIME_DIR, else in $XDG_STATE_HOME]
    #[arg(long, value_name = "URL", env = "SENDOFF_URL")]
    pub(crate) url: Option<String>,

    /// The token that the daemon knows you by over TCP; other users can see a command line, so
    /// prefer the variable
    #[arg(long, value_name = "TOKEN", env = "SENDOFF_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<Token>,

    /// Without --token: read the token from this file
    #[arg(long, value_name = "FILE", env = "SENDOFF_TOKEN_FILE")]
    pub(crate) token_file: Option<PathBuf>,

    /// Trust the certificates of this PEM file instead of the public authorities
    #[arg(long, value_name = "FILE", env = "SENDOFF_CA")]
    pub(crate) ca: Option<PathBuf>,
}

/// A bearer token, which no message may show.
#[derive(Clone)]
pub(crate) struct Token(pub(crate) String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl FromStr for Token {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}
