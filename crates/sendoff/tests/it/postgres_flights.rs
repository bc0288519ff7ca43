//! Groups of the PostgreSQL store that are sent whole with their commit: what goes wrong after it, and
//! calls that must not overtake each other.

use sendoff::{
    ports::{Claim, Inserted, Store, Wake},
    state::State,
    testing::model::{at, job},
};

use super::postgres_writer::{batch, behind_proxy, connect, created, node, started};

fn sql(database: &str, statements: &str) {
    testpg::shared().sql_in(database, statements).expect("it is done");
}

/// A row that cannot be read cannot even be put back: by then the group is committed.
#[tokio::test]
async fn what_fails_after_the_commit_is_not_told_as_undone() {
    if !testpg::wanted() {
        return;
    }
    let (_proxy, url, database) = behind_proxy();
    let store = connect(&url).await;
    let fleet = store.fleet().expect("it has one");
    let ids = created(&store.insert(batch([job(1), job(2)], None, true)).await.expect("insert"));
    sql(
        &database,
        "UPDATE sendoff.job SET request = 'no job' WHERE id = (SELECT max(id) FROM sendoff.job);
         CREATE FUNCTION sendoff.refuse() RETURNS trigger LANGUAGE plpgsql AS
             $$ BEGIN RAISE EXCEPTION 'refused'; END $$;
         CREATE TRIGGER refuse BEFORE UPDATE ON sendoff.job
             FOR EACH ROW WHEN (NEW.quarantined) EXECUTE FUNCTION sendoff.refuse()",
    );
    let claim = store.claim(ids.clone(), Claim { node: node(&store), now: at(1) });
    let (inserted, claimed) = tokio::join!(store.insert(batch([job(3)], None, false)), claim);
    assert!(claimed.is_err_and(|err| err.is_commit_unknown()));
    assert!(matches!(inserted.expect("insert")[..], [Inserted::Created(_)]), "not there before");
    // So whoever claims looks for what is in its name.
    assert_eq!(fleet.woken().await, Wake::Reconnected);
    assert_eq!(fleet.mine().await.expect("mine"), [(ids[0], 1), (ids[1], 1)]);
}

#[tokio::test]
async fn a_late_start_counts_before_a_claim_that_was_called_after_it() {
    if !testpg::wanted() {
        return;
    }
    let (_proxy, url, database) = behind_proxy();
    let store = connect(&url).await;
    let me = node(&store);
    let ids = created(&store.insert(batch([job(1)], Some(&me), true)).await.expect("insert"));
    // As it is once others took it back.
    sql(&database, "UPDATE sendoff.job SET state = 0, node = NULL, possible_duplicate = true");
    let settled = store.settle(vec![started(ids[0])], at(4));
    let claimed = store.claim(ids, Claim { node: me, now: at(5) });
    let (settled, claimed) = tokio::join!(settled, claimed);
    let settled = settled.expect("settle")[0];
    assert!(settled.applied && settled.state == State::Started, "{settled:?}");
    assert!(claimed.expect("claim")[0].is_none());
}
