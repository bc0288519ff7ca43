//! How fast HTTP starts can go: `http_starts [STARTS] [ROUNDS]`.
//!
//! POSTs of 256 bytes, 64 in flight: as raw bytes over 64 sockets, through 64 hyper connections that
//! send one prepared request, and through [`Starter::start`], each from one thread against a sink in
//! another one that answers 204. Prints
//! the rates and the starting thread's CPU time of each round, and the ratio of the medians: on a
//! machine that has other work to do, only the CPU time tells something.

use std::{
    fmt,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use sendoff::{
    Guid,
    ports::{Attempt, Running, Starter},
    starter::{Http, HttpStarter},
    time::{Clock, SystemClock},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

const IN_FLIGHT: usize = 64;
const BODY: usize = 256;
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1).map(|argument| argument.parse::<usize>());
    let starts = arguments.next().transpose()?.unwrap_or(200_000);
    let rounds = arguments.next().transpose()?.unwrap_or(5);
    let address = sink()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut raw, mut hyper, mut ours) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=rounds {
        raw.push(measure(starts, || runtime.block_on(bytes(address, starts))));
        hyper.push(measure(starts, || runtime.block_on(through_hyper(address, starts))));
        ours.push(measure(starts, || runtime.block_on(through_starter(address, starts))));
        let last = round - 1;
        println!("round {round}: bytes {}   hyper {}   starter {}", raw[last], hyper[last], ours[last]);
    }
    let (raw, hyper, ours) = (median(&raw), median(&hyper), median(&ours));
    println!("median:  bytes {raw}   hyper {hyper}   starter {ours}");
    for (name, other) in [("bytes", raw), ("hyper", hyper)] {
        let (rate, cpu) = (ours.rate / other.rate, other.cpu / ours.cpu);
        println!("starter to {name}: {rate:.3} by rate, {cpu:.3} by CPU time");
    }
    Ok(())
}

/// A thread that answers each request of `BODY` bytes as soon as it is complete.
fn sink() -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(answer(stream));
            }
        });
    });
    Ok(address)
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut buffer, mut held) = (vec![0; 4096], 0);
    loop {
        let read = stream.read(&mut buffer[held..]).await?;
        if read == 0 {
            return Ok(());
        }
        held += read;
        let head = buffer[..held].windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|head| held == head + 4 + BODY) {
            stream.write_all(ANSWER).await?;
            held = 0;
        }
    }
}

/// The same request as bytes: what no HTTP client can beat.
async fn bytes(address: SocketAddr, starts: usize) {
    let head = format!(
        "POST /hook HTTP/1.1\r\nhost: {address}\r\nuser-agent: sendoff/0.1.0\r\ncontent-length: {BODY}\r\n\
         idempotency-key: 01890a5d-ac96-774b-bcce-b302099a8057\r\n\
         x-sendoff-guid: 01890a5d-ac96-774b-bcce-b302099a8057\r\nx-sendoff-queue: default\r\n\
         x-sendoff-attempt: 1\r\nx-sendoff-due-at: 2027-01-01T09:00:00.000000Z\r\n\r\n"
    );
    let request = Arc::new([head.into_bytes(), vec![b'x'; BODY]].concat());
    let left = Arc::new(AtomicUsize::new(starts));
    let mut lanes = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (request, left) = (Arc::clone(&request), Arc::clone(&left));
        lanes.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("the sink listens");
            stream.set_nodelay(true).expect("a TCP socket");
            let mut buffer = [0; 1024];
            while take(&left) {
                stream.write_all(&request).await.expect("the sink reads");
                let mut held = 0;
                while held < ANSWER.len() {
                    held += stream.read(&mut buffer[held..]).await.expect("the sink answers");
                }
            }
        });
    }
    lanes.join_all().await;
}

/// The same request by hyper alone: its price without ours.
async fn through_hyper(address: SocketAddr, starts: usize) {
    let left = Arc::new(AtomicUsize::new(starts));
    let mut template = http::HeaderMap::new();
    for (name, value) in [
        ("host", address.to_string().as_str()),
        ("user-agent", "sendoff/0.1.0"),
        ("content-length", "256"),
        ("idempotency-key", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("x-sendoff-guid", "01890a5d-ac96-774b-bcce-b302099a8057"),
        ("x-sendoff-queue", "default"),
        ("x-sendoff-attempt", "1"),
        ("x-sendoff-due-at", "2027-01-01T09:00:00.000000Z"),
    ] {
        let name = http::HeaderName::from_bytes(name.as_bytes()).expect("a name");
        template.insert(name, value.parse().expect("a value"));
    }
    let (template, body) = (Arc::new(template), Bytes::from(vec![b'x'; BODY]));
    let (mut lanes, mut drivers) = (JoinSet::new(), JoinSet::new());
    for _ in 0..IN_FLIGHT {
        let stream = TcpStream::connect(address).await.expect("the sink listens");
        stream.set_nodelay(true).expect("a TCP socket");
        let (mut requests, driver) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.expect("a connection");
        drivers.spawn(driver);
        let (template, body, left) = (Arc::clone(&template), body.clone(), Arc::clone(&left));
        lanes.spawn(async move {
            while take(&left) {
                let mut request = http::Request::new(Full::new(body.clone()));
                *request.method_mut() = http::Method::POST;
                *request.uri_mut() = http::Uri::from_static("/hook");
                *request.headers_mut() = (*template).clone();
                requests.ready().await.expect("the connection is kept");
                let answer = requests.send_request(request).await.expect("the sink answers");
                assert_eq!(answer.status(), 204);
            }
        });
    }
    lanes.join_all().await;
}

async fn through_starter(address: SocketAddr, starts: usize) {
    let payload = Http::post(format!("http://{address}/hook")).body("x".repeat(BODY));
    let payload = serde_json::value::to_raw_value(&payload).expect("a payload serialises");
    let starter = Arc::new(HttpStarter::new());
    let left = Arc::new(AtomicUsize::new(starts));
    let mut lanes = JoinSet::new();
    for lane in 0..IN_FLIGHT {
        let (payload, starter, left) = (payload.clone(), Arc::clone(&starter), Arc::clone(&left));
        lanes.spawn(async move {
            let guid = Guid::from_bytes([u8::try_from(lane).expect("few lanes"); 16]);
            while take(&left) {
                let attempt = Attempt::for_test(guid, payload.clone(), Running::unlimited());
                starter.start(attempt).await.expect("the sink answers 204");
            }
        });
    }
    lanes.join_all().await;
}

fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

/// Starts per second, and microseconds of this thread's CPU time for each.
struct Measured {
    rate: f64,
    cpu: f64,
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.0}/s ({:>5.2} us CPU)", self.rate, self.cpu)
    }
}

fn measure(starts: usize, work: impl FnOnce()) -> Measured {
    let cpu = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
    };
    let (wall_before, cpu_before) = (SystemClock.elapsed(), cpu());
    work();
    let (wall, cpu) = ((SystemClock.elapsed() - wall_before).as_secs_f64(), cpu() - cpu_before);
    Measured { rate: starts as f64 / wall, cpu: cpu * 1e6 / starts as f64 }
}

fn median(all: &[Measured]) -> Measured {
    let middle = |figure: fn(&Measured) -> f64| {
        let mut figures: Vec<f64> = all.iter().map(figure).collect();
        figures.sort_by(f64::total_cmp);
        figures[figures.len() / 2]
    };
    Measured { rate: middle(|one| one.rate), cpu: middle(|one| one.cpu) }
}
