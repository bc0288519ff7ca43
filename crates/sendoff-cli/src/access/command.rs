//! `sendoff token create|list|revoke`.

use std::{path::PathBuf, process::ExitCode};

use comfy_table::{Table, presets};
use sendoff::{
    Timestamp,
    time::{Clock, SystemClock},
};
use serde_json::json;

use super::{
    Scope,
    tokens::{Token, Tokens},
};
use crate::{
    args::{CreateArgs, ListTokensArgs, RevokeArgs, TokenCommand},
    config::{self, Quiet},
    failure::{Exit, Failure},
    out,
};

/// Runs one.
pub(crate) fn command(command: &TokenCommand) -> Result<ExitCode, Failure> {
    match command {
        TokenCommand::Create(args) => create(args),
        TokenCommand::List(args) => list(args),
        TokenCommand::Revoke(args) => revoke(args),
    }
}

fn path(settings: &Quiet) -> Result<PathBuf, Failure> {
    Ok(config::load(&settings.0)?.config.tokens)
}

fn create(args: &CreateArgs) -> Result<ExitCode, Failure> {
    let path = path(&args.settings)?;
    let now = SystemClock.now();
    let expires = args.expires.map(|span| now.saturating_add(span.duration()));
    let mut scopes = args.scopes.clone();
    scopes.sort();
    scopes.dedup();
    let (token, secret) = Token::new(&args.name, scopes, now, expires)?;
    Tokens::change(&path, |tokens| {
        if tokens.all.iter().any(|held| held.name == token.name) {
            let name = &token.name;
            return Err(Failure::usage(format!(
                "there is a token {name:?} already; `sendoff token revoke {name}` revokes it"
            )));
        }
        tokens.all.push(token.clone());
        Ok(())
    })?;
    if args.output.json {
        let (name, scopes) = (&token.name, &token.scopes);
        out::json(&json!({ "name": name, "token": secret, "scopes": scopes, "expires": token.expires }))?;
    } else {
        out::line(&secret)?;
        if !args.output.quiet {
            out::note("this is the only time that it is shown; give it to the client as SENDOFF_TOKEN");
        }
    }
    Ok(Exit::Ok.into())
}

fn list(args: &ListTokensArgs) -> Result<ExitCode, Failure> {
    let tokens = Tokens::read(&path(&args.settings)?)?;
    let now = SystemClock.now();
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["NAME", "SCOPES", "CREATED", "EXPIRES"]);
    for token in &tokens.all {
        let Token { name, scopes, created, expires, .. } = token;
        if args.output.quiet {
            out::line(name)?;
        } else if args.output.json {
            let expired = token.is_expired(now);
            out::json(&json!({
                "name": name, "scopes": scopes, "created": created, "expires": expires, "expired": expired
            }))?;
        } else {
            let expires = match expires {
                None => "never".to_owned(),
                Some(at) if token.is_expired(now) => format!("{at} (expired)"),
                Some(at) => Timestamp::to_string(at),
            };
            table.add_row([name.clone(), words(scopes), created.to_string(), expires]);
        }
    }
    if !args.output.quiet && !args.output.json {
        out::line(&table.trim_fmt())?;
    }
    Ok(Exit::Ok.into())
}

fn revoke(args: &RevokeArgs) -> Result<ExitCode, Failure> {
    let path = path(&args.settings)?;
    Tokens::change(&path, |tokens| {
        let before = tokens.all.len();
        tokens.all.retain(|token| token.name != args.name);
        if tokens.all.len() == before {
            return Err(Failure::not_found(format!(
                "there is no token {:?}; `sendoff token list` lists all",
                args.name
            )));
        }
        Ok(())
    })?;
    if args.output.json {
        out::json(&json!({ "name": args.name, "revoked": true }))?;
    } else if !args.output.quiet {
        out::line(&format!("{} is revoked", args.name))?;
    }
    Ok(Exit::Ok.into())
}

fn words(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")
}
