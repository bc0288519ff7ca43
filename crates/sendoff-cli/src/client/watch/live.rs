//! The live view: counts, rates and the last events, drawn over themselves.

use std::{collections::VecDeque, pin::pin, time::Duration};

use sendoff::{
    State,
    time::{Clock, SystemClock},
};

use super::{lagged, line};
use crate::{
    client::{
        events::{Event, Events},
        http::Client,
        stats::{self, Stats},
    },
    failure::{Exit, Failure},
    out,
    run::grouped,
};

/// Events that are shown.
const SHOWN: usize = 10;
/// How often it is drawn.
const DRAWN: Duration = Duration::from_secs(1);

pub(super) async fn run(client: &Client, mut events: Events<'_>) -> Result<Exit, Failure> {
    // Whoever sees the first drawing sees all that happens after it.
    events.open().await?;
    let mut view = View::new(stats::read(client).await?.1);
    let mut stop = pin!(tokio::signal::ctrl_c());
    let mut tick = tokio::time::interval(DRAWN);
    // A view that fell behind does not catch up by drawing faster.
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = &mut stop => return Ok(Exit::Ok),
            event = events.next() => view.note(&event?),
            _ = tick.tick() => {
                view.stats = stats::read(client).await?.1;
                if !out::is_read(view.draw().as_bytes())? {
                    return Ok(Exit::Ok);
                }
            }
        }
    }
}

struct View {
    stats: Stats,
    last: VecDeque<String>,
    /// Starts, and all events, since it was drawn.
    started: u64,
    events: u64,
    drawn_at: Duration,
    /// The lines on the screen.
    height: usize,
}

impl View {
    fn new(stats: Stats) -> Self {
        let drawn_at = SystemClock.elapsed();
        Self { stats, last: VecDeque::new(), started: 0, events: 0, drawn_at, height: 0 }
    }

    fn note(&mut self, event: &Event) {
        let text = match event {
            Event::Job(change, _) => {
                self.events += 1;
                self.started += u64::from(change.state == State::Started);
                line(change)
            }
            Event::Lagged(missed) => {
                self.events += missed.unwrap_or(0);
                lagged(*missed)
            }
        };
        if self.last.len() == SHOWN {
            self.last.pop_front();
        }
        self.last.push_back(text);
    }

    /// What to write to a terminal that shows the drawing before.
    fn draw(&mut self) -> String {
        let now = SystemClock.elapsed();
        let seconds = now.saturating_sub(self.drawn_at).as_secs_f64().max(0.001);
        self.drawn_at = now;
        let rate = |count: u64| grouped((count as f64 / seconds).round() as u64);
        let mut text = self.stats.text();
        text.push_str(&format!(
            "{:<14} {} a second, {} events a second\n",
            "starts",
            rate(self.started),
            rate(self.events)
        ));
        (self.started, self.events) = (0, 0);
        text.push('\n');
        for line in &self.last {
            text.push_str(&format!("{line}\n"));
        }
        // Up to the first line of before, and each line anew to its end, then nothing below.
        let mut drawn = if self.height > 0 { format!("\x1b[{}A\r", self.height) } else { String::new() };
        for line in text.lines() {
            drawn.push_str(&format!("{line}\x1b[K\n"));
        }
        drawn.push_str("\x1b[J");
        self.height = text.lines().count();
        drawn
    }
}
