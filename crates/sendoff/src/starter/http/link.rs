//! One HTTP/1.1 connection, driven by whoever holds it.
//!
//! hyper wants its connection future polled by a task of its own. Here the start that uses the
//! connection polls it: no task per connection, no hop between two tasks per request, and dropping
//! the start closes the connection.

use std::{
    future::poll_fn,
    net::IpAddr,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use http::{Request, Response};
use http_body_util::Full;
use hyper::{
    body::{Body, Bytes, Incoming},
    client::conn::{
        TrySendError,
        http1::{Builder, Connection, SendRequest},
    },
};
use hyper_util::rt::TokioIo;

use super::connect::Stream;

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 32 * 1024;
/// What a connection buffers at most, in bytes.
const MAX_BUFFER: usize = 64 * 1024;

/// What is sent.
pub(super) type Outgoing = Full<Bytes>;

/// A connection and what drives it.
pub(super) struct Link {
    /// The far end.
    pub(super) peer: IpAddr,
    requests: SendRequest<Outgoing>,
    /// `None` once it has ended; dropping it hands back a request that it had not begun to send.
    /// Boxed, as a link moves in and out of the pool with every start.
    driver: Option<Box<Connection<TokioIo<Stream>, Outgoing>>>,
}

impl Link {
    /// Speaks HTTP over `stream`, to `peer`.
    pub(super) async fn new(stream: Stream, peer: IpAddr) -> Result<Self, hyper::Error> {
        let (requests, driver) = Builder::new()
            .max_buf_size(MAX_BUFFER)
            .max_header_size(MAX_HEAD)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Self { peer, requests, driver: Some(Box::new(driver)) })
    }

    fn drive(&mut self, cx: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && Pin::new(driver).poll(cx).is_ready()
        {
            // How it ended, the answer's future tells.
            self.driver = None;
        }
    }

    /// Whether the answer before is through and a request can be sent at once, as far as known.
    pub(super) fn is_idle(&self) -> bool {
        self.driver.is_some() && self.requests.is_ready()
    }

    /// Takes notice of what the target did while the connection was idle; whether it still is.
    pub(super) fn poll_idle(&mut self, cx: &mut Context<'_>) -> bool {
        self.drive(cx);
        self.is_idle()
    }

    /// Sends `request` and waits for the head of the answer. The error gives the request back if
    /// it is certain that nothing of it was sent.
    pub(super) async fn exchange(
        &mut self,
        request: Request<Outgoing>,
    ) -> Result<Response<Incoming>, TrySendError<Request<Outgoing>>> {
        let mut answer = pin!(self.requests.try_send_request(request));
        poll_fn(|cx| {
            self.drive(cx);
            answer.as_mut().poll(cx)
        })
        .await
    }

    /// Reads the rest of an answer, up to `cap` bytes; whether another request can be sent after it.
    pub(super) async fn finish(&mut self, mut body: Incoming, cap: usize) -> bool {
        let mut room = cap;
        poll_fn(|cx| {
            loop {
                self.drive(cx);
                let mut frame = Pin::new(&mut body).poll_frame(cx);
                if frame.is_pending() {
                    // The driver reads on only when asked for more, as it was just now.
                    self.drive(cx);
                    frame = Pin::new(&mut body).poll_frame(cx);
                }
                match frame {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Some(Err(_))) => return Poll::Ready(false),
                    Poll::Ready(Some(Ok(frame))) => {
                        let length = frame.data_ref().map_or(0, Bytes::len);
                        match room.checked_sub(length) {
                            Some(left) => room = left,
                            None => return Poll::Ready(false),
                        }
                    }
                    Poll::Ready(None) => break,
                }
            }
            self.drive(cx);
            if self.driver.is_none() {
                return Poll::Ready(false);
            }
            // Not before the request is sent to its end, which an early answer may overtake.
            self.requests.poll_ready(cx).map(|ready| ready.is_ok())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpStream},
    };

    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    /// The retry on another connection rests on this: what comes back was not sent.
    #[tokio::test]
    async fn a_request_to_a_closed_connection_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        drop(listener.accept().await.unwrap());
        near.readable().await.unwrap();
        let mut link = Link::new(Stream::Plain(near), LOCAL).await.unwrap();
        let mut error = link.exchange(Request::new(Full::from("body"))).await.unwrap_err();
        assert!(error.take_message().is_some(), "{error:?}");
        assert!(!link.is_idle());
    }

    #[tokio::test]
    async fn a_request_that_was_sent_does_not_come_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let near = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let mut link = Link::new(Stream::Plain(near), LOCAL).await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        let close = async move { far.read(&mut [0; 1]).await.unwrap() };
        let (result, read) = tokio::join!(link.exchange(Request::new(Full::from("body"))), close);
        let mut error = result.unwrap_err();
        assert!(error.take_message().is_none() && read == 1, "{error:?}");
    }
}
