//! A database's URL: what the driver does not know is taken out of it before the driver reads it.

use std::path::PathBuf;

use tokio_postgres::{
    Config,
    config::{Host, SslMode, TargetSessionAttrs},
};

use super::tls::{Tls, Verify};
use crate::error::{Error, Result};

/// What the driver knows besides, or we do.
const OPTIONS: [&str; 20] = [
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslmode",
    "sslrootcert",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "prepare",
];

/// A URL in two parts.
pub(super) struct Parts {
    /// What the driver reads.
    pub(super) rest: String,
    pub(super) tls: Tls,
    /// Whether statements may be prepared once for a session.
    pub(super) prepares: bool,
}

fn invalid(why: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the store's URL: {why}"))
}

/// # Errors
/// Invalid, in words that hold nothing of the user's part.
pub(super) fn split(url: &str) -> Result<Parts> {
    let after_scheme = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let Some(after_scheme) = after_scheme else {
        return Err(invalid("it must begin with postgres:// or postgresql://"));
    };
    let (place, query) = after_scheme.split_once('?').unwrap_or((after_scheme, ""));
    // Where a password holds one of these as it is, the rest of it would be taken for something else
    // and be shown.
    if place.matches('@').count() > 1 || query.contains('@') || place.contains('#') {
        return Err(invalid(
            "write @ as %40, # as %23, ? as %3F and / as %2F in the user, password or database",
        ));
    }
    if let (Some(at), Some(slash)) = (place.find('@'), place.find('/'))
        && slash < at
    {
        return Err(invalid("write / as %2F in the user or password"));
    }
    let mut kept = Vec::new();
    let mut prepares = true;
    let mut tls = Tls { verify: Verify::IfOffered, roots: None };
    for option in query.split('&').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        if !OPTIONS.contains(&name) {
            // A piece of a password, perhaps.
            let plain =
                name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && option.contains('=');
            let name = if plain { format!(" {name}") } else { String::new() };
            return Err(invalid(format!("unknown option{name}; the options are {}", OPTIONS.join(", "))));
        }
        match name {
            "sslmode" => tls.verify = verify(value)?,
            "sslrootcert" => tls.roots = Some(PathBuf::from(decoded(value)?)),
            "prepare" => {
                prepares = match value {
                    "on" => true,
                    "off" => false,
                    _ => return Err(invalid("prepare is one of on, off")),
                };
            }
            "target_session_attrs" if value != "read-write" => {
                return Err(invalid(
                    "target_session_attrs: sendoff needs a server that takes writes, read-write",
                ));
            }
            _ => kept.push(option),
        }
    }
    if tls.roots.is_some() && tls.verify == Verify::NoTls {
        return Err(invalid("sslrootcert has no use with sslmode=disable"));
    }
    let rest = match kept.is_empty() {
        true => format!("postgres://{place}"),
        false => format!("postgres://{place}?{}", kept.join("&")),
    };
    Ok(Parts { rest, tls, prepares })
}

fn verify(value: &str) -> Result<Verify> {
    match value {
        "disable" => Ok(Verify::NoTls),
        "prefer" => Ok(Verify::IfOffered),
        "require" | "verify-full" => Ok(Verify::Always),
        _ => Err(invalid("sslmode is one of disable, prefer, require, verify-full")),
    }
}

fn decoded(value: &str) -> Result<String> {
    let broken = || invalid("sslrootcert: % must be followed by two hexadecimal digits");
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).ok_or_else(broken)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| broken())?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| invalid("sslrootcert is not UTF-8"))
}

/// One configuration for each server that is named. Of several, only one that takes writes will do.
pub(super) fn servers(config: &Config) -> Result<Vec<Config>> {
    let hosts = config.get_hosts();
    let (ports, addresses) = (config.get_ports(), config.get_hostaddrs());
    if ports.len() > 1 && ports.len() != hosts.len() {
        return Err(invalid("it must name one port, or one for each host"));
    }
    if !addresses.is_empty() && addresses.len() != hosts.len() {
        return Err(invalid("it must name one hostaddr for each host, or none"));
    }
    let server = |(place, host): (usize, &Host)| {
        let mut server = alone(config);
        match host {
            Host::Tcp(name) => server.host(name),
            // There is nobody in between.
            Host::Unix(directory) => server.host_path(directory).ssl_mode(SslMode::Disable),
        };
        server.port(ports.get(place).or(ports.first()).copied().unwrap_or(5432));
        if let Some(address) = addresses.get(place) {
            server.hostaddr(*address);
        }
        if hosts.len() > 1 {
            server.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        server
    };
    Ok(hosts.iter().enumerate().map(server).collect())
}

/// All but the servers.
fn alone(config: &Config) -> Config {
    let mut one = Config::new();
    if let Some(user) = config.get_user() {
        one.user(user);
    }
    if let Some(password) = config.get_password() {
        one.password(password);
    }
    if let Some(database) = config.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = config.get_options() {
        one.options(options);
    }
    if let Some(name) = config.get_application_name() {
        one.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        one.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .channel_binding(config.get_channel_binding())
        .target_session_attrs(config.get_target_session_attrs());
    one
}
