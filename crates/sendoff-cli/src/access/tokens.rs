//! The file of tokens: names, scopes and hashes, never a token itself.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustix::{
    fs::{FlockOperation, flock},
    rand::{GetRandomFlags, getrandom},
};
use sendoff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Scope;
use crate::failure::Failure;

/// What each token begins with, so that scanners for leaked secrets can know it.
const PREFIX: &str = "sdo_";

/// All tokens.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Tokens {
    #[serde(default, rename = "token")]
    pub(crate) all: Vec<Token>,
}

/// What is known of one.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Token {
    pub(crate) name: String,
    pub(crate) scopes: Vec<Scope>,
    /// SHA-256 of the token, hexadecimal.
    sha256: String,
    pub(crate) created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires: Option<Timestamp>,
}

impl Token {
    /// A new one, and the secret that proves it.
    pub(crate) fn new(
        name: &str,
        scopes: Vec<Scope>,
        created: Timestamp,
        expires: Option<Timestamp>,
    ) -> Result<(Self, String), Failure> {
        let mut random = [0; 32];
        let failed = |err| Failure::not_all(format!("the system gives no random numbers: {err}"));
        let filled = getrandom(&mut random, GetRandomFlags::empty()).map_err(failed)?;
        // The system gives that many at once.
        if filled != random.len() {
            return Err(Failure::not_all("the system gave too few random numbers"));
        }
        let secret = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let sha256 = hash(&secret).iter().map(|byte| format!("{byte:02x}")).collect();
        Ok((Self { name: name.to_owned(), scopes, sha256, created, expires }, secret))
    }

    /// Its hash, if the file holds one.
    pub(crate) fn hash(&self) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        let digits = self.sha256.as_bytes();
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks(2)) {
            *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(bytes)
    }

    pub(crate) fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| expires <= now)
    }
}

/// SHA-256 is enough for a secret of 256 random bits: there is nothing to guess.
pub(crate) fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret).into()
}

impl Tokens {
    /// Reads the file; one that is not there holds none.
    pub(crate) fn read(path: &Path) -> Result<Self, Failure> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(err) if err.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(err) => return Err(failed(path, "cannot be read", &err)),
        };
        Self::parse(path, &text)
    }

    /// Reads a file's text.
    pub(crate) fn parse(path: &Path, text: &str) -> Result<Self, Failure> {
        let tokens: Self = toml::from_str(text).map_err(|err| {
            // Its own words would quote the file.
            failed(path, "is no file of tokens", &err.message())
        })?;
        match tokens.all.iter().find(|token| token.hash().is_none()) {
            Some(token) => Err(failed(path, &format!("the hash of {:?} is none", token.name), &"revoke it")),
            None => Ok(tokens),
        }
    }

    /// Changes the file: whole or not at all, and never two commands at once.
    pub(crate) fn change<T>(
        path: &Path,
        change: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let wrong = |err: &std::io::Error| failed(path, "cannot be written", err);
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|err| wrong(&err))?;
        let lock = File::open(directory).map_err(|err| wrong(&err))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|err| wrong(&err.into()))?;
        let mut tokens = Self::read(path)?;
        let answer = change(&mut tokens)?;
        let text = toml::to_string(&tokens).map_err(|err| failed(path, "cannot be written", &err))?;
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let new = Path::new(&name);
        // Left by a command that was killed; the lock is ours.
        let _ = std::fs::remove_file(new);
        let write = || {
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            std::fs::rename(new, path)?;
            lock.sync_all()
        };
        write().map_err(|err| wrong(&err))?;
        Ok(answer)
    }
}

fn failed(path: &Path, what: &str, why: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("{}: the file of tokens {what}: {why}", path.display()))
}
