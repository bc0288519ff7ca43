//! A client that speaks just enough of the protocol (simple queries, no password), so that no `psql` is needed.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use crate::error::{Context, Error, Result};

/// Rows of text, `None` for null.
pub(crate) type Rows = Vec<Vec<Option<String>>>;

const PROTOCOL_3: u32 = 196_608;
/// After this long without a byte a test is stuck.
const PATIENCE: Duration = Duration::from_secs(60);

/// One connection: what it begins (`BEGIN`, `LOCK TABLE`) lasts until the next call or its drop.
#[derive(Debug)]
pub struct Session {
    stream: UnixStream,
}

impl Session {
    pub(crate) fn open(socket: &Path, user: &str, database: &str) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("cannot connect to the server's socket")?;
        stream.set_read_timeout(Some(PATIENCE)).context("cannot set a time limit")?;
        let mut session = Self { stream };
        let mut startup = PROTOCOL_3.to_be_bytes().to_vec();
        for text in ["user", user, "database", database, ""] {
            startup.extend_from_slice(text.as_bytes());
            startup.push(0);
        }
        session.send(None, &startup)?;
        session.until_ready()?;
        Ok(session)
    }

    /// Runs one or more statements, by default as one transaction, and returns the rows of all of them, null as
    /// `None`. Gives up after a minute without an answer.
    pub fn sql(&mut self, statements: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.send(Some(b'Q'), &[statements.as_bytes(), &[0]].concat())?;
        self.until_ready()
    }

    fn send(&mut self, kind: Option<u8>, body: &[u8]) -> Result<()> {
        let mut message: Vec<u8> = kind.into_iter().collect();
        message.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
        message.extend_from_slice(body);
        self.stream.write_all(&message).context("cannot send to the server")
    }

    fn receive(&mut self) -> Result<(u8, Vec<u8>)> {
        let mut head = [0; 5];
        self.stream.read_exact(&mut head).context("no answer from the server")?;
        let [kind, length @ ..] = head;
        let mut body = vec![0; (u32::from_be_bytes(length) as usize).saturating_sub(4)];
        self.stream.read_exact(&mut body).context("the server's answer broke off")?;
        Ok((kind, body))
    }

    fn until_ready(&mut self) -> Result<Rows> {
        let mut rows = Rows::new();
        let mut failure = None;
        loop {
            let (kind, body) = self.receive()?;
            match kind {
                b'D' => rows.push(row(&body).ok_or_else(|| Error::new("the server sent a broken row"))?),
                b'E' => {
                    let text = error_text(&body);
                    // After a fatal one the server closes without a last word.
                    if text.starts_with("FATAL") || text.starts_with("PANIC") {
                        return Err(Error::new(text));
                    }
                    failure = Some(text);
                }
                b'R' if body != [0; 4] => return Err(Error::new("the server wants a password")),
                b'Z' => return failure.map_or(Ok(rows), |text| Err(Error::new(text))),
                _ => {}
            }
        }
    }
}

fn row(mut body: &[u8]) -> Option<Vec<Option<String>>> {
    let columns = u16::from_be_bytes(*body.split_off(..2)?.first_chunk()?);
    let mut values = Vec::with_capacity(columns.into());
    for _ in 0..columns {
        let length = i32::from_be_bytes(*body.split_off(..4)?.first_chunk()?);
        // A length of -1 is null.
        values.push(match usize::try_from(length) {
            Ok(length) => Some(String::from_utf8_lossy(body.split_off(..length)?).into_owned()),
            Err(_) => None,
        });
    }
    Some(values)
}

/// `ERROR 42P01: relation "x" does not exist`
fn error_text(body: &[u8]) -> String {
    let mut fields = ["", "", ""].map(str::to_owned);
    for field in body.split(|&byte| byte == 0) {
        let Some((kind, text)) = field.split_first() else { continue };
        if let Some(place) = b"VCM".iter().position(|wanted| wanted == kind) {
            fields[place] = String::from_utf8_lossy(text).into_owned();
        }
    }
    let [severity, code, message] = fields;
    format!("{severity} {code}: {message}")
}
