//! A body that a task writes while it is sent.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Bytes, Frame};
use tokio::sync::mpsc;

use super::{Body, BodyError};

/// The writing end. Writing waits until the client has read; it fails when the client has gone.
pub(crate) type Writer = mpsc::Sender<Bytes>;

struct Written(mpsc::Receiver<Bytes>);

/// A body and its writer; `pieces` may be on their way at once.
pub(crate) fn written(pieces: usize) -> (Writer, Body) {
    let (writer, reader) = mpsc::channel(pieces);
    (writer, Written(reader).boxed())
}

impl HttpBody for Written {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}
