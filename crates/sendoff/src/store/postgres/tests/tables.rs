//! Making the tables, and bringing them up to date while older nodes go on.

use testpg::shared;

use super::{Db, connect};
use crate::{
    error::Error,
    store::postgres::{
        connect::Target,
        schema::{MIGRATIONS, Migration, prepare},
    },
};

const ADDS: Migration = Migration {
    name: "a column more",
    sql: "ALTER TABLE sendoff.job ADD COLUMN later integer; CREATE TABLE sendoff.more (x integer);",
    readable_by: 1,
};
const CHANGES: Migration = Migration {
    name: "another meaning",
    sql: "ALTER TABLE sendoff.job RENAME COLUMN request TO body;",
    readable_by: 2,
};

fn database(url: &str) -> &str {
    url.rsplit('/').next().unwrap()
}

async fn refusal(url: &str) -> Error {
    prepare(&mut connect(url).await, MIGRATIONS).await.unwrap_err()
}

#[tokio::test]
async fn nodes_that_start_at_once_make_them_once() {
    if !testpg::wanted() {
        return;
    }
    let url = shared().new_database().unwrap();
    let starts = (0..8).map(|_| async { prepare(&mut connect(&url).await, MIGRATIONS).await });
    for made in futures_util::future::join_all(starts).await {
        made.unwrap();
    }
    let rows =
        shared().sql_in(database(&url), "SELECT version, name, readable_by FROM sendoff.migration").unwrap();
    assert_eq!(rows, [["1", "base", "1"].map(|cell| Some(cell.to_owned())).to_vec()]);
}

#[tokio::test]
async fn a_newer_program_adds_while_an_older_one_goes_on() {
    let Some(older) = Db::new().await else { return };
    let database = older.client.query_typed_one("SELECT current_database()", &[]).await.unwrap();
    let url = shared().url(database.get(0));
    let counted = older.reader().counts().await.unwrap();
    let newer: Vec<Migration> = MIGRATIONS.iter().copied().chain([ADDS]).collect();
    prepare(&mut connect(&url).await, &newer).await.unwrap();
    // The one that is there, and one that starts.
    assert_eq!(older.reader().counts().await.unwrap(), counted);
    assert_eq!(older.reader().due(None, crate::time::Timestamp::MAX, 9).await.unwrap().found, []);
    prepare(&mut connect(&url).await, MIGRATIONS).await.unwrap();
    prepare(&mut connect(&url).await, &newer).await.unwrap();
    // Not so once a step changes what older ones know.
    let newest: Vec<Migration> =
        newer.iter().copied().chain([Migration { readable_by: 3, ..CHANGES }]).collect();
    prepare(&mut connect(&url).await, &newest).await.unwrap();
    for old in [MIGRATIONS, &newer] {
        let err = prepare(&mut connect(&url).await, old).await.unwrap_err();
        assert!(err.is_newer() && err.to_string().contains("schema 3"), "{err}");
    }
}

#[tokio::test]
async fn a_step_that_fails_leaves_nothing() {
    if !testpg::wanted() {
        return;
    }
    let url = shared().new_database().unwrap();
    let broken = Migration { sql: "CREATE TABLE sendoff.more (x integer); SELECT 1 / 0", ..ADDS };
    let steps: Vec<Migration> = MIGRATIONS.iter().copied().chain([broken]).collect();
    let err = prepare(&mut connect(&url).await, &steps).await.unwrap_err();
    assert!(err.is_unusable() && err.to_string().contains("division by zero"), "{err}");
    let rows = shared().sql_in(database(&url), "SELECT to_regnamespace('sendoff')").unwrap();
    assert_eq!(rows, [[None]]);
}

#[tokio::test]
async fn what_cannot_be_used_is_said() {
    if !testpg::wanted() {
        return;
    }
    let url = shared().new_database().unwrap();
    shared()
        .sql_in(database(&url), "CREATE SCHEMA sendoff; CREATE TABLE sendoff.job (mine integer)")
        .unwrap();
    let err = refusal(&url).await;
    assert!(err.is_unusable() && err.to_string().contains("something else"), "{err}");

    shared().sql("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0").unwrap();
    let err = refusal(&shared().url("latin")).await;
    assert!(err.is_unusable() && err.to_string().contains("LATIN1"), "{err}");

    let standby = shared().standby("reads_only").unwrap();
    let err = refusal(&standby.url("postgres")).await;
    assert!(err.is_unusable() && err.to_string().contains("standby"), "{err}");
    // With both named, the one that takes writes is found, wherever it stands.
    let both =
        format!("postgres://sendoff@127.0.0.1:{},127.0.0.1:{}/postgres", standby.port(), shared().port());
    let client = connect(&both).await;
    let row = client.query_typed_one("SELECT pg_is_in_recovery()", &[]).await.unwrap();
    assert!(!row.get::<_, bool>(0));
    let alone = format!("postgres://sendoff@127.0.0.1:{0},127.0.0.1:{0}/postgres", standby.port());
    let err = Target::parse(&alone).unwrap().connect().await.err().unwrap();
    assert!(err.is_unavailable() && err.to_string().contains("does not allow writes"), "{err}");
}

#[tokio::test]
async fn a_role_without_rights_needs_a_schema_of_its_own() {
    if !testpg::wanted() {
        return;
    }
    let url = shared().new_database().unwrap();
    let name = database(&url);
    shared().sql("CREATE ROLE plain LOGIN; CREATE ROLE guest LOGIN").unwrap();
    let plain = url.replace("sendoff@", "plain@");
    let err = refusal(&plain).await;
    assert!(err.is_unusable() && err.to_string().contains("AUTHORIZATION"), "{err}");
    shared().sql_in(name, "CREATE SCHEMA sendoff AUTHORIZATION plain").unwrap();
    prepare(&mut connect(&plain).await, MIGRATIONS).await.unwrap();
    // One that may use the tables makes none.
    let rights = "GRANT USAGE ON SCHEMA sendoff TO guest;
                  GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA sendoff TO guest";
    shared().sql_in(name, rights).unwrap();
    prepare(&mut connect(&url.replace("sendoff@", "guest@")).await, MIGRATIONS).await.unwrap();
}
