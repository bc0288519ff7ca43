//! What an error means, when it is not the server that says it.

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_postgres::{Config, Error as PgError, NoTls, config::SslMode};

use super::super::{
    failure::{Failure, ends_session},
    flight::Why,
};

/// Takes a client in, then answers whatever it asks with this error.
async fn refuse(mut client: DuplexStream, severity: &str, code: &str) -> io::Result<()> {
    message(&mut client).await?;
    client.write_all(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05I").await?;
    client.read_u8().await?;
    message(&mut client).await?;
    let fields = format!("S{severity}\0C{code}\0Mserver conn crashed?\0\0");
    let length = u32::try_from(fields.len() + 4).map_err(io::Error::other)?;
    client.write_all(&[b"E", &length.to_be_bytes()[..], fields.as_bytes()].concat()).await?;
    client.write_all(b"Z\0\0\0\x05I").await
}

/// Reads one message whose type has been read, or the first one, which has none.
async fn message(client: &mut DuplexStream) -> io::Result<()> {
    let rest = client.read_u32().await?.saturating_sub(4);
    client.read_exact(&mut vec![0; rest as usize]).await.map(drop)
}

async fn error(severity: &str, code: &str) -> PgError {
    let (ours, theirs) = duplex(4096);
    let mut config = Config::new();
    config.user("u").ssl_mode(SslMode::Disable);
    let ask = async {
        let (client, driver) = config.connect_raw(ours, NoTls).await.expect("it connects");
        let (asked, _) = tokio::join!(
            async {
                let asked = client.batch_execute("COMMIT").await;
                drop(client);
                asked
            },
            driver
        );
        asked.expect_err("it is refused")
    };
    let (err, refused) = tokio::join!(ask, refuse(theirs, severity, code));
    refused.expect("it is sent");
    err
}

/// A pooler says so whatever became of the commit, with the code of a statement that does not fit.
#[tokio::test]
async fn an_end_of_the_session_leaves_the_commit_open() {
    for code in ["08P01", "57P05", "XX000"] {
        let err = error("FATAL", code).await;
        assert!(ends_session(&err), "{code}");
        assert_eq!(Failure::of(&err), Failure::Lost, "{code}");
        assert!(Why::of(&err).is_none(), "{code}");
    }
    assert!(matches!(Why::of(&error("ERROR", "08P01").await), Some(Why::Unprepared)));
    assert!(matches!(Why::of(&error("ERROR", "23505").await), Some(Why::Taken)));
    assert!(matches!(Why::of(&error("ERROR", "57014").await), Some(Why::Other)));
}
