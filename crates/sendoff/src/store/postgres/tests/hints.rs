//! How often a node tells the others.

use std::{sync::Arc, time::Duration};

use tokio::{runtime::Handle, sync::mpsc, time};

use super::{Db, connect};
use crate::{
    store::postgres::{PostgresOptions, connect::Target, fleet::Node, sql::Texts},
    time::{Clock, SystemClock},
};

#[tokio::test]
async fn many_hints_are_few_notifications() {
    if !testpg::wanted() {
        return;
    }
    let url = testpg::shared().new_database().unwrap();
    drop(Db::at(&url).await);
    let (heard, mut hears) = mpsc::unbounded_channel();
    let listening = Target::parse(&url).unwrap();
    let count = move |_| heard.send(()).expect("this test hears");
    let listening = listening.connect_listening(count).await.unwrap();
    // Ends with its client.
    Handle::current().spawn(listening.driver);
    listening.client.batch_execute("LISTEN sendoff").await.unwrap();
    let target = Target::parse(&url).unwrap();
    let node = Node::join(target, Arc::new(Texts::new()), &PostgresOptions::default()).await.unwrap();
    let begun = SystemClock.elapsed();
    let mut hints = 0;
    let mut notifications = 0;
    while notifications < 4 {
        node.hint();
        hints += 1;
        while hears.try_recv().is_ok() {
            notifications += 1;
        }
        time::sleep(Duration::from_millis(1)).await;
    }
    let passed = SystemClock.elapsed() - begun;
    assert!(hints > notifications, "{hints}");
    // The first at once, each other a tenth of a second later at the earliest.
    assert!(notifications <= 1 + passed.as_millis() / 100, "{notifications} in {passed:?}");
    node.leave().await.unwrap();
    let left = connect(&url).await.query_typed("SELECT FROM sendoff.node", &[]).await.unwrap();
    assert!(left.is_empty());
}
