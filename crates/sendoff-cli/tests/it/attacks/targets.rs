//! Starts that are to reach what their submitter cannot.

use super::{Attacked, TCP, guid, http, refused, trap::Trap};
use crate::harness::Place;

const NO_CONTENT: &str = "HTTP/1.1 204 No Content\r\n\r\n";

#[test]
fn literals_are_refused_at_submit_however_they_are_written() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    let trap = Trap::on("127.0.0.1", NO_CONTENT);
    let port = trap.address.port();
    for host in [
        "127.0.0.1",
        "127.0.0.1.",
        "2130706433",
        "017700000001",
        "0x7f000001",
        "0177.0.0.1",
        "0x7f.1",
        "127.1",
        "127.0.1",
        "①②⑦.⓪.⓪.①",
        "user@127.0.0.1",
        "127.0.0.9",
        "0.0.0.0",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "[::ffff:169.254.169.254]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "224.0.0.1",
        "255.255.255.255",
    ] {
        let answer = attacked.submit(&http(&format!("http://{host}:{port}/")));
        let problem = answer.problem(400, "invalid_job").json();
        assert_eq!(problem["field"], "start.http.url", "{host}: {problem}");
    }
    for url in ["file:///etc/passwd", "gopher://127.0.0.1/", "unix:/run/sendoff.sock", "//127.0.0.1/", ""] {
        attacked.submit(&http(url)).problem(400, "invalid_job");
    }
    assert_eq!(trap.seen().0, 0);
}

#[test]
fn a_name_that_leads_to_this_machine_is_refused_where_it_is_dialled() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    let trap = Trap::on("127.0.0.1", NO_CONTENT);
    for name in ["localhost", "LOCALHOST"] {
        let record = attacked.ended(&http(&format!("http://{name}:{}/", trap.address.port())));
        refused(&record, "no allowed network holds it");
        assert_eq!(record["attempt"], 1, "it is not tried again: {record}");
    }
    assert_eq!(trap.seen().0, 0);
}

#[test]
fn a_redirect_leads_nowhere() {
    let place = Place::new();
    let trap = Trap::on("127.0.0.1", NO_CONTENT);
    let attacked = Attacked::start(&place, &[TCP, &["--allow-networks", "127.0.0.2/32"]].concat());
    for status in [301, 302, 303, 307, 308] {
        let to = format!(
            "HTTP/1.1 {status} There\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n",
            trap.address
        );
        let lure = Trap::on("127.0.0.2", to);
        let record = attacked.ended(&http(&format!("http://{}/", lure.address)));
        assert_eq!((&record["state"], lure.seen().1.len()), (&"failed".into(), 1), "{record}");
    }
    assert_eq!(trap.seen().0, 0);
}

/// Another caller may go there and has left a connection open.
#[test]
fn a_kept_connection_opens_nothing() {
    let place = Place::new();
    let attacked = Attacked::start(&place, TCP);
    let trap = Trap::on("127.0.0.1", NO_CONTENT);
    let job = http(&format!("http://localhost:{}/", trap.address.port()));
    let own = || {
        let mine = guid(&attacked.daemon.ask("POST", "/v1/jobs", &job.to_string()).status(201));
        assert_eq!(attacked.until_final(&mine)["state"], "started");
    };
    own();
    refused(&attacked.ended(&job), "no allowed network holds it");
    own();
    refused(&attacked.ended(&job), "no allowed network holds it");
    let (connections, requests) = trap.seen();
    assert_eq!(requests.len(), 2, "{connections} connections");
}
