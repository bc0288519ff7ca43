//! POSTs of 256 bytes to an endpoint that answers at once, and to one that takes 50 ms.

use std::{net::SocketAddr, path::Path};

use sendoff::{
    JobSpec, Scheduler,
    starter::{Http, HttpStarter},
};
use serde::{Deserialize, Serialize};

use super::{Keep, Sizes, failed, one_thread, recorded, stop};
use crate::{
    bench::{
        case::{Case, Goal, Side},
        raw::http::{self, Posts},
        responder::{self, Endpoint, allow_descriptors},
        sample::{Meter, Sample},
    },
    failure::Failure,
};

const BODY: usize = 256;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::bench) struct Part {
    side: Kind,
    jobs: u64,
    connections: usize,
    endpoint: Endpoint,
    delay_ms: u64,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Bytes,
    Hyper,
    Sendoff(Keep),
}

const BYTES: &str = "bytes over TcpStream";
const MEMORY: &str = "sendoff, memory";
const SQLITE: &str = "sendoff, SQLite";

pub(super) fn cases(sizes: Sizes<'_>) -> Vec<Case> {
    let (fast, slow) = (sizes.jobs(100_000, 20_000), sizes.jobs(40_000, 10_000));
    let number = crate::run::grouped;
    let case = |name: &str, what, sides, goals| Case {
        workload: "http",
        name: name.into(),
        what,
        times: "from the request to the answer",
        sides,
        goals,
    };
    let sides = |endpoint| {
        let part = |side| Part { side, jobs: fast, connections: 64, endpoint, delay_ms: 0 };
        vec![
            Side::raw(BYTES, part(Kind::Bytes)),
            Side::raw("hyper connections", part(Kind::Hyper)),
            Side::ours(MEMORY, part(Kind::Sendoff(Keep::Memory))),
            Side::ours(SQLITE, part(Kind::Sendoff(Keep::Sqlite))),
        ]
    };
    let slow_part =
        |side| Part { side, jobs: slow, connections: 1_024, endpoint: Endpoint::Server, delay_ms: 50 };
    vec![
        case(
            "64 connections",
            format!("{} POSTs of {BODY} bytes over 64 connections", number(fast)),
            sides(Endpoint::Server),
            vec![Goal::rate(MEMORY, BYTES, 0.8), Goal::rate(SQLITE, BYTES, 0.35)],
        ),
        case(
            "bare endpoint",
            format!("{} POSTs of {BODY} bytes to an endpoint that does next to nothing", number(fast)),
            sides(Endpoint::Bare),
            Vec::new(),
        ),
        case(
            "50 ms",
            format!("{} POSTs to an endpoint that takes 50 ms, 1,024 connections", number(slow)),
            vec![
                Side::raw(BYTES, slow_part(Kind::Bytes)),
                Side::ours(MEMORY, slow_part(Kind::Sendoff(Keep::Memory))),
            ],
            vec![Goal::rate(MEMORY, BYTES, 0.97)],
        ),
    ]
}

impl Part {
    pub(in crate::bench) fn run(self, dir: &Path) -> Result<Sample, Failure> {
        allow_descriptors();
        one_thread(async {
            let endpoint = responder::Part { endpoint: self.endpoint, body: BODY, delay_ms: self.delay_ms };
            let server = crate::bench::part::Server::start(endpoint).await?;
            let address: SocketAddr = server.address.parse().map_err(failed)?;
            let posts = Posts { address, body: BODY, starts: self.jobs, connections: self.connections };
            match self.side {
                Kind::Bytes => http::bytes(&posts).await.map_err(failed),
                Kind::Hyper => http::hyper(&posts).await.map_err(failed),
                Kind::Sendoff(keep) => sendoff(&posts, keep, dir).await,
            }
        })
    }
}

async fn sendoff(posts: &Posts, keep: Keep, dir: &Path) -> Result<Sample, Failure> {
    let starter = HttpStarter::builder().max_per_destination(posts.connections).build().map_err(failed)?;
    let scheduler =
        Scheduler::builder().store(keep.open(dir).await?).starter(starter).start().await.map_err(failed)?;
    let (url, body) = (format!("http://{}/hook", posts.address), "x".repeat(posts.body));
    let spec = || JobSpec::new(&Http::post(&url).body(&*body));
    // Connections are open before the measurement, as on the other sides.
    super::submit_all(&scheduler, posts.connections as u64, super::BATCH, spec).await?;
    scheduler.idle().await.map_err(failed)?;
    let meter = Meter::start();
    super::submit_all(&scheduler, posts.starts, super::BATCH, spec).await?;
    scheduler.idle().await.map_err(failed)?;
    let sample = meter.stop(posts.starts);
    let took = recorded(&scheduler, |record| record.took_us).await?;
    super::all_started(&scheduler, posts.starts + posts.connections as u64).await?;
    stop(scheduler).await?;
    Ok(sample.with_times(took))
}
