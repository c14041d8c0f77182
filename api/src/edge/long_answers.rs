//! Room for answers that a client may take its time over. A list of 10,000 rows is some megabytes, all
//! of them in memory until the last has been taken; a client that does not read has half a minute.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What is no longer than this fits into what the kernel takes at once, or little more.
const SHORT_BYTES: usize = 64 * 1024;
/// Room is given out by this.
const UNIT_BYTES: usize = 1024;

/// The room that is left.
#[derive(Debug)]
pub(super) struct LongAnswers {
    room: Arc<Semaphore>,
    units: usize,
}

/// There is no room for another long answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

impl LongAnswers {
    /// Returns room for so many bytes of long answers at once.
    pub(super) fn new(bytes: usize) -> Self {
        let units = bytes / UNIT_BYTES;
        Self {
            room: Arc::new(Semaphore::new(units)),
            units,
        }
    }

    /// Gives an answer the room that it needs until it has been taken. One that is longer than all
    /// there is gets all there is.
    ///
    /// # Errors
    ///
    /// [`NoRoom`] when others have it.
    pub(super) fn admit(&self, response: Response) -> Result<Response, NoRoom> {
        let length = response.body().size_hint().lower();
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length <= SHORT_BYTES {
            return Ok(response);
        }
        let units = length.div_ceil(UNIT_BYTES).min(self.units);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(units);
        let room = room.map_err(|_taken| NoRoom)?;
        Ok(response.map(|body| {
            Body::new(LongAnswer {
                body,
                rest: Bytes::new(),
                _room: room,
            })
        }))
    }
}

/// A long answer, handed over in pieces: the whole of it at once would be in the buffers of the
/// connection, and seem to be taken.
struct LongAnswer {
    body: Body,
    rest: Bytes,
    _room: OwnedSemaphorePermit,
}

impl HttpBody for LongAnswer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let length = self.rest.len().min(SHORT_BYTES);
        let piece = self.rest.split_to(length);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let body = self.body.size_hint();
        match body.exact() {
            Some(body) => SizeHint::with_exact(rest + body),
            None => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn answer(length: usize) -> Response {
        Response::new(Body::from(vec![b'x'; length]))
    }

    #[tokio::test]
    async fn an_answer_has_its_room_until_its_last_piece_is_taken() {
        let room = LongAnswers::new(300 * 1024);
        let mut first = room.admit(answer(200 * 1024)).unwrap().into_body();
        assert_eq!(first.size_hint().exact(), Some(200 * 1024));
        assert_eq!(room.admit(answer(200 * 1024)).unwrap_err(), NoRoom);
        room.admit(answer(100)).expect("a short one needs no room");

        let mut taken = 0;
        while let Some(frame) = first.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() <= SHORT_BYTES);
            taken += piece.len();
        }
        assert_eq!(taken, 200 * 1024);
        drop(first);
        room.admit(answer(200 * 1024)).unwrap();
    }

    #[test]
    fn an_answer_that_is_not_wanted_any_more_gives_its_room_back() {
        let room = LongAnswers::new(300 * 1024);
        drop(room.admit(answer(200 * 1024)).unwrap());
        room.admit(answer(200 * 1024)).unwrap();
    }

    #[test]
    fn the_longest_answer_is_given_by_itself() {
        let room = LongAnswers::new(300 * 1024);
        let longest = room.admit(answer(10 << 20)).unwrap();
        assert_eq!(room.admit(answer(70 * 1024)).unwrap_err(), NoRoom);
        drop(longest);
        room.admit(answer(70 * 1024)).unwrap();
    }
}
