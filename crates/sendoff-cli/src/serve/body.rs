//! Bodies on their way in, which must not stand still, and on their way out, which keep a seat busy.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use http::StatusCode;
use hyper::body::{Body, Bytes, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use super::crowd::Busy;
use crate::api::{BodyError, problem::Problem};

/// A request's body that breaks off when nothing of it comes for too long.
pub(super) struct Timed<B> {
    body: B,
    patience: Duration,
    /// Runs while the daemon waits for more.
    alarm: Option<Pin<Box<Sleep>>>,
}

impl<B> Timed<B> {
    pub(super) fn new(body: B, patience: Duration) -> Self {
        Self { body, patience, alarm: None }
    }
}

impl<B> Body for Timed<B>
where
    B: Body<Data = Bytes, Error: Into<BodyError>> + Unpin,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.alarm = None;
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let patience = this.patience;
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(alarm.as_mut().poll(cx));
        // Asked again it waits again.
        alarm.as_mut().reset(Instant::now() + patience);
        let detail = format!("nothing of the body came for {patience:?}; send it without long pauses");
        let problem = Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail);
        Poll::Ready(Some(Err(problem.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body, during which its connection is not idle.
pub(super) struct Seated<B> {
    body: B,
    _busy: Busy,
}

impl<B> Seated<B> {
    pub(super) fn new(body: B, busy: Busy) -> Self {
        Self { body, _busy: busy }
    }
}

impl<B: Body + Unpin> Body for Seated<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.get_mut().body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_body_that_stands_still_breaks_off() {
        let first = stream::iter([Ok::<_, BodyError>(Frame::data(Bytes::from_static(b"{")))]);
        let body = StreamBody::new(Box::pin(first.chain(stream::pending())));
        let mut body = Timed::new(body, Duration::from_millis(1));
        assert!(body.frame().await.unwrap().is_ok());
        let broken = body.frame().await.unwrap().unwrap_err();
        let problem = broken.downcast::<Problem>().unwrap();
        assert_eq!((problem.status.as_u16(), problem.kind), (408, "body_timeout"));
    }
}
