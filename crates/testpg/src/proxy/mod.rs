//! A TCP proxy on loopback whose network can be cut, stalled and slowed.

mod link;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::port::Port;
use link::{Link, Loss, reset};

/// A target on the same machine that takes longer does not take connections.
const PATIENCE: Duration = Duration::from_secs(5);

/// Stands between a client and a server to play a broken network.
///
/// A stall is for good for the connections that were open during it: what they send stays lost after
/// [`heal`](Self::heal), and neither side learns that the other has closed, as if the route had gone. Connections made
/// after the heal work. [`cut`](Self::cut) and the proxy's drop close all with a reset.
pub struct Proxy {
    port: Port,
    network: Arc<Mutex<Network>>,
    /// Runs while connections are taken; held over each change, so that changes come one by one.
    acceptor: Mutex<Option<JoinHandle<()>>>,
}

struct Network {
    target: SocketAddr,
    state: State,
    delay: Duration,
    links: Vec<Link>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Passing(Loss),
    Cut,
}

impl Proxy {
    /// A proxy to this address, whose network works.
    ///
    /// # Panics
    /// If no port of 127.0.0.1 is free.
    pub fn start(target: SocketAddr) -> Self {
        let port = Port::reserve().unwrap_or_else(|error| panic!("{error}"));
        let network = Network { target, state: State::Cut, delay: Duration::ZERO, links: Vec::new() };
        let proxy = Self { port, network: Arc::new(Mutex::new(network)), acceptor: Mutex::new(None) };
        proxy.heal();
        proxy
    }

    /// Its port on 127.0.0.1, the same for its whole life.
    pub fn port(&self) -> u16 {
        self.port.number
    }

    /// Leads new connections to another address; open ones stay where they are.
    pub fn retarget(&self, target: SocketAddr) {
        lock(&self.network).target = target;
    }

    /// Closes all connections with a reset and refuses new ones.
    pub fn cut(&self) {
        let mut acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner);
        lock(&self.network).state = State::Cut;
        if let Some(thread) = acceptor.take() {
            // Wakes it; a failure means that it has nothing to wait for any more.
            let _ = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port()));
            let _ = thread.join();
        }
        let links = std::mem::take(&mut lock(&self.network).links);
        links.into_iter().for_each(Link::reset);
    }

    /// Accepts connections and passes nothing either way: a black hole.
    pub fn stall(&self) {
        self.pass(Loss::BOTH);
    }

    /// Passes what clients send and nothing back: a commit whose reply is lost.
    pub fn stall_replies(&self) {
        self.pass(Loss::REPLIES);
    }

    /// Lets new connections work, and open ones that were not stalled.
    pub fn heal(&self) {
        self.pass(Loss::NONE);
    }

    /// Delays every byte by this much in each direction, without a limit on the rate; for open connections, too.
    pub fn delay(&self, delay: Duration) {
        lock(&self.network).delay = delay;
    }

    fn pass(&self, loss: Loss) {
        let mut acceptor = self.acceptor.lock().unwrap_or_else(PoisonError::into_inner);
        let mut network = lock(&self.network);
        network.state = State::Passing(loss);
        network.links.iter().for_each(|link| link.lose(loss));
        if acceptor.is_none() {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port()))
                .expect("the port is reserved, and was free when it was");
            let network = Arc::clone(&self.network);
            *acceptor = Some(thread::spawn(move || accept(&listener, &network)));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy")
            .field("port", &self.port())
            .field("target", &lock(&self.network).target)
            .finish()
    }
}

fn accept(listener: &TcpListener, network: &Arc<Mutex<Network>>) {
    for client in listener.incoming().flatten() {
        let Network { state, target, .. } = *lock(network);
        let server = match state {
            State::Cut => return,
            State::Passing(Loss::BOTH) => None,
            State::Passing(_) => match TcpStream::connect_timeout(&target, PATIENCE) {
                Ok(server) => Some(server),
                Err(_) => {
                    reset(client);
                    continue;
                }
            },
        };
        let delay = Arc::clone(network);
        let mut network = lock(network);
        // It may have changed while the target was called.
        let State::Passing(loss) = network.state else { return };
        network.links.retain(|link| !link.is_over());
        network.links.push(match server {
            Some(server) => Link::start(client, server, loss, move || lock(&delay).delay),
            None => Link::black_hole(client),
        });
    }
}

fn lock(network: &Mutex<Network>) -> MutexGuard<'_, Network> {
    network.lock().unwrap_or_else(PoisonError::into_inner)
}
