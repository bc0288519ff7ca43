//! One connection through the proxy: two sockets and the threads that move bytes between them.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
        mpsc::{self, Receiver, SyncSender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::net::sockopt::set_socket_linger;

/// How often a thread that cannot go on looks whether it shall end.
const PAUSE: Duration = Duration::from_millis(20);
const CHUNK: usize = 16 * 1024;
/// What may be under way in one direction while it is delayed, in chunks.
const UNDER_WAY: usize = 1024;

/// Which directions lose their bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Loss {
    requests: bool,
    replies: bool,
}

impl Loss {
    pub(super) const NONE: Self = Self { requests: false, replies: false };
    pub(super) const REPLIES: Self = Self { requests: false, replies: true };
    pub(super) const BOTH: Self = Self { requests: true, replies: true };
}

pub(super) struct Link {
    sockets: Arc<Sockets>,
    threads: Vec<JoinHandle<()>>,
}

struct Sockets {
    client: TcpStream,
    /// None in a black hole.
    server: Option<TcpStream>,
    requests_lost: AtomicBool,
    replies_lost: AtomicBool,
    reset: AtomicBool,
}

/// One direction of a connection.
struct Way<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    lost: &'a AtomicBool,
    reset: &'a AtomicBool,
}

struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

impl Link {
    pub(super) fn black_hole(client: TcpStream) -> Self {
        Self { sockets: Arc::new(Sockets::new(client, None, Loss::BOTH)), threads: Vec::new() }
    }

    pub(super) fn start(
        client: TcpStream,
        server: TcpStream,
        loss: Loss,
        delay: impl Fn() -> Duration + Clone + Send + 'static,
    ) -> Self {
        for socket in [&client, &server] {
            // Neither fails on an open socket, and a test would notice.
            let _ = socket.set_nodelay(true);
            let _ = socket.set_write_timeout(Some(PAUSE));
        }
        let sockets = Arc::new(Sockets::new(client, Some(server), loss));
        let mut threads = Vec::new();
        for way in [Sockets::requests, Sockets::replies] {
            let (sender, receiver) = mpsc::sync_channel(UNDER_WAY);
            let (ends, delay) = (Arc::clone(&sockets), delay.clone());
            threads.push(thread::spawn(move || {
                if let Some(way) = way(&ends) {
                    way.read(&sender, delay);
                }
            }));
            let ends = Arc::clone(&sockets);
            threads.push(thread::spawn(move || {
                if let Some(way) = way(&ends) {
                    way.write(&receiver);
                }
            }));
        }
        Self { sockets, threads }
    }

    /// Begins to lose bytes, for good.
    pub(super) fn lose(&self, loss: Loss) {
        self.sockets.requests_lost.fetch_or(loss.requests, SeqCst);
        self.sockets.replies_lost.fetch_or(loss.replies, SeqCst);
    }

    /// Whether both sides have closed and know it of each other. A side that must not know keeps the link.
    pub(super) fn is_over(&self) -> bool {
        let lost = self.sockets.requests_lost.load(SeqCst) || self.sockets.replies_lost.load(SeqCst);
        !lost && self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Closes both connections with a reset.
    pub(super) fn reset(self) {
        self.sockets.reset.store(true, SeqCst);
        for socket in std::iter::once(&self.sockets.client).chain(&self.sockets.server) {
            linger_not(socket);
            // Wakes who reads, and sends nothing.
            let _ = socket.shutdown(Shutdown::Read);
        }
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

/// Closes a connection with a reset.
pub(super) fn reset(socket: TcpStream) {
    linger_not(&socket);
}

/// A close is a reset from now on.
fn linger_not(socket: &TcpStream) {
    // Fails only on what is no socket.
    let _ = set_socket_linger(socket, Some(Duration::ZERO));
}

impl Sockets {
    fn new(client: TcpStream, server: Option<TcpStream>, loss: Loss) -> Self {
        let (requests_lost, replies_lost) = (loss.requests.into(), loss.replies.into());
        Self { client, server, requests_lost, replies_lost, reset: false.into() }
    }

    fn requests(&self) -> Option<Way<'_>> {
        let server = self.server.as_ref()?;
        Some(Way { from: &self.client, to: server, lost: &self.requests_lost, reset: &self.reset })
    }

    fn replies(&self) -> Option<Way<'_>> {
        let server = self.server.as_ref()?;
        Some(Way { from: server, to: &self.client, lost: &self.replies_lost, reset: &self.reset })
    }
}

impl Way<'_> {
    fn read(mut self, chunks: &SyncSender<Chunk>, delay: impl Fn() -> Duration) {
        let mut buffer = vec![0; CHUNK];
        // An error ends the connection as its close does.
        while let Ok(count @ 1..) = self.from.read(&mut buffer) {
            let chunk = Chunk { due: now() + delay(), bytes: buffer[..count].to_vec() };
            if chunks.send(chunk).is_err() {
                return;
            }
        }
    }

    fn write(mut self, chunks: &Receiver<Chunk>) {
        for chunk in chunks {
            if !self.wait_until(chunk.due) || !self.write_all(&chunk.bytes) {
                break;
            }
        }
        if !self.is_lost() && !self.is_reset() {
            let _ = self.to.shutdown(Shutdown::Write);
        }
    }

    /// Whether to go on.
    fn wait_until(&self, due: Instant) -> bool {
        while let left @ 1.. = due.saturating_duration_since(now()).as_nanos() {
            if self.is_reset() {
                return false;
            }
            thread::sleep(PAUSE.min(Duration::from_nanos(u64::try_from(left).unwrap_or(u64::MAX))));
        }
        true
    }

    /// Whether to go on.
    fn write_all(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() && !self.is_lost() {
            match self.to.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(_) => {
                    // Who sends to a side that is gone shall learn it.
                    let _ = self.from.shutdown(Shutdown::Both);
                    return false;
                }
            }
            if self.is_reset() {
                return false;
            }
        }
        true
    }

    fn is_lost(&self) -> bool {
        self.lost.load(SeqCst)
    }

    fn is_reset(&self) -> bool {
        self.reset.load(SeqCst)
    }
}

#[expect(clippy::disallowed_methods, reason = "delays of a real network are of real time")]
fn now() -> Instant {
    Instant::now()
}
