//! A request's body, read within bounds: in bytes, and in how long nothing of it
//! may come. A slow caller is waited for as long as it says something.

use std::{future::poll_fn, pin::pin, time::Duration};

use axum::{
    body::{Body, HttpBody},
    http::{HeaderMap, StatusCode, header},
    response::Response,
};
use understudy_core::limits::REQUEST_BYTES_MAX;

use super::text;

/// Silence after which the rest of a body is not waited for.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);

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

/// The whole body.
pub(super) async fn read(body: Body, silence_max: Duration) -> Result<Vec<u8>, Response> {
    let mut body = pin!(body);
    let mut bytes = Vec::new();
    loop {
        let frame = poll_fn(|context| body.as_mut().poll_frame(context));
        let Ok(frame) = tokio::time::timeout(silence_max, frame).await else {
            let reason = format!(
                "the request's body did not arrive: {} of its bytes came, and nothing more for {} s",
                bytes.len(),
                silence_max.as_secs()
            );
            return Err(text(StatusCode::REQUEST_TIMEOUT, &reason));
        };
        let Some(frame) = frame else { return Ok(bytes) };
        let frame = frame.map_err(|_| {
            text(StatusCode::BAD_REQUEST, "the request's body cannot be read to its end")
        })?;
        // Trailers say nothing to us.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > REQUEST_BYTES_MAX {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
    }
}
