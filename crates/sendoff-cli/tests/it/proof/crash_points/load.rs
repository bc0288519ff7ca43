//! Those who ask while the daemon dies.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use sendoff::time::{Clock, SystemClock};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{Chance, caller::Caller, load::Cancel},
    cells::{Shape, Starts},
};

const CALLERS: usize = 4;
/// A daemon that hangs is noticed.
const PATIENCE: Duration = Duration::from_secs(30);
/// After this long without the answer that is waited for, the test has failed.
const GIVE_UP: Duration = Duration::from_secs(90);
const HOUR: &str = "1h";
/// A queue that is paused: its jobs expire.
const HELD: &str = "held";

/// One submit: a job, or a batch of all or none.
pub(super) struct Submit {
    pub(super) guids: Vec<Uuid>,
    /// False: the answer broke off, and its caller did not ask again.
    pub(super) acknowledged: bool,
}

/// What the callers know in the end.
#[derive(Default)]
pub(super) struct Told {
    pub(super) submits: Vec<Submit>,
    /// What was said to cancels.
    pub(super) cancels: HashMap<Uuid, Cancel>,
}

pub(super) struct Load<'a> {
    pub(super) seed: u64,
    pub(super) shape: Shape,
    pub(super) sockets: Vec<PathBuf>,
    pub(super) endpoint: SocketAddr,
    pub(super) ledger: &'a Path,
    /// Callers finish what they are at and begin nothing more.
    pub(super) over: AtomicBool,
    /// Callers give up: the test has failed.
    pub(super) failed: AtomicBool,
    pub(super) acknowledged: AtomicUsize,
}

impl Load<'_> {
    /// Asks for all sorts of things until it is over; meanwhile, `trouble`.
    pub(super) fn run(&self, trouble: impl FnOnce()) -> Told {
        std::thread::scope(|scope| {
            let callers: Vec<_> = (0..CALLERS).map(|number| scope.spawn(move || self.call(number))).collect();
            let end = End(self);
            trouble();
            self.over.store(true, Ordering::Relaxed);
            std::mem::forget(end);
            let mut told = Told::default();
            for caller in callers {
                let one = caller.join().unwrap();
                told.submits.extend(one.submits);
                told.cancels.extend(one.cancels);
            }
            told
        })
    }

    /// A job of this shape, with more fields.
    pub(super) fn job(&self, guid: Uuid, more: &Value) -> Value {
        let Load { shape, endpoint, ledger, .. } = self;
        let start = match shape.starts {
            Starts::Simulated => json!({"simulated": {"delay": "2ms"}}),
            Starts::Process => {
                let script = r#"echo "$SENDOFF_GUID" >> "$0""#;
                json!({"process": {"program": "/bin/sh", "args": ["-c", script, ledger]}})
            }
            Starts::Http => json!({"http": {"url": format!("http://{endpoint}/2"), "json": {"a": 1}}}),
            Starts::Twice => {
                json!({"http": {"url": format!("http://{endpoint}/again"), "trust_retry_after": true}})
            }
        };
        let delivery = if shape.at_most_once { "at_most_once" } else { "at_least_once" };
        let mut job = json!({
            "guid": guid,
            "start": start,
            "delivery": delivery,
            "retry": {"max_attempts": 20, "max_backoff": "50ms"},
        });
        if let (Value::Object(job), Value::Object(more)) = (&mut job, more) {
            job.extend(more.clone());
        }
        job
    }

    fn call(&self, number: usize) -> Told {
        let mut caller = OneCaller {
            load: self,
            http: Caller::of_fleet(self.sockets.clone(), number, PATIENCE),
            chance: Chance::nth(self.seed, number),
            told: Told::default(),
        };
        // Not before the daemon serves.
        caller.until_answered(&format!("/v1/queues/{HELD}:pause"), "", &[200]);
        for round in 0.. {
            caller.round(&format!("bulk-{number}-{round}"));
            if self.over.load(Ordering::Relaxed) {
                break;
            }
        }
        caller.told
    }
}

/// Lets the callers end if it is dropped by a panic.
struct End<'a>(&'a Load<'a>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.failed.store(true, Ordering::Relaxed);
        self.0.over.store(true, Ordering::Relaxed);
    }
}

struct OneCaller<'a> {
    load: &'a Load<'a>,
    http: Caller,
    chance: Chance,
    told: Told,
}

impl OneCaller<'_> {
    /// A bit of everything.
    fn round(&mut self, bulk: &str) {
        for _ in 0..3 {
            let delay = self.chance.below(2) * self.chance.below(40);
            self.submit(1, &json!({"delay": format!("{delay}ms")}), true);
        }
        self.submit(4, &json!({}), true);
        for delay in [0, self.chance.below(60)] {
            if let [guid] = self.submit(1, &json!({"delay": format!("{delay}ms")}), false)[..] {
                self.cancel(guid);
            }
        }
        if let [guid] = self.submit(1, &json!({"delay": HOUR}), false)[..] {
            // That it was moved before, by a request whose answer was lost, and has started shows as 409.
            self.until_answered(&format!("/v1/jobs/{guid}:reschedule"), r#"{"delay":"5ms"}"#, &[200, 409]);
        }
        let many = self.submit(3, &json!({"delay": HOUR, "queue": bulk}), false);
        let filter = json!({"filter": {"queue": bulk}}).to_string();
        self.until_answered("/v1/jobs:cancel", &filter, &[200]);
        let cancelled = Cancel::Cancelled { maybe_started: false };
        self.told.cancels.extend(many.into_iter().map(|guid| (guid, cancelled)));
        self.submit(1, &json!({"queue": HELD, "expires_in": "20ms"}), true);
    }

    /// Submits a job like this, or so many as one batch. If the answer breaks off it asks again, unless
    /// it may let go of them and does by chance. Their guids, unless it let go.
    fn submit(&mut self, count: usize, more: &Value, may_let_go: bool) -> Vec<Uuid> {
        let guids: Vec<Uuid> = (0..count).map(|_| self.chance.guid()).collect();
        let jobs: Vec<Value> = guids.iter().map(|guid| self.load.job(*guid, more)).collect();
        let (path, body) = match &jobs[..] {
            [job] => ("/v1/jobs", job.to_string()),
            _ => ("/v1/jobs:batch", Value::Array(jobs).to_string()),
        };
        let lets_go = may_let_go && self.chance.below(2) == 0;
        let acknowledged = self.answered(path, &body, &[200, 201], lets_go).is_some();
        self.load.acknowledged.fetch_add(usize::from(acknowledged), Ordering::Relaxed);
        self.told.submits.push(Submit { guids: guids.clone(), acknowledged });
        if acknowledged { guids } else { Vec::new() }
    }

    fn cancel(&mut self, guid: Uuid) {
        let (status, answer) = self.until_answered(&format!("/v1/jobs/{guid}:cancel"), "", &[200, 409]);
        let said = match status {
            200 => Cancel::Cancelled { maybe_started: answer["maybe_started"] == true },
            _ => {
                assert_eq!(answer["type"], "/problems/too_late", "{answer}");
                Cancel::TooLate
            }
        };
        self.told.cancels.insert(guid, said);
    }

    fn until_answered(&mut self, path: &str, body: &str, wanted: &[u16]) -> (u16, Value) {
        self.answered(path, body, wanted, false).expect("nobody lets go")
    }

    /// One of these answers; none if the connection broke and it lets go then.
    fn answered(&mut self, path: &str, body: &str, wanted: &[u16], lets_go: bool) -> Option<(u16, Value)> {
        let since = SystemClock.elapsed();
        loop {
            match self.http.ask("POST", path, body) {
                Ok((status, answer)) if wanted.contains(&status) => return Some((status, answer)),
                // It stops, and has done nothing.
                Ok((503, _)) => {}
                // Also where nobody listens: nothing was sent then.
                Err(_) if lets_go => return None,
                Err(_) => {}
                Ok(refused) => panic!("{path} {body}: {refused:?}"),
            }
            assert!(!self.load.failed.load(Ordering::Relaxed), "the daemon's part of the test has failed");
            let waited = SystemClock.elapsed() - since;
            assert!(waited < GIVE_UP, "no answer for {waited:?}: {path} {body}");
            self.http.elsewhere();
            // Until the daemon is back.
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
