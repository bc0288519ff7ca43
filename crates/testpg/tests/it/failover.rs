//! Crashes, standbys and their promotion.

use testpg::{Installation, Options, Result, Server};

fn count(server: &Server) -> Result<String> {
    server.sql("SELECT count(*) FROM t").map(|rows| rows[0][0].clone().unwrap())
}

fn primary() -> Result<Server> {
    let server = Server::start(&Installation::find()?, Options::new())?;
    server.sql("CREATE TABLE t (a int)")?;
    Ok(server)
}

#[test]
fn a_killed_server_keeps_what_was_committed() -> Result<()> {
    if !testpg::wanted() {
        return Ok(());
    }
    let server = primary()?;
    let mut open = server.session("postgres")?;
    open.sql("BEGIN; INSERT INTO t VALUES (1), (2)")?;
    server.sql("INSERT INTO t VALUES (3)")?;
    server.kill()?;
    assert_eq!(server.pid(), None);
    assert!(open.sql("COMMIT").is_err());
    assert!(server.sql("SELECT 1").is_err());
    let port = server.port();
    server.restart()?;
    assert_eq!((server.port(), count(&server)?), (port, "1".to_owned()));
    server.stop_fast()?;
    server.restart()?;
    assert_eq!(count(&server)?, "1");
    Ok(())
}

#[test]
fn a_promoted_standby_has_every_acknowledged_row_and_the_old_primary_rejoins() -> Result<()> {
    if !testpg::wanted() {
        return Ok(());
    }
    let old = primary()?;
    let new = old.standby("first")?;
    old.set_synchronous(Some("ANY 1 (*)"))?;
    old.wait_for_sync_standby()?;
    old.sql("INSERT INTO t VALUES (1)")?;
    old.kill()?;
    new.promote()?;
    assert_eq!(count(&new)?, "1");
    new.sql("INSERT INTO t VALUES (2)")?;

    let port = old.port();
    old.rejoin(&new)?;
    assert_eq!(old.port(), port);
    assert_eq!(old.sql("SELECT pg_is_in_recovery()")?, [[Some("t".to_owned())]]);
    new.set_synchronous(Some("FIRST 1 (primary)"))?;
    new.wait_for_sync_standby()?;
    new.sql("SET synchronous_commit = 'remote_apply'; INSERT INTO t VALUES (3)")?;
    assert_eq!(count(&old)?, "3");
    new.set_synchronous(None)?;
    old.stop_fast()?;
    new.sql("INSERT INTO t VALUES (4)")?;
    Ok(())
}
