//! Which connections are used again, and which must not be.

use std::{sync::Arc, time::Duration};

use sendoff::{
    Delivery,
    ports::{StartErrorClass, Starter},
    starter::{Http, HttpStarter},
};
use tokio::{net::TcpListener, task::JoinSet};

use super::{
    attempt,
    server::{Server, Step, no_content, send, within},
    start, start_once,
};

#[tokio::test]
async fn a_hundred_starts_one_after_the_other_share_a_connection() {
    let server = Server::start(|seen| match seen.connection {
        0 if seen.body.len() % 2 == 0 => no_content(),
        _ => vec![send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")],
    })
    .await;
    let starter = HttpStarter::new();
    for n in 0..100 {
        let payload = Http::post(server.url("/")).body("x".repeat(n));
        start(&starter, &payload).await.unwrap();
        if n % 2 == 1 {
            // An answer whose body arrives apart from its head is read beside the next start.
            server.settled().await;
        }
    }
    assert_eq!((server.seen().len(), server.opened()), (100, 1));
}

#[tokio::test]
async fn chunked_answers_and_their_trailers_are_read_to_the_end() {
    let server = Server::start(|_| {
        vec![send(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nx-t: 1\r\n\r\n",
        )]
    })
    .await;
    let starter = HttpStarter::new();
    for _ in 0..10 {
        start(&starter, &Http::post(server.url("/"))).await.unwrap();
        server.settled().await;
    }
    assert_eq!(server.opened(), 1);
}

#[tokio::test]
async fn a_connection_that_the_target_closed_meanwhile_is_replaced_in_the_same_attempt() {
    let server = Server::start(|_| [no_content(), vec![Step::Close]].concat()).await;
    let starter = HttpStarter::new();
    for n in 1..=5 {
        start(&starter, &Http::post(server.url("/"))).await.unwrap();
        server.closed(n).await;
        server.settled().await;
    }
    assert_eq!((server.seen().len(), server.opened()), (5, 5));
}

#[tokio::test]
async fn bytes_that_nobody_asked_for_spoil_an_idle_connection() {
    let server = Server::start(|seen| match seen.connection {
        0 => vec![
            send("HTTP/1.1 204 No Content\r\n\r\n"),
            Step::Wait,
            send("HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n"),
            Step::Hang,
        ],
        _ => no_content(),
    })
    .await;
    let starter = HttpStarter::new();
    start(&starter, &Http::post(server.url("/"))).await.unwrap();
    server.go_on();
    server.settled().await;
    let receipt = start(&starter, &Http::post(server.url("/"))).await.unwrap();
    assert_eq!((receipt.status, server.opened()), (Some(204), 2));
}

#[tokio::test]
async fn an_answer_that_nobody_asked_for_answers_no_other_job() {
    let unasked = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    for (first, method) in [
        ("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n", "POST"),
        ("HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "POST"),
        ("HTTP/1.1 202 Accepted\r\ncontent-length: 7\r\n\r\n", "HEAD"),
        ("HTTP/1.1 204 No Content\r\n\r\n", "POST"),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "POST"),
    ] {
        let server = Server::start(move |seen| match seen.connection {
            0 => vec![send(&[first, unasked].concat())],
            _ => vec![send("HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")],
        })
        .await;
        let starter = HttpStarter::new();
        start(&starter, &Http::post(server.url("/")).method(method)).await.unwrap();
        let error = start(&starter, &Http::post(server.url("/"))).await.unwrap_err();
        assert!(error.message.contains("answered 503"), "{first:?}: {error}");
        assert_eq!(server.opened(), 2);
    }
}

#[tokio::test]
async fn a_204_that_announces_a_body_costs_its_connection() {
    for header in ["content-length: 5", "transfer-encoding: chunked"] {
        let server =
            Server::start(move |_| vec![send(&format!("HTTP/1.1 204 No Content\r\n{header}\r\n\r\n"))]).await;
        let starter = HttpStarter::new();
        for n in 1..=2 {
            start(&starter, &Http::post(server.url("/"))).await.unwrap();
            assert_eq!(server.opened(), n, "{header}");
        }
    }
}

#[tokio::test]
async fn answers_without_a_body_keep_their_connection() {
    let server = Server::start(|seen| match seen.head.split(' ').next() {
        Some("HEAD") => vec![send("HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")],
        Some("GET") => vec![send("HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\n\r\n")],
        _ => vec![send("HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")],
    })
    .await;
    let starter = HttpStarter::new();
    for method in ["HEAD", "GET", "POST", "HEAD"] {
        let result = start(&starter, &Http::post(server.url("/")).method(method)).await;
        assert_eq!(result.is_ok(), method != "GET");
    }
    assert_eq!((server.seen().len(), server.opened()), (4, 1));
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_never_sent_again_by_itself() {
    for end in [Step::Close, Step::Reset] {
        let server = Server::start(move |seen| match seen.body.as_slice() {
            b"first" => no_content(),
            _ => vec![end.clone()],
        })
        .await;
        let starter = HttpStarter::new();
        start(&starter, &Http::post(server.url("/")).body("first")).await.unwrap();
        let error = start(&starter, &Http::post(server.url("/")).body("second")).await.unwrap_err();
        assert_eq!(error.class, StartErrorClass::Ambiguous, "{error}");
        assert_eq!((server.seen().len(), server.opened()), (2, 1));
    }
}

#[tokio::test]
async fn at_most_once_uses_fresh_connections_and_closes_them() {
    let server = Server::start(|_| no_content()).await;
    let starter = HttpStarter::new();
    start(&starter, &Http::post(server.url("/"))).await.unwrap();
    for _ in 0..3 {
        start_once(&starter, &Http::post(server.url("/"))).await.unwrap();
    }
    server.closed(3).await;
    start(&starter, &Http::post(server.url("/"))).await.unwrap();
    let seen = server.seen();
    let connections: Vec<_> = seen.iter().map(|seen| seen.connection).collect();
    assert_eq!(connections, [0, 1, 2, 3, 0]);
    let close: Vec<_> = seen.iter().map(|seen| seen.header("connection")).collect();
    assert_eq!(close, [None, Some("close"), Some("close"), Some("close"), None]);
}

#[tokio::test]
async fn a_huge_answer_costs_its_connection_and_nothing_else() {
    for head in ["content-length: 10000000000\r\n", "transfer-encoding: chunked\r\n", ""] {
        let server = Server::start(move |_| {
            let chunk = if head.starts_with("transfer") {
                format!("1000\r\n{}\r\n", "x".repeat(0x1000))
            } else {
                "x".repeat(0x1000)
            };
            vec![send(&format!("HTTP/1.1 200 OK\r\n{head}\r\n")), Step::SendForEver(chunk.into_bytes())]
        })
        .await;
        let starter = HttpStarter::new();
        for n in 1..=3 {
            start(&starter, &Http::post(server.url("/"))).await.unwrap();
            server.closed(n).await;
        }
        assert_eq!(server.opened(), 3, "{head}");
    }
}

#[tokio::test]
async fn an_answer_is_read_up_to_the_cap_and_not_beyond() {
    let server = Server::start(|seen| {
        let body = String::from_utf8(seen.body.clone()).unwrap();
        let answer = match seen.header("x-chunked") {
            Some(_) => format!("transfer-encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n", body.len()),
            None => format!("content-length: {}\r\n\r\n{body}", body.len()),
        };
        vec![send(&format!("HTTP/1.1 200 OK\r\n{answer}"))]
    })
    .await;
    let starter = HttpStarter::builder().max_response_body(10).build().unwrap();
    let [sized, chunked] =
        [Http::post(server.url("/")), Http::post(server.url("/")).header("x-chunked", "1")];
    for (payload, length, opened) in [
        (&sized, 10, 1),
        (&sized, 11, 1),
        (&sized, 10, 2),
        (&chunked, 10, 2),
        (&chunked, 11, 2),
        (&sized, 0, 3),
    ] {
        start(&starter, &payload.clone().body("x".repeat(length))).await.unwrap();
        server.settled().await;
        assert_eq!(server.opened(), opened, "{length}");
    }
}

#[tokio::test]
async fn nobody_waits_for_the_rest_of_an_answer() {
    let server = Server::start(|seen| {
        let rest = match seen.body.as_slice() {
            b"slow" => vec![Step::Wait, send("llo")],
            _ => vec![Step::Hang],
        };
        [vec![send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")], rest].concat()
    })
    .await;
    let starter = HttpStarter::new();
    start(&starter, &Http::post(server.url("/")).body("slow")).await.unwrap();
    server.go_on();
    server.settled().await;
    start(&starter, &Http::post(server.url("/"))).await.unwrap();
    assert_eq!(server.opened(), 1, "the rest came in time: the connection is used again");
    start(&starter, &Http::post(server.url("/"))).await.unwrap();
    assert_eq!(server.opened(), 2, "its rest is outstanding: another connection");
    server.closed(2).await;
}

#[tokio::test]
async fn a_start_given_up_closes_its_connection() {
    let server = Server::start(|_| vec![Step::Hang]).await;
    let starter = HttpStarter::new();
    for n in 1..=3 {
        let start = starter.start(attempt(&Http::post(server.url("/"))));
        tokio::time::timeout(Duration::from_millis(50), start).await.unwrap_err();
        server.closed(n).await;
    }
    assert_eq!((server.seen().len(), server.open()), (3, 0));
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let server = Server::start(|_| no_content()).await;
    let starter = HttpStarter::builder().idle_time(Duration::from_millis(40)).build().unwrap();
    start(&starter, &Http::post(server.url("/"))).await.unwrap();
    assert_eq!(server.open(), 1);
    server.closed(1).await;
    start(&starter, &Http::post(server.url("/"))).await.unwrap();
    assert_eq!(server.opened(), 2);
}

#[tokio::test]
async fn a_dropped_starter_leaves_no_connection() {
    let server = Server::start(|seen| match seen.body.len() {
        0 => no_content(),
        _ => vec![send("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n"), Step::Hang],
    })
    .await;
    let starter = HttpStarter::new();
    start(&starter, &Http::post(server.url("/")).body("x")).await.unwrap();
    start(&starter, &Http::post(server.url("/"))).await.unwrap();
    assert_eq!(server.open(), 2);
    drop(starter);
    server.closed(2).await;
}

#[tokio::test]
async fn no_more_connections_idle_than_the_limit() {
    let server = Server::start(|_| [vec![Step::Wait], no_content()].concat()).await;
    let starter = Arc::new(HttpStarter::builder().max_per_destination(4).build().unwrap());
    let mut starts = JoinSet::new();
    for _ in 0..20 {
        let (starter, payload) = (Arc::clone(&starter), Http::post(server.url("/")));
        starts.spawn(async move { start(&starter, &payload).await.unwrap() });
    }
    for _ in 0..20 {
        server.go_on();
    }
    within(starts.join_all()).await;
    server.closed(server.opened() - 4).await;
    assert_eq!((server.seen().len(), server.open()), (20, 4));
}

#[tokio::test]
async fn a_name_with_several_addresses_is_tried_at_each() {
    let server = Server::start(|_| no_content()).await;
    // Commonly ::1 and 127.0.0.1; the server listens on the latter only.
    let url = format!("http://localhost:{}/", server.address.port());
    start(&HttpStarter::new(), &Http::post(url)).await.unwrap();
}

#[tokio::test]
async fn failures_before_the_first_byte_are_not_started() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let refused = format!("http://{}/", free.local_addr().unwrap());
    drop(free);
    let starter = HttpStarter::new();
    for (url, words) in [
        (refused.as_str(), "connect failed"),
        ("http://no-such-host.invalid/", "no-such-host.invalid:80: name lookup"),
    ] {
        for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
            let mut attempt = attempt(&Http::post(url));
            attempt.delivery = delivery;
            let error = within(starter.start(attempt)).await.unwrap_err();
            assert_eq!(error.class, StartErrorClass::NotStarted, "{error}");
            assert!(error.message.contains(words), "{error}");
        }
    }
}
