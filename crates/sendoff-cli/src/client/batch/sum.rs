//! What is told of a batch: each item, how far it is, and the sum.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;

use super::{Answered, Verdict};
use crate::{
    client::output::Output,
    failure::{Exit, Failure},
    out,
    run::{counted, grouped},
};

/// Tells and counts.
pub(super) struct Sum {
    output: Output,
    label: String,
    bar: Option<ProgressBar>,
    created: u64,
    existing: u64,
    refused: u64,
}

impl Sum {
    /// With a progress bar on a terminal, if the input's length is known.
    pub(super) fn new(output: Output, label: String, bytes: Option<u64>) -> Self {
        let watched = output == Output::People && std::io::stderr().is_terminal();
        let bar = bytes.filter(|_| watched).map(|bytes| {
            let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{bar:24} {percent}%  {wide_msg}");
            bar.with_style(style.expect("the template is valid"))
        });
        Self { output, label, bar, created: 0, existing: 0, refused: 0 }
    }

    /// Tells the verdicts of a chunk, in the order of its lines.
    pub(super) fn add(&mut self, answered: Answered) -> Result<(), Failure> {
        let Answered { chunk, verdicts } = answered;
        let mut lines = String::new();
        for (item, verdict) in chunk.items.iter().zip(verdicts) {
            match verdict {
                Verdict::Accepted { guid, created } => {
                    *(if created { &mut self.created } else { &mut self.existing }) += 1;
                    match self.output {
                        Output::People => {}
                        Output::Guids => lines.push_str(&format!("{guid}\n")),
                        Output::Json => {
                            let line = json!({ "line": item.line, "guid": guid, "created": created });
                            lines.push_str(&format!("{line}\n"));
                        }
                    }
                }
                Verdict::Refused(problem) => self.refuse(item.line, &problem.words(), &mut lines),
                Verdict::Bad(message) => self.refuse(item.line, &message, &mut lines),
            }
        }
        out::bytes(lines.as_bytes())?;
        if let Some(bar) = &self.bar {
            bar.set_position(chunk.reached);
            bar.set_message(self.text());
        }
        Ok(())
    }

    fn refuse(&mut self, line: u64, message: &str, lines: &mut String) {
        self.refused += 1;
        match self.output {
            Output::Json => lines.push_str(&format!("{}\n", json!({ "line": line, "error": message }))),
            _ => self.report(line, message),
        }
    }

    /// Names a bad line on stderr.
    pub(super) fn report(&self, line: u64, message: &str) {
        let text = match self.output {
            Output::Json => json!({ "file": self.label, "line": line, "error": message }).to_string(),
            _ => format!("{}:{line}: {message}", self.label),
        };
        match &self.bar {
            Some(bar) => bar.suspend(|| out::note(&text)),
            None => out::note(&text),
        }
    }

    /// The sum, and the exit code that it means.
    pub(super) fn finish(self) -> Result<Exit, Failure> {
        self.clear();
        let accepted = self.created + self.existing;
        if accepted + self.refused == 0 {
            return Err(Failure::usage(format!(
                "{}: there is no job in it; write one JSON object a line, as `sendoff run --help` shows",
                self.label
            )));
        }
        let Self { created, existing, refused, .. } = self;
        let items = accepted + refused;
        self.output.fact(
            &json!({ "items": items, "created": created, "existing": existing, "refused": refused }),
            || self.text(),
        )?;
        Ok(match (accepted, refused) {
            (_, 0) => Exit::Ok,
            (0, _) => Exit::Usage,
            _ => Exit::NotAll,
        })
    }

    /// The failure that ended it, with what was done before.
    pub(super) fn broken(self, failure: Failure) -> Failure {
        self.clear();
        let accepted = self.created + self.existing;
        let before = if accepted > 0 {
            format!("; {} accepted before", counted(accepted, "job"))
        } else {
            String::new()
        };
        Failure { message: format!("{failure}{before}"), ..failure }
    }

    fn clear(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn text(&self) -> String {
        let mut text = format!("{} accepted", counted(self.created + self.existing, "job"));
        if self.existing > 0 {
            text.push_str(&format!(", {} of them before", grouped(self.existing)));
        }
        if self.refused > 0 {
            text.push_str(&format!(", {} refused", counted(self.refused, "line")));
        }
        text
    }
}
