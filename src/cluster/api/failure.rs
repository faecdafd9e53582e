//! What goes wrong between a watch and the API server.

use serde::Deserialize;
use std::time::Duration;

/// Why a list or a watch did not go on. All pass: the watch tries again, each in its way.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No response: no connection, no TLS session, no credentials.
    #[error("no connection to the API server at {host}: {why}")]
    Connect {
        /// `HOST:PORT`.
        host: String,
        /// The causes.
        why: String,
    },
    /// The token cannot be read.
    #[error("the token cannot be used: {0}: {1}")]
    Token(String, String),
    /// 401. A rotated token is read again within a minute.
    #[error("the API server does not accept our credentials (401): {0}")]
    Unauthorized(String),
    /// 403.
    #[error("we may not {verb} them (403): {message}; grant the verbs list and watch")]
    Forbidden {
        /// What was asked for, as RBAC calls it.
        verb: &'static str,
        /// The server's own words.
        message: String,
    },
    /// 410: the version or the continuation asked for is no longer kept.
    #[error("the version is no longer kept by the API server (410)")]
    Expired,
    /// 410 in the middle of a list in pages.
    #[error("the API server forgets the list between two pages (410); listing without pages")]
    PageExpired,
    /// 400 or 422: the server does not know a parameter.
    #[error("the API server does not take the request ({0}): {1}")]
    Unsupported(u16, String),
    /// Any other status.
    #[error("the API server answers with status {0}: {1}")]
    Status(u16, String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// The stream ended before it had told anything.
    #[error("the API server ends the stream at once")]
    Fruitless,
    /// Nothing came for too long.
    #[error("nothing from the API server for {} seconds", .0.as_secs_f32())]
    Stalled(Duration),
    /// What came is not what the API speaks.
    #[error("the API server's response is malformed: {0}")]
    Malformed(String),
    /// Nobody listens any more.
    #[error("stopped")]
    Stopped,
}

/// `meta/v1 Status`, the API's form of an error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
    reason: String,
}

impl Failure {
    /// No response.
    #[allow(clippy::needless_pass_by_value)] // made for map_err
    pub(super) fn connect(host: &str, error: kube::Error) -> Self {
        // The outermost ones only say that a client has failed to connect.
        let why = match &error {
            kube::Error::Service(error) => match error.source() {
                Some(cause) => chain(cause),
                None => error.to_string(),
            },
            error => chain(error),
        };
        let host = host.to_owned();
        Self::Connect { host, why }
    }

    /// A response that says no.
    pub(super) fn refused(verb: &'static str, code: u16, body: &[u8]) -> Self {
        let status: Status = serde_json::from_slice(body).unwrap_or_default();
        Self::of(verb, code, status)
    }

    /// The object of an ERROR event.
    pub(super) fn told(verb: &'static str, object: &str) -> Self {
        match serde_json::from_str::<Status>(object) {
            Ok(status) => Self::of(verb, status.code, status),
            Err(error) => Self::Malformed(format!("an ERROR event without status: {error}")),
        }
    }

    fn of(verb: &'static str, code: u16, status: Status) -> Self {
        let mut message = status.message;
        if message.is_empty() {
            message = if status.reason.is_empty() {
                "no reason given".into()
            } else {
                status.reason
            };
        }
        match code {
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden { verb, message },
            410 => Self::Expired,
            400 | 422 => Self::Unsupported(code, message),
            _ => Self::Status(code, message),
        }
    }
}

/// An error and its causes: the outermost alone often says no more than "client error".
pub(in crate::cluster) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
