//! What the routes of the API have in common: errors, JSON, durations.

use std::{convert::Infallible, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use crate::corefile::parse_duration;

/// A request that cannot be answered.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    message: String,
}

/// The body of an error.
#[derive(Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The message.
    pub error: String,
}

impl ApiError {
    /// The request is wrong.
    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::BAD_REQUEST,
            message: message.into(),
        }
    }

    /// The request cannot be answered at present.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            message: message.into(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let body = ErrorBody {
            error: self.message,
        };
        let mut response = json(&body);
        *response.status_mut() = self.status;
        response
    }
}

/// The parameter `for`: a duration with a unit, as in a Corefile.
pub(super) fn duration(text: &str) -> Result<Duration, ApiError> {
    parse_duration(text).map_err(|error| {
        ApiError::bad_request(format!("'for': {error}; use a duration such as 90s or 5m"))
    })
}

/// A JSON value.
pub(super) fn json<T: Serialize>(value: &T) -> Response {
    match serde_json::to_vec(value) {
        Ok(text) => ([(CONTENT_TYPE, "application/json")], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

/// One JSON value per line.
pub(super) fn json_lines<S>(lines: S) -> Response
where
    S: Stream<Item = Result<Bytes, Infallible>> + Send + 'static,
{
    let head = [(CONTENT_TYPE, "application/x-ndjson")];
    (head, Body::from_stream(lines)).into_response()
}
