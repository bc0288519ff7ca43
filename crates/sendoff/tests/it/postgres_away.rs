//! The PostgreSQL store where nobody answers, where a failover may forget, and after it was dropped.

use std::time::Duration;

use sendoff::{
    Delivery, Job,
    ports::Store,
    store::{PostgresOptions, PostgresStore},
    testing::model::job,
    time::{Clock, SystemClock},
};

use super::postgres_writer::{batch, behind_proxy, connect, created, options};

#[tokio::test]
async fn a_black_hole_ends_calls_honestly_and_passes_without_a_restart() {
    if !testpg::wanted() {
        return;
    }
    let (proxy, url, _) = behind_proxy();
    let store = connect(&url).await;
    created(&store.insert(batch([job(1)], None, true)).await.expect("insert"));
    proxy.stall();
    let (written, read) = tokio::join!(store.insert(batch([job(2)], None, true)), store.get(job(1).guid));
    let err = written.expect_err("nobody answers");
    assert!(err.is_commit_unknown() || err.is_unavailable(), "{err}");
    let err = read.expect_err("nobody answers");
    assert!(err.is_unavailable(), "{err}");
    proxy.cut();
    proxy.heal();
    let begun = SystemClock.elapsed();
    while store.insert(batch([job(3)], None, true)).await.is_err() {
        assert!(SystemClock.elapsed() - begun < Duration::from_secs(60), "it stays away");
    }
    assert!(store.get(job(3).guid).await.expect("get").is_some());
}

#[tokio::test]
async fn at_most_once_is_refused_where_a_failover_may_forget() {
    if !testpg::wanted() {
        return;
    }
    let url = testpg::shared().new_database().expect("a database");
    let (before, place) = url.split_once("127.0.0.1").expect("its host");
    let several = format!("{before}127.0.0.1{},127.0.0.1{place}", place.split('/').next().expect("a port"));
    let once = |n| Job { delivery: Delivery::AtMostOnce, ..job(n) };
    let store = connect(&several).await;
    let err = store.insert(batch([once(1)], None, true)).await.expect_err("no standby is synchronous");
    assert!(err.is_unavailable() && err.to_string().contains("allow_async_failover"), "{err}");
    created(&store.insert(batch([job(2)], None, true)).await.expect("at_least_once may be repeated"));
    let accepting = PostgresOptions { allow_async_failover: true, ..options() };
    let store = PostgresStore::connect(&several, accepting).await.expect("it connects");
    created(&store.insert(batch([once(1)], None, true)).await.expect("it is accepted"));
}

#[tokio::test]
async fn a_dropped_store_leaves_no_connection() {
    if !testpg::wanted() {
        return;
    }
    let (_proxy, url, database) = behind_proxy();
    let store = connect(&url).await;
    let written = store.insert(batch([job(1)], None, true));
    drop(store);
    created(&written.await.expect("what was called is done"));
    let begun = SystemClock.elapsed();
    let query = format!("SELECT pid FROM pg_stat_activity WHERE datname = '{database}'");
    while !testpg::shared().sql(&query).expect("it reads").is_empty() {
        assert!(SystemClock.elapsed() - begun < Duration::from_secs(60), "connections stay open");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
