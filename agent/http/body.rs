//! A request's body, read within bounds: in bytes, of this one and of all
//! together, and in time. A slow caller is waited for, one that says next to
//! nothing is not.

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use understudy_core::limits::REQUEST_BYTES_MAX;

use super::{
    limits::{BODIES_BYTES_MAX, Bounds, patience_ms},
    text,
};
use crate::driver::clock;

/// Room for the bodies of all callers.
#[derive(Clone)]
pub(super) struct Bodies {
    room: Arc<Semaphore>,
    silence: Duration,
}

/// A body, and the room it takes until its request is answered.
pub(super) struct Taken {
    pub(super) bytes: Vec<u8>,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

pub(super) fn too_large() -> Response {
    let reason = format!("the request is larger than {REQUEST_BYTES_MAX} bytes");
    text(StatusCode::PAYLOAD_TOO_LARGE, &reason)
}

/// Does the body announce itself as too large? Then it is not waited for.
pub(super) fn announces_too_much(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH);
    let length = length.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|length| length > REQUEST_BYTES_MAX as u64)
}

impl Bodies {
    pub(super) fn new(bounds: &Bounds) -> Self {
        Self { room: Arc::new(Semaphore::new(bounds.bodies_bytes_max)), silence: bounds.silence }
    }

    /// The whole body.
    pub(super) async fn read(&self, body: Body) -> Result<Taken, Response> {
        let mut body = pin!(body);
        let mut taken = Taken { bytes: Vec::new(), room: None };
        let since = clock::now();
        loop {
            let patience_ms = patience_ms(self.silence, taken.bytes.len() as u64);
            let left = Duration::from_millis(patience_ms.saturating_sub(clock::now().since(since)));
            let frame = poll_fn(|context| body.as_mut().poll_frame(context));
            let Ok(frame) = tokio::time::timeout(left, frame).await else {
                return Err(text(
                    StatusCode::REQUEST_TIMEOUT,
                    &format!(
                        "the request's body did not arrive: {} of its bytes came within {} s",
                        taken.bytes.len(),
                        clock::now().since(since).div_ceil(1_000)
                    ),
                ));
            };
            let Some(frame) = frame else { return Ok(taken) };
            let frame = frame.map_err(|_| {
                text(StatusCode::BAD_REQUEST, "the request's body cannot be read to its end")
            })?;
            // Trailers say nothing to us.
            let Ok(data) = frame.into_data() else { continue };
            if taken.bytes.len() + data.len() > REQUEST_BYTES_MAX {
                return Err(too_large());
            }
            self.make_room(&mut taken, data.len())?;
            taken.bytes.extend_from_slice(&data);
        }
    }

    fn make_room(&self, taken: &mut Taken, bytes: usize) -> Result<(), Response> {
        let bytes = u32::try_from(bytes).map_err(|_| too_large())?;
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes).map_err(|_| {
            let reason = format!(
                "the requests that this board is at already are {BODIES_BYTES_MAX} bytes together: \
                 try again when some are answered"
            );
            text(StatusCode::SERVICE_UNAVAILABLE, &reason)
        })?;
        match &mut taken.room {
            Some(taken) => taken.merge(room),
            None => taken.room = Some(room),
        }
        Ok(())
    }
}
