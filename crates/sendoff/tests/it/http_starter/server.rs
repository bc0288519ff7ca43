//! An HTTP server by hand on loopback, so that it can misbehave byte by byte.

use std::{
    future::Future,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;

/// What the server does on a request, in order. After the last step it reads the next request.
#[derive(Clone, Debug)]
pub(super) enum Step {
    /// Writes this.
    Send(Vec<u8>),
    /// Writes this again and again until the client goes away.
    SendForEver(Vec<u8>),
    /// Waits for [`Server::go_on`].
    Wait,
    /// Reads nothing and writes nothing until the client goes away.
    Hang,
    /// Closes the connection.
    Close,
    /// Closes it with a RST.
    Reset,
}

/// Writes this text.
pub(super) fn send(text: &str) -> Step {
    Step::Send(text.as_bytes().to_vec())
}

/// The usual answer.
pub(super) fn no_content() -> Vec<Step> {
    vec![send("HTTP/1.1 204 No Content\r\n\r\n")]
}

/// One request as it came in.
#[derive(Clone, Debug)]
pub(super) struct Seen {
    /// The connection it came on, from 0.
    pub(super) connection: usize,
    /// Request line and headers, with the empty line.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Seen {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

type Script = Arc<dyn Fn(&Seen) -> Vec<Step> + Send + Sync>;

/// The server; ends when dropped.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    state: Arc<State>,
    _tasks: JoinSet<()>,
}

struct State {
    script: Script,
    seen: Mutex<Vec<Seen>>,
    go_on: Semaphore,
    opened: watch::Sender<usize>,
    closed: watch::Sender<usize>,
}

impl Server {
    /// Does `script` says for each request.
    pub(super) async fn start(script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static) -> Self {
        Self::listen(script, None).await
    }

    /// The same over TLS.
    pub(super) async fn start_tls(
        tls: TlsAcceptor,
        script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(script, Some(tls)).await
    }

    async fn listen(
        script: impl Fn(&Seen) -> Vec<Step> + Send + Sync + 'static,
        tls: Option<TlsAcceptor>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            script: Arc::new(script),
            seen: Mutex::default(),
            go_on: Semaphore::new(0),
            opened: watch::channel(0).0,
            closed: watch::channel(0).0,
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, tls, Arc::clone(&state)));
        Self { address, state, _tasks: tasks }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// All requests so far.
    pub(super) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// Connections so far.
    pub(super) fn opened(&self) -> usize {
        *self.state.opened.borrow()
    }

    /// Connections that are open now.
    pub(super) fn open(&self) -> usize {
        self.opened() - *self.state.closed.borrow()
    }

    /// Lets one [`Step::Wait`] pass.
    pub(super) fn go_on(&self) {
        self.state.go_on.add_permits(1);
    }

    /// Waits until so many connections have ended.
    pub(super) async fn closed(&self, count: usize) {
        let mut closed = self.state.closed.subscribe();
        within(closed.wait_for(|closed| *closed >= count)).await.unwrap();
    }

    /// Waits until the client's runtime has seen everything that the kernel had to tell it by now:
    /// a round trip on a socket of its own comes behind all that.
    pub(super) async fn settled(&self) {
        for _ in 0..3 {
            let (listener, mut byte) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), [0]);
            let mut here = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let (mut there, _) = listener.accept().await.unwrap();
            there.write_all(b"x").await.unwrap();
            here.read_exact(&mut byte).await.unwrap();
            tokio::task::yield_now().await;
        }
    }
}

/// Fails a test that would hang.
pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("done within 20 s")
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, state: Arc<State>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (state, tls) = (Arc::clone(&state), tls.clone());
        let number = *state.opened.borrow();
        state.opened.send_modify(|opened| *opened += 1);
        connections.spawn(async move {
            match tls {
                None => {
                    let mut stream = stream;
                    if serve(&mut stream, number, &state).await == Some(Step::Reset) {
                        stream.set_zero_linger().unwrap();
                    }
                    drop(stream);
                }
                Some(tls) => {
                    if let Ok(mut stream) = tls.accept(stream).await {
                        serve(&mut stream, number, &state).await;
                    }
                }
            }
            state.closed.send_modify(|closed| *closed += 1);
        });
    }
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// Until the connection ends; by which step, if by one.
async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    number: usize,
    state: &State,
) -> Option<Step> {
    let mut buffer = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break buffer.drain(..end + 4).collect::<Vec<_>>();
            }
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        };
        let mut seen = Seen { connection: number, head: String::from_utf8(head).unwrap(), body: Vec::new() };
        // A script that answers early must not have to wait for the body.
        let early = seen.head.contains("x-answer-early");
        let length = seen.header("content-length").map_or(0, |value| value.parse().unwrap());
        while !early && buffer.len() < length {
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
        seen.body = buffer.drain(..length.min(buffer.len())).collect();
        let steps = (state.script)(&seen);
        state.seen.lock().unwrap().push(seen);
        for step in steps {
            match step {
                Step::Send(bytes) => stream.write_all(&bytes).await.ok()?,
                Step::SendForEver(bytes) => loop {
                    stream.write_all(&bytes).await.ok()?;
                },
                Step::Wait => state.go_on.acquire().await.unwrap().forget(),
                Step::Hang => {
                    while stream.read(&mut [0; 1024]).await.ok()? > 0 {}
                    return None;
                }
                Step::Close | Step::Reset => return Some(step),
            }
        }
    }
}
