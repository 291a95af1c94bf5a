//! Bodies that the layer has read, in whole or in part, or passes on.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;

/// A body behind the layer: what the layer has read of it, and then the rest.
pub struct LayerBody<B: Body> {
    read: Bytes,
    error: Option<B::Error>,
    rest: Option<Pin<Box<B>>>,
}

impl<B: Body> LayerBody<B> {
    /// A body that the layer has not touched.
    pub(super) fn passed(body: B) -> Self {
        LayerBody { read: Bytes::new(), error: None, rest: Some(Box::pin(body)) }
    }

    /// A body that the layer has read or made.
    pub(super) fn whole(body: Bytes) -> Self {
        LayerBody { read: body, error: None, rest: None }
    }
}

impl<B: Body> Unpin for LayerBody<B> {}

impl<B: Body<Data = Bytes>> Body for LayerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        if !self.read.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(std::mem::take(&mut self.read)))));
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        self.rest.as_mut().map_or(Poll::Ready(None), |rest| rest.as_mut().poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.error.is_none() && self.rest.as_ref().is_none_or(|rest| rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let read = u64::try_from(self.read.len()).unwrap_or(u64::MAX);
        let Some(rest) = &self.rest else { return SizeHint::with_exact(read) };
        let (rest, mut hint) = (rest.size_hint(), SizeHint::new());
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper().and_then(|upper| upper.checked_add(read)) {
            hint.set_upper(upper);
        }
        hint
    }
}

/// What came of reading a body up to a bound. Trailers are dropped.
pub(super) enum Read<B: Body> {
    /// All of it.
    Whole(Bytes),
    /// It is larger than the bound: what was read, and the rest.
    TooLarge(Bytes, Pin<Box<B>>),
    /// It broke off: what was read, and the error.
    Broken(Bytes, B::Error),
}

impl<B: Body<Data = Bytes>> Read<B> {
    pub(super) async fn of(body: B, bytes_max: usize) -> Self {
        let mut body = Box::pin(body);
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            match frame.map(Frame::into_data) {
                Ok(Ok(data)) => read.extend_from_slice(&data),
                Ok(Err(_trailers)) => {}
                Err(error) => return Read::Broken(read.freeze(), error),
            }
            if read.len() > bytes_max {
                return Read::TooLarge(read.freeze(), body);
            }
        }
        Read::Whole(read.freeze())
    }

    /// The body, if it was read to its end.
    pub(super) fn whole(&self) -> Option<&Bytes> {
        match self {
            Read::Whole(read) => Some(read),
            Read::TooLarge(..) | Read::Broken(..) => None,
        }
    }

    /// The body as it was, to be passed on.
    pub(super) fn into_body(self) -> LayerBody<B> {
        match self {
            Read::Whole(read) => LayerBody::whole(read),
            Read::TooLarge(read, rest) => LayerBody { read, error: None, rest: Some(rest) },
            Read::Broken(read, error) => LayerBody { read, error: Some(error), rest: None },
        }
    }
}
