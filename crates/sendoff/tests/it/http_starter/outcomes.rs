//! What goes over the wire, and what the answers mean.

use std::time::Duration;

use sendoff::{
    ports::{Refusal, StartErrorClass, Starter},
    starter::{Http, HttpStarter},
};

use super::{
    attempt,
    server::{Server, Step, no_content, send, within},
    start, start_once,
};

#[tokio::test]
async fn the_request_on_the_wire_is_as_promised() {
    let server = Server::start(|_| no_content()).await;
    let starter = HttpStarter::new();
    let json = r#"{"url":"URL","headers":{"Authorization":"Bearer t","x-a":"b"},"json":{"a" : [1,  2]}}"#;
    let json = json.replace("URL", &server.url("/hook?q=%20x#fragment"));
    let payload = serde_json::value::RawValue::from_string(json).unwrap();
    let mut attempt = attempt(&Http::post("http://unused/"));
    attempt.payload = payload;
    attempt.number = 3;
    attempt.queue = "mail".into();
    attempt.due_at = "2027-01-01T09:00:00Z".parse().unwrap();
    assert_eq!(starter.check(&attempt.payload, None).unwrap().destination, Some(server.address.to_string()));
    let receipt = within(starter.start(attempt)).await.unwrap();
    assert_eq!((receipt.status, receipt.pid), (Some(204), None));
    let seen = server.seen().remove(0);
    let expected = format!(
        "POST /hook?q=%20x HTTP/1.1\r\n\
         host: {}\r\n\
         user-agent: sendoff/{}\r\n\
         content-length: 15\r\n\
         idempotency-key: 01890a5d-ac96-774b-bcce-b302099a8057\r\n\
         x-sendoff-guid: 01890a5d-ac96-774b-bcce-b302099a8057\r\n\
         x-sendoff-queue: mail\r\n\
         x-sendoff-attempt: 3\r\n\
         x-sendoff-due-at: 2027-01-01T09:00:00.000000Z\r\n\
         authorization: Bearer t\r\n\
         x-a: b\r\n\
         content-type: application/json\r\n\r\n",
        server.address,
        env!("CARGO_PKG_VERSION"),
    );
    assert_eq!(seen.head, expected);
    assert_eq!(seen.body, br#"{"a" : [1,  2]}"#);
}

#[tokio::test]
async fn bodies_and_methods_arrive_as_given() {
    let server = Server::start(|_| vec![send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n")]).await;
    let starter = HttpStarter::builder().user_agent("me/1").build().unwrap();
    let url = server.url("/");
    let all: Vec<u8> = (0..=255).collect();
    let large = "y".repeat(700 * 1024);
    for payload in [
        Http::get(&url),
        Http::post(&url).method("HEAD"),
        Http::post(&url),
        Http::post(&url).method("PUT").body("plain é"),
        Http::post(&url).method("X-OWN").bytes(&all),
        Http::post(&url).json("s").unwrap().header("Content-Type", "application/cloudevents+json"),
        Http::post(&url).header("user-agent", "mine").body(&large),
    ] {
        start(&starter, &payload).await.unwrap();
    }
    let told: Vec<_> = server
        .seen()
        .iter()
        .map(|seen| {
            let line = seen.head.split(' ').next().unwrap().to_owned();
            let header = |name| seen.header(name).unwrap_or("-").to_owned();
            (line, header("content-length"), header("content-type"), header("user-agent"))
        })
        .collect();
    let expected = [
        ("GET", "-", "-", "me/1"),
        ("HEAD", "-", "-", "me/1"),
        ("POST", "0", "-", "me/1"),
        ("PUT", "8", "-", "me/1"),
        ("X-OWN", "256", "-", "me/1"),
        ("POST", "3", "application/cloudevents+json", "me/1"),
        ("POST", "716800", "-", "mine"),
    ];
    let expected = expected.map(|(a, b, c, d)| (a.to_owned(), b.to_owned(), c.to_owned(), d.to_owned()));
    assert_eq!(told, expected);
    let seen = server.seen();
    assert_eq!(seen[3].body, "plain é".as_bytes());
    assert_eq!(seen[4].body, all);
    assert_eq!(seen[6].body, large.as_bytes());
}

#[tokio::test]
async fn answers_in_odd_pieces_and_interim_answers_are_read() {
    let answer = "HTTP/1.1 100 Continue\r\n\r\n\
                  HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                  HTTP/1.1 202 Accepted by hand\r\ncontent-length: 2\r\n\r\nok";
    let server = Server::start(move |_| answer.bytes().map(|byte| Step::Send(vec![byte])).collect()).await;
    let starter = HttpStarter::new();
    for _ in 0..3 {
        let receipt = start(&starter, &Http::post(server.url("/"))).await.unwrap();
        assert_eq!(receipt.status, Some(202));
        server.settled().await;
    }
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn an_old_server_that_ends_its_answers_by_closing_is_understood() {
    let server = Server::start(|_| vec![send("HTTP/1.0 200 OK\r\n\r\nhello"), Step::Close]).await;
    let starter = HttpStarter::new();
    for _ in 0..3 {
        start(&starter, &Http::post(server.url("/"))).await.unwrap();
    }
    assert_eq!(server.opened(), 3);
}

#[tokio::test]
async fn an_answer_may_overtake_the_request() {
    let server =
        Server::start(|_| vec![send("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n"), Step::Wait])
            .await;
    let payload = Http::post(server.url("/")).header("x-answer-early", "1").body("y".repeat(8 << 20));
    let error = start(&HttpStarter::new(), &payload).await.unwrap_err();
    assert_eq!(error.class, StartErrorClass::Permanent, "{error}");
}

#[tokio::test]
async fn an_early_answer_counts_and_costs_its_connection() {
    // Whether the target goes on reading, stops, or breaks off: the rest of the request is not sent.
    for end in [Step::Hang, Step::Wait, Step::Close, Step::Reset] {
        let server = Server::start(move |_| [no_content(), vec![end.clone()]].concat()).await;
        let starter = HttpStarter::new();
        let payload = Http::post(server.url("/")).header("x-answer-early", "1").body("y".repeat(8 << 20));
        for n in 1..=2 {
            // A reset may overtake the answer; then nobody can know.
            match start(&starter, &payload).await {
                Ok(receipt) => assert_eq!(receipt.status, Some(204)),
                Err(error) => assert_eq!(error.class, StartErrorClass::Ambiguous, "{error}"),
            }
            assert_eq!((server.seen().len(), server.opened()), (n, n));
        }
    }
}

#[tokio::test]
async fn a_target_that_neither_reads_nor_answers_is_left_when_the_start_is_given_up() {
    let server = Server::start(|_| vec![Step::Wait]).await;
    let payload = Http::post(server.url("/")).header("x-answer-early", "1").body("y".repeat(8 << 20));
    let starter = HttpStarter::new();
    let start = starter.start(attempt(&payload));
    tokio::time::timeout(Duration::from_millis(50), start).await.unwrap_err();
    server.go_on();
    server.closed(1).await;
}

#[tokio::test]
async fn a_head_that_trickles_for_ever_is_given_up_with_its_connection() {
    for head in ["HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nx: ", "HTTP/1.1 200 OK\r\nx: "] {
        let server = Server::start(move |_| {
            let drops = (0..100).flat_map(|_| [Step::Wait, send("x")]);
            [send(head)].into_iter().chain(drops).collect()
        })
        .await;
        let starter = HttpStarter::new();
        let start = starter.start(attempt(&Http::post(server.url("/"))));
        let trickle = async {
            for _ in 0..20 {
                server.go_on();
                server.settled().await;
            }
        };
        tokio::select! {
            result = start => panic!("no head was complete: {result:?}"),
            () = trickle => {}
        }
        for _ in 0..80 {
            server.go_on();
        }
        server.closed(1).await;
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn each_status_has_its_class() {
    use StartErrorClass::{Ambiguous, NotStarted, Permanent};
    let server = Server::start(|seen| {
        let status = seen.head.split(['/', ' ']).nth(2).unwrap().replace('+', "\r\nretry-after: 7");
        let (status, more) = status.split_once("\r\n").unwrap_or((&status, ""));
        vec![send(&format!("HTTP/1.1 {status} Whatever\r\n{more}\r\ncontent-length: 0\r\n\r\n"))]
    })
    .await;
    let starter = HttpStarter::new();
    let payload = |status: &str| Http::post(server.url(&format!("/{status}")));
    for status in ["200", "201", "202", "204", "206", "299"] {
        let receipt = start(&starter, &payload(status)).await.unwrap();
        assert_eq!(receipt.status, Some(status.parse().unwrap()));
    }
    for (status, class, later) in [
        ("301", Permanent, None),
        ("302", Permanent, None),
        ("304", Permanent, None),
        ("307", Permanent, None),
        ("400", Permanent, None),
        ("401", Permanent, None),
        ("404", Permanent, None),
        ("404+", Permanent, None),
        ("408", Ambiguous, None),
        ("409", Ambiguous, None),
        ("410", Permanent, None),
        ("413", Permanent, None),
        ("422", Permanent, None),
        ("423", Ambiguous, None),
        ("425", Ambiguous, None),
        ("429", Ambiguous, None),
        ("429+", NotStarted, Some(7)),
        ("500", Ambiguous, None),
        ("500+", Ambiguous, Some(7)),
        ("502", Ambiguous, None),
        ("503", Ambiguous, None),
        ("503+", NotStarted, Some(7)),
        ("504", Ambiguous, None),
        ("599", Ambiguous, None),
        ("700", Ambiguous, None),
    ] {
        let error = start(&starter, &payload(status)).await.unwrap_err();
        assert_eq!(error.class, class, "{status}: {error}");
        assert_eq!(error.retry_after, later.map(Duration::from_secs), "{status}");
        let words = format!("{} answered {}", server.address, status.trim_end_matches('+'));
        assert!(error.message.starts_with(&words), "{error}");
        assert!(!error.message.contains("Whatever"), "{error}");
    }
    let careful = start_once(&starter, &payload("503+")).await.unwrap_err();
    assert_eq!(careful.class, Ambiguous);
    let trusting = start_once(&starter, &payload("503+").trust_retry_after(true)).await.unwrap_err();
    assert_eq!(trusting.class, NotStarted);
}

#[tokio::test]
async fn what_is_no_answer_is_ambiguous_and_not_quoted() {
    for (steps, words) in [
        (vec![Step::Close], "closed the connection before it answered"),
        (vec![Step::Reset], "broke the connection before it answered"),
        (vec![send("HTTP/1.1 200"), Step::Close], "closed the connection before it answered"),
        (vec![send("SSH-2.0-hidden\r\n\r\n")], "no HTTP/1.1 answer"),
        (vec![send("HTTP/2 200 hidden\r\n\r\n")], "no HTTP/1.1 answer"),
        (vec![send("HTTP/1.1 200 OK\r\nhidden\r\n\r\n")], "no HTTP/1.1 answer"),
        (vec![send("HTTP/1.1 200 OK\r\nx: "), Step::SendForEver(vec![b'x'; 4096])], "no HTTP/1.1 answer"),
        (vec![send("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n")], "answered 101"),
    ] {
        let server = Server::start(move |_| steps.clone()).await;
        let error = start(&HttpStarter::new(), &Http::post(server.url("/"))).await.unwrap_err();
        assert_eq!(error.class, StartErrorClass::Ambiguous, "{error}");
        assert!(error.message.contains(words), "{error}");
        assert!(error.message.starts_with(&server.address.to_string()), "{error}");
        assert!(!error.message.contains("hidden"), "{error}");
        assert_eq!(server.seen().len(), 1);
    }
}

#[tokio::test]
async fn secrets_stay_out_of_errors() {
    let server = Server::start(|seen| match seen.head.contains("/close") {
        true => vec![Step::Close],
        false => {
            vec![send("HTTP/1.1 302 Found\r\nlocation: /?key=s3cret\r\ncontent-length: 6\r\n\r\ns3cret")]
        }
    })
    .await;
    let starter = HttpStarter::new();
    for url in
        [server.url("/?key=s3cret"), server.url("/close?key=s3cret"), "http://h.invalid/?s3cret".into()]
    {
        let payload = Http::post(url).header("Authorization", "s3cret").body("s3cret");
        let error = start(&starter, &payload).await.unwrap_err();
        assert!(!format!("{error} {error:?} {payload:?}").contains("s3cret"), "{error}");
    }
    let mut broken = attempt(&Http::post("http://h.invalid/"));
    broken.payload = serde_json::value::RawValue::from_string(
        r#"{"url":"http://h/","body":{"a":"s3cret"},"s3cret":1}"#.into(),
    )
    .unwrap();
    let error = within(starter.start(broken)).await.unwrap_err();
    assert_eq!(error.class, StartErrorClass::Permanent);
    assert!(!error.message.contains("s3cret"), "{error}");
    for refused in [
        r#"{"url":"http://u:s3cret@h/"}"#,
        r#"{"url":"http://h:s3cret/"}"#,
        r#"{"url":"http://h/","headers":{"x":"s3cret\n"}}"#,
    ] {
        let payload = serde_json::value::RawValue::from_string(refused.into()).unwrap();
        let Refusal { field, message } = starter.check(&payload, None).unwrap_err();
        assert!(!message.contains("s3cret") && !field.contains("s3cret"), "{message}");
    }
}
