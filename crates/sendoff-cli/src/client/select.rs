//! Which jobs a command is about: guids, ends of guids, and guids on standard input.

use futures_util::{Stream, StreamExt, stream};
use sendoff::Guid;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader, Stdin};

use super::{
    http::{Call, Client, query},
    output::{instant, target},
};
use crate::failure::Failure;
use sendoff::JobRecord;

/// The shortest end of a guid that names a job.
const SHORTEST: usize = 6;
/// Candidates that are listed when an end fits several jobs.
const SHOWN: usize = 10;

/// A page of `GET /v1/jobs`.
#[derive(Deserialize)]
struct Page {
    jobs: Vec<JobRecord>,
    next_cursor: Option<String>,
}

/// The job that a selector names.
///
/// # Errors
/// Exit 2: it is none, or fits several jobs. Exit 3: it fits none.
pub(super) async fn resolve(client: &Client, selector: &str) -> Result<Guid, Failure> {
    if let Ok(guid) = selector.parse() {
        return Ok(guid);
    }
    let suffix: String = selector.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    if !suffix.chars().all(|c| c.is_ascii_hexdigit()) || suffix.len() < SHORTEST || suffix.len() >= 32 {
        return Err(Failure::usage(format!(
            "{selector:?} names no job; give a guid, or the last {SHORTEST} or more of its hexadecimal digits"
        )));
    }
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let parameters =
            [("guid_suffix", Some(suffix.clone())), ("order", Some("newest".into())), ("cursor", cursor)];
        let page: Page = client.call(&Call::get(query("/v1/jobs", &parameters))).await?.json()?;
        found.extend(page.jobs);
        cursor = page.next_cursor;
        if cursor.is_none() || found.len() > SHOWN {
            break;
        }
    }
    match &found[..] {
        [] => Err(Failure::not_found(format!("no job's guid ends in {selector}"))),
        [job] => Ok(job.guid),
        several => {
            let mut message = format!("{selector} fits several jobs; give more of the guid:");
            for job in several.iter().take(SHOWN) {
                let (due, target) = (instant(job.next_at), target(job));
                message.push_str(&format!("\n  {}  {}  {due}  {target}", job.guid, job.state));
            }
            if several.len() > SHOWN {
                message.push_str("\n  and more");
            }
            Err(Failure::usage(message))
        }
    }
}

/// The selectors of a command line, those on standard input as they arrive.
pub(super) fn selectors(words: &[String]) -> impl Stream<Item = Result<String, Failure>> + '_ {
    stream::iter(words).flat_map(|word| {
        if word == "-" {
            let lines = BufReader::new(tokio::io::stdin()).lines();
            stream::unfold(Some(lines), next_line).left_stream()
        } else {
            stream::iter([Ok(word.clone())]).right_stream()
        }
    })
}

type Lines = tokio::io::Lines<BufReader<Stdin>>;

async fn next_line(lines: Option<Lines>) -> Option<(Result<String, Failure>, Option<Lines>)> {
    let mut lines = lines?;
    loop {
        match lines.next_line().await {
            Ok(None) => return None,
            Ok(Some(line)) if line.trim().is_empty() => {}
            Ok(Some(line)) => return Some((Ok(line.trim().to_owned()), Some(lines))),
            Err(err) => return Some((Err(Failure::usage(format!("stdin: {err}"))), None)),
        }
    }
}
