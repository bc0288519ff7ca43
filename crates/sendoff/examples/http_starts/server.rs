//! A process that answers 204 to each request as soon as it is complete, or after a while, and does
//! as little as possible for it.

use std::{
    collections::VecDeque,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::{AsFd, BorrowedFd},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::event::{Timespec, epoll};
use sendoff::time::{Clock, SystemClock};

use crate::BODY;

const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";
/// More than any of the requests takes.
const ROOM: usize = 2048;
/// What is waited for beside connections, which have the numbers from 0.
const LISTENER: u64 = u64::MAX;
const INPUT: u64 = u64::MAX - 1;

/// The process; ends with this one, however that ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    process: Child,
}

impl Server {
    /// This program again, as a server that waits `delay` milliseconds before each answer.
    pub(crate) fn start(delay: u64) -> Result<Self, Box<dyn std::error::Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["serve", &delay.to_string()]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no output")?).read_line(&mut line)?;
        Ok(Self { address: line.trim().parse()?, process })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Connection {
    stream: TcpStream,
    held: usize,
    buffer: [u8; ROOM],
}

/// Prints its address and answers until its standard input ends.
pub(crate) fn serve(delay: u64) -> io::Result<()> {
    let delay = Duration::from_millis(delay);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let add = |file: BorrowedFd<'_>, number| {
        epoll::add(&epoll, file, epoll::EventData::new_u64(number), epoll::EventFlags::IN)
    };
    add(listener.as_fd(), LISTENER)?;
    add(io::stdin().as_fd(), INPUT)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut waiting: VecDeque<(Duration, usize)> = VecDeque::new();
    let mut events: Vec<epoll::Event> = Vec::with_capacity(1024);
    loop {
        let pause = waiting.front().map(|(at, _)| at.saturating_sub(SystemClock.elapsed()));
        let pause = pause
            .map(|pause| Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: pause.subsec_nanos().into() });
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), pause.as_ref())?;
        for event in &events {
            let number = match event.data.u64() {
                INPUT => return Ok(()),
                LISTENER => {
                    let stream = listener.accept()?.0;
                    stream.set_nodelay(true)?;
                    add(stream.as_fd(), connections.len() as u64)?;
                    connections.push(Some(Connection { stream, held: 0, buffer: [0; ROOM] }));
                    continue;
                }
                number => number as usize,
            };
            let Some(connection) = &mut connections[number] else { continue };
            match connection.read() {
                Ok(true) if delay.is_zero() => connection.stream.write_all(ANSWER)?,
                Ok(true) => waiting.push_back((SystemClock.elapsed() + delay, number)),
                Ok(false) => {}
                Err(_) => connections[number] = None,
            }
        }
        while let Some(&(at, number)) = waiting.front()
            && at <= SystemClock.elapsed()
        {
            waiting.pop_front();
            if let Some(connection) = &mut connections[number] {
                // Whoever asked may be gone.
                let _ = connection.stream.write_all(ANSWER);
            }
        }
    }
}

impl Connection {
    /// Whether a request is complete now: bodies have one length, and one request is sent at a time.
    fn read(&mut self) -> io::Result<bool> {
        let read = self.stream.read(&mut self.buffer[self.held..])?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.held += read;
        let complete = self.buffer[..self.held]
            .split_last_chunk::<BODY>()
            .is_some_and(|(head, _)| head.ends_with(b"\r\n\r\n"));
        if complete {
            self.held = 0;
        }
        Ok(complete)
    }
}
