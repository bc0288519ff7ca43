//! Texts that rows share, rows that cannot be read, and the folding of the tally.

use std::sync::Arc;

use futures_util::future::{join_all, try_join_all};
use testpg::shared;

use super::Db;
use crate::{
    guid::Guid,
    job::{Job, Lane},
    ports::{Filter, PageRequest},
    store::postgres::{
        ask::Ask,
        reader::fold,
        texts::{Ids, Interned},
    },
    time::Timestamp,
};

fn job(queue: &str, n: u8) -> Job {
    Job {
        guid: Guid::from_bytes([n; 16]),
        own_guid: true,
        idempotency_key: None,
        lane: Arc::new(Lane {
            queue: queue.into(),
            starter: "http".into(),
            destination: Some("h:443".into()),
        }),
        priority: 0,
        delivery: crate::job::Delivery::AtLeastOnce,
        max_attempts: 3,
        queued_at: Timestamp::MIN,
        run_at: Timestamp::MIN,
        expires_at: None,
        request: "{}".into(),
        submitted_by: Some(format!("caller of {queue}").into()),
        grant: Some(Arc::default()),
    }
}

impl Db {
    fn ask(&self) -> Ask<'_> {
        Ask::new(&self.client, &self.texts)
    }

    async fn ids(&self, jobs: &[Job]) -> Ids {
        self.interned.ids(self.ask(), jobs).await.unwrap().unwrap()
    }

    async fn url(&self) -> String {
        let row = self.client.query_typed_one("SELECT current_database()", &[]).await.unwrap();
        shared().url(row.get(0))
    }

    async fn number(&self, query: &str) -> i64 {
        self.client.query_typed_one(query, &[]).await.unwrap().get(0)
    }

    /// Pending jobs with these guids in lane `a`, of which one column is then changed.
    async fn damaged(&self, damages: &[&str]) {
        let ids = self.ids(&[job("a", 0)]).await;
        let (job, damage) = (job("a", 0), "ALTER TABLE sendoff.job DROP CONSTRAINT job_priority_check");
        let (lane, submitter, grant) =
            (ids.lane(&job), ids.submitter(&job).unwrap(), ids.grant(&job).unwrap());
        let mut sql = format!("{damage}; ALTER TABLE sendoff.job DROP CONSTRAINT job_delivery_check;");
        for (n, damage) in damages.iter().enumerate() {
            let guid = Guid::from_bytes([u8::try_from(n).unwrap(); 16]);
            sql.push_str(&format!(
                "INSERT INTO sendoff.job (next_at, queued_at, run_at, lane, fence, attempt, max_attempts, submitted_by,
                     granted, state, priority, delivery, own_guid, guid, request)
                 VALUES ({n}, 0, {n}, {lane}, 0, 0, 3, {submitter}, {grant}, 0, 5, 1, true, '{guid}', '{{}}');
                 UPDATE sendoff.job SET {damage} WHERE guid = '{guid}';"
            ));
        }
        self.client.batch_execute(&sql).await.unwrap();
    }
}

#[tokio::test]
async fn texts_have_one_number_on_all_nodes() {
    let Some(first) = Db::new().await else { return };
    let url = first.url().await;
    let nodes = join_all((0..6).map(|_| Db::at(&url))).await;
    let jobs: Vec<Job> = (0..50).map(|n| job(&format!("queue-{n}"), n)).collect();
    let backwards: Vec<Job> = jobs.iter().rev().cloned().collect();
    let given = join_all(nodes.iter().enumerate().map(|(place, node)| {
        let jobs = if place % 2 == 0 { &jobs } else { &backwards };
        node.ids(jobs)
    }))
    .await;
    let expected = first.ids(&jobs).await;
    for ids in &given {
        for job in &jobs {
            assert_eq!(ids.lane(job), expected.lane(job));
            assert_eq!(ids.submitter(job), expected.submitter(job));
            assert_eq!(ids.grant(job), expected.grant(job));
        }
    }
    assert_eq!(first.number("SELECT count(*) FROM sendoff.lane").await, 50);
    assert_eq!(first.number("SELECT count(*) FROM sendoff.granted").await, 1);
}

#[tokio::test]
async fn looks_take_no_numbers_and_known_texts_no_looks() {
    let Some(db) = Db::new().await else { return };
    let jobs = [job("a", 1), job("b", 2)];
    let ids = db.ids(&jobs).await;
    let taken = "SELECT last_value FROM sendoff.lane_id_seq";
    let before = db.number(taken).await;
    for _ in 0..5 {
        db.interned.forget();
        assert_eq!(db.ids(&jobs).await.lane(&jobs[0]), ids.lane(&jobs[0]));
    }
    // One known, one new: the known one takes no number, either.
    db.ids(&[job("a", 1), job("c", 3)]).await;
    assert_eq!(db.number(taken).await, before + 1);
    // What is known needs no table.
    db.client.batch_execute("DROP TABLE sendoff.lane, sendoff.actor, sendoff.granted").await.unwrap();
    assert_eq!(db.ids(&jobs).await.lane(&jobs[1]), ids.lane(&jobs[1]));
}

#[tokio::test]
async fn more_lanes_than_are_remembered() {
    let Some(db) = Db::new().await else { return };
    let jobs: Vec<Job> =
        (0..100_000).map(|n| Job { submitted_by: None, ..job(&format!("q{n}"), 0) }).collect();
    for all in [&jobs[..], &jobs[..100], &jobs[..]] {
        let ids = db.ids(all).await;
        assert!(all.iter().all(|job| ids.lane(job) > 0));
    }
    assert_eq!(db.number("SELECT count(*) FROM sendoff.lane").await, 100_000);
    let numbers: Vec<i32> = (1..=100_000).collect();
    let known = db.interned.lanes(db.ask(), &numbers).await.unwrap();
    assert!(numbers.iter().all(|id| known.lane(*id).is_some()));
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_shown_and_left_alone() {
    let Some(db) = Db::new().await else { return };
    let damages = [
        "priority = 5",
        "request = 'no json'",
        "priority = 300",
        "delivery = 7",
        "lane = 99",
        "granted = 99",
        "submitted_by = 99",
        "run_at = 9223372036854775807",
        "error_class = 12",
        "max_attempts = 3",
    ];
    db.damaged(&damages).await;
    let interned = Interned::default();
    let reader = super::super::reader::Reader { interned: &interned, ..db.reader() };
    for (n, damage) in damages.iter().enumerate() {
        let record = reader.get(Guid::from_bytes([u8::try_from(n).unwrap(); 16])).await.unwrap().unwrap();
        let sound = damage.ends_with("= 5") || damage.ends_with("= 3");
        assert_eq!(record.quarantined, !sound, "{damage}");
        assert_eq!(record.max_attempts, 3, "what can be read is shown");
    }
    // A header has no more than lane, priority and time.
    let due = reader.due(None, Timestamp::MAX, 100).await.unwrap();
    assert_eq!((due.found.len(), due.suspects.len()), (8, 2));
    let page = reader.due(None, Timestamp::MAX, 3).await.unwrap();
    assert_eq!((page.found.len(), page.suspects.len()), (3, 1), "those left out use up no place");
    let listed = reader.list(&Filter::default(), PageRequest::default()).await.unwrap();
    assert_eq!(listed.records.iter().filter(|record| record.quarantined).count(), 8);
    // Once marked, it waits nowhere any more.
    db.client
        .batch_execute("UPDATE sendoff.job SET quarantined = true WHERE lane = 99 OR priority = 300")
        .await
        .unwrap();
    assert_eq!(reader.due(None, Timestamp::MAX, 100).await.unwrap().suspects, []);
    assert_eq!(reader.counts().await.unwrap().quarantined, 2);
}

#[tokio::test]
async fn a_fold_is_exact_whatever_is_appended_meanwhile() {
    let Some(db) = Db::new().await else { return };
    let url = db.url().await;
    let nodes = join_all((0..4).map(|_| Db::at(&url))).await;
    let append = async |db: &Db| {
        for n in 0..200 {
            let sql =
                format!("INSERT INTO sendoff.tally VALUES ('a', 0, 2), ('b', {}, 1), ('a', 0, -1)", n % 3);
            db.client.batch_execute(&sql).await?;
            if n % 10 == 0 {
                fold(db.ask()).await?;
            }
        }
        Ok::<_, tokio_postgres::Error>(())
    };
    let watch = async {
        let mut least = 0;
        for _ in 0..100 {
            let sum = db.reader().counts().await?.total(crate::state::State::Pending);
            assert!(sum >= least, "{sum} after {least}");
            least = sum;
        }
        Ok::<_, tokio_postgres::Error>(())
    };
    let (appended, watched) = tokio::join!(try_join_all(nodes.iter().map(append)), watch);
    appended.unwrap();
    watched.unwrap();
    let exact = db.reader().counts().await.unwrap();
    assert_eq!(exact.queues["a"].values().sum::<u64>(), 800);
    assert_eq!(exact.queues["b"].values().sum::<u64>(), 800);
    fold(db.ask()).await.unwrap();
    assert_eq!(db.reader().counts().await.unwrap(), exact);
    assert_eq!(db.number("SELECT count(*) FROM sendoff.tally").await, 4);
}
