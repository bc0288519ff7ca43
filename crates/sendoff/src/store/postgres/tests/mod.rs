//! The statements and the tables, on real servers.

mod connecting;
mod failing;
mod hints;
mod plans;
mod reading;
mod tables;

use tokio::runtime::Handle;
use tokio_postgres::Client;

use super::{
    connect::Target,
    schema::{self, MIGRATIONS},
    sql::Texts,
    texts::Interned,
};

/// A connection to a database of its own, and what reads need besides.
pub(super) struct Db {
    pub(super) client: Client,
    pub(super) texts: Texts,
    pub(super) interned: Interned,
}

impl Db {
    /// None if there shall be no server.
    async fn new() -> Option<Self> {
        if !testpg::wanted() {
            return None;
        }
        Some(Self::at(&testpg::shared().new_database().unwrap()).await)
    }

    async fn at(url: &str) -> Self {
        let mut client = connect(url).await;
        schema::prepare(&mut client, MIGRATIONS).await.unwrap();
        Self { client, texts: Texts::new(), interned: Interned::default() }
    }

    fn reader(&self) -> super::reader::Reader<'_> {
        let ask = super::ask::Ask::new(&self.client, &self.texts);
        super::reader::Reader { ask, interned: &self.interned }
    }
}

async fn connect(url: &str) -> Client {
    let connected = Target::parse(url).unwrap().connect().await.unwrap();
    // Ends with its connection, which ends with the client.
    Handle::current().spawn(connected.driver);
    connected.client
}
