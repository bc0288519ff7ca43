//! One HTTP/1.1 connection, driven by whoever holds it.
//!
//! The start that uses it writes the request and reads the answer itself: no task per connection, no
//! hop between two tasks, and dropping the start closes the connection. Only so can one know whether
//! anything of a request was sent.

use std::{
    future::poll_fn,
    io::{self, IoSlice},
    net::IpAddr,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncReadExt, AsyncWrite};

use super::{
    answer::{Answer, HeadReader},
    connect::Stream,
    pool::Seat,
    request::Request,
    rest::{Progress, Rest},
};

/// What is read at a time, at least, in bytes.
const READ: usize = 2 * 1024;
/// What an idle connection may hold of memory, in bytes.
const KEEP: usize = 8 * 1024;

/// A connection, and where on it the answer is.
pub(super) struct Link {
    /// The far end.
    pub(super) peer: IpAddr,
    /// Once it was kept.
    pub(super) seat: Option<Seat>,
    stream: Stream,
    /// What came and was not taken yet.
    held: Vec<u8>,
    /// What is to come before another request can be sent; `None` if none can.
    rest: Option<Rest>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// The connection had ended before; nothing of the request was sent.
    Unsent,
    /// The target closed it before it answered.
    Closed,
    /// It broke.
    Io(io::Error),
    /// What came is no answer, for this reason.
    NoAnswer(&'static str),
}

impl Link {
    /// A connection to `peer` that nothing was sent on.
    pub(super) fn new(stream: Stream, peer: IpAddr) -> Self {
        Self { peer, seat: None, stream, held: Vec::new(), rest: Some(Rest::length(0)) }
    }

    /// Takes notice of what the target did while the connection was idle; whether it still is. A
    /// target that says something unasked has closed it, or is about to.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> bool {
        self.held.is_empty() && self.poll_read(cx).is_pending()
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.held.reserve(READ);
        pin!(self.stream.read_buf(&mut self.held)).poll(cx)
    }

    /// Sends `request` and waits for the head of the answer.
    pub(super) async fn exchange(&mut self, request: &Request) -> Result<Answer, Broken> {
        if !poll_fn(|cx| Poll::Ready(self.poll_idle(cx))).await {
            return Err(Broken::Unsent);
        }
        self.rest = None;
        crash_point!(HttpBeforeFirstByte);
        let mut sending = Sending::Left { sent: 0 };
        let mut reader = HeadReader::default();
        poll_fn(|cx| {
            sending.poll(cx, &mut self.stream, request)?;
            loop {
                match ready!(self.poll_read(cx)) {
                    Ok(0) => return Poll::Ready(Err(Broken::Closed)),
                    Ok(_) => {}
                    Err(err) => return Poll::Ready(Err(Broken::Io(err))),
                }
                if let Some(head) = reader.read(&self.held, request.to_head).map_err(Broken::NoAnswer)? {
                    crash_point!(HttpAfterAnswer);
                    self.held.drain(..head.length);
                    // An answer may overtake its request, whose end would have to be sent yet.
                    self.rest = head.rest.filter(|_| matches!(sending, Sending::Done));
                    return Poll::Ready(Ok(head.answer));
                }
            }
        })
        .await
    }

    /// Takes what has come of the rest of an answer.
    pub(super) fn settle(&mut self, cap: usize) -> Progress {
        let Some(rest) = &mut self.rest else { return Progress::Spoiled };
        let progress = rest.take(&self.held, cap as u64);
        self.held.clear();
        if progress == Progress::Done {
            self.held.shrink_to(KEEP);
        }
        progress
    }

    /// Reads the rest of an answer, up to `cap` bytes; whether another request can be sent after it.
    pub(super) async fn finish(&mut self, cap: usize) -> bool {
        poll_fn(|cx| {
            loop {
                match ready!(self.poll_read(cx)) {
                    Ok(0) | Err(_) => return Poll::Ready(false),
                    Ok(_) => {}
                }
                match self.settle(cap) {
                    Progress::More => {}
                    progress => return Poll::Ready(progress == Progress::Done),
                }
            }
        })
        .await
    }
}

/// How far a request is sent.
enum Sending {
    Left {
        sent: usize,
    },
    Flushing,
    Done,
    /// The target takes no more, but may have answered before.
    Refused,
}

impl Sending {
    /// Sends what can be sent now. What the error means for the request is known only before the
    /// first byte; later ones show when the answer is read.
    fn poll(&mut self, cx: &mut Context<'_>, stream: &mut Stream, request: &Request) -> Result<(), Broken> {
        loop {
            match self {
                Self::Left { sent } => match poll_send(cx, stream, next(request, *sent)) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(count)) if count > 0 => {
                        *sent += count;
                        if *sent == count {
                            crash_point!(HttpAfterFirstByte);
                        }
                        if request.after(*sent) == (&[], &[]) {
                            *self = Self::Flushing;
                        }
                    }
                    // Of what TLS was given, it may have sent a part.
                    Poll::Ready(_) if *sent == 0 && matches!(stream, Stream::Plain(_)) => {
                        return Err(Broken::Unsent);
                    }
                    Poll::Ready(_) => *self = Self::Refused,
                },
                Self::Flushing => match Pin::new(&mut *stream).poll_flush(cx) {
                    Poll::Pending => return Ok(()),
                    Poll::Ready(Ok(())) => {
                        crash_point!(HttpAfterRequest);
                        *self = Self::Done;
                    }
                    Poll::Ready(Err(_)) => *self = Self::Refused,
                },
                Self::Done | Self::Refused => return Ok(()),
            }
        }
    }
}

/// What is to be sent after so many bytes.
fn next(request: &Request, sent: usize) -> (&[u8], &[u8]) {
    #[cfg(feature = "crash-points")]
    if crate::crash::Point::HttpAfterFirstByte.is_armed() {
        // The first byte is sent alone, else it is hardly ever met alone.
        let (head, body) = request.after(sent);
        return if sent == 0 { (&head[..1], &[]) } else { (head, body) };
    }
    request.after(sent)
}

fn poll_send(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    (head, body): (&[u8], &[u8]),
) -> Poll<io::Result<usize>> {
    let stream = Pin::new(stream);
    match (head, body) {
        (head, []) => stream.poll_write(cx, head),
        ([], body) => stream.poll_write(cx, body),
        (head, body) => stream.poll_write_vectored(cx, &[IoSlice::new(head), IoSlice::new(body)]),
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn request() -> Request {
        Request { head: b"GET / HTTP/1.1\r\n\r\n".to_vec(), body: Vec::new(), to_head: false }
    }

    /// The retry on another connection rests on this: what comes back was not sent.
    #[tokio::test]
    async fn a_request_to_a_closed_connection_is_not_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        drop(listener.accept().await.unwrap());
        near.readable().await.unwrap();
        let mut link = Link::new(Stream::Plain(near), LOCAL);
        assert!(matches!(link.exchange(&request()).await, Err(Broken::Unsent)));
    }

    #[tokio::test]
    async fn a_request_that_was_sent_may_have_arrived() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut link = Link::new(Stream::Plain(near), LOCAL);
        let (mut far, _) = listener.accept().await.unwrap();
        let close = async move { far.read(&mut [0; 1]).await.unwrap() };
        let request = request();
        let (result, read) = tokio::join!(link.exchange(&request), close);
        assert!(!matches!(result.unwrap_err(), Broken::Unsent) && read == 1);
        assert_eq!(link.settle(1_000), Progress::Spoiled);
    }
}
