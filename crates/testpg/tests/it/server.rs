//! One server and its databases.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
};

use testpg::{Installation, Options, Result, Server};

#[test]
fn each_version_at_hand_starts_and_says_its_number() -> Result<()> {
    if !testpg::wanted() {
        return Ok(());
    }
    for installation in Installation::all()? {
        let server = Server::start(&installation, Options::new())?;
        let major = server.sql("SELECT current_setting('server_version_num')::int / 10000")?;
        assert_eq!(major, [[Some(installation.version().to_string())]]);
    }
    Ok(())
}

#[test]
fn each_new_database_is_empty_and_its_own() -> Result<()> {
    if !testpg::wanted() {
        return Ok(());
    }
    let server = testpg::shared();
    let (one, two) = (server.new_database()?, server.new_database()?);
    assert_ne!(one, two);
    let name = |url: &str| url.rsplit('/').next().map(str::to_owned).unwrap();
    server
        .sql_in(&name(&one), "CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, NULL), (2, 'zwei')")?;
    let rows = server.sql_in(&name(&one), "SELECT * FROM t ORDER BY a")?;
    assert_eq!(rows, [[Some("1".to_owned()), None], [Some("2".to_owned()), Some("zwei".to_owned())]]);
    let error = server.sql_in(&name(&two), "SELECT * FROM t").unwrap_err();
    assert_eq!(error.to_string(), "ERROR 42P01: relation \"t\" does not exist");
    Ok(())
}

#[test]
fn settings_are_taken_and_the_usual_ones_are_safe() -> Result<()> {
    if !testpg::wanted() {
        return Ok(());
    }
    let server = Server::start(&Installation::find()?, Options::new().set("application_name", "it's"))?;
    let show = |name: &str| server.sql(&format!("SHOW {name}")).map(|rows| rows[0][0].clone().unwrap());
    assert_eq!(show("application_name")?, "it's");
    assert_eq!(show("fsync")?, "on");
    assert_eq!(show("max_connections")?, "200");
    assert_eq!(server.url("db"), format!("postgres://sendoff@127.0.0.1:{}/db", server.port()));
    Ok(())
}

#[test]
fn a_session_holds_what_it_began() -> Result<()> {
    if !testpg::wanted() {
        return Ok(());
    }
    let server = testpg::shared();
    let mut session = server.session("postgres")?;
    session.sql("CREATE TABLE held (a int)")?;
    session.sql("BEGIN; LOCK TABLE held")?;
    let refused = server.sql("SET lock_timeout = '1ms'; SELECT * FROM held").unwrap_err();
    assert!(refused.to_string().contains("55P03"), "{refused}");
    drop(session);
    server.sql("SELECT * FROM held")?;
    Ok(())
}

#[test]
fn tls_is_offered_with_the_given_certificate() -> Result<()> {
    if !testpg::wanted() {
        return Ok(());
    }
    let installation = Installation::find()?;
    if !installation.has_tls() {
        println!("this PostgreSQL was built without TLS");
        return Ok(());
    }
    let folder = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let server = Server::start(&installation, Options::new().tls(certificate, key))?;
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, server.port())).unwrap();
    // The request for TLS: its length and its number.
    stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    Ok(())
}

#[test]
fn a_server_that_cannot_start_shows_its_log() {
    if !testpg::wanted() {
        return;
    }
    let error =
        Installation::find().and_then(|found| Server::start(&found, Options::new().set("no_such", "1")));
    let text = error.err().unwrap().to_string();
    assert!(text.contains("unrecognized configuration parameter \"no_such\""), "{text}");
}
