//! Errors of lists and watches.

use super::super::event::Kind;
use super::explain;
use serde::Deserialize;
use std::time::Duration;

/// Why a list or a watch failed. All are retried; the reflector decides how.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    /// No response: connection, TLS handshake or authentication setup failed.
    #[error("no connection to the API server at {host}: {why}")]
    Connect {
        /// `HOST:PORT`.
        host: String,
        /// The cause.
        why: String,
    },
    /// 401. A rotated token file is re-read within a minute.
    #[error(
        "the API server does not accept the credentials (401); are the token or the client \
         certificate this cluster's, and not expired? The API server says: {0}"
    )]
    Unauthorized(String),
    /// 403.
    #[error(
        "{verb} is forbidden (403): add a rule to this program's ClusterRole with apiGroups \
         [{:?}], resources [{}], verbs [list, watch]. The API server says: {message}",
        .kind.group(), .kind.resource()
    )]
    Forbidden {
        /// The RBAC verb.
        verb: &'static str,
        /// The kind of object.
        kind: Kind,
        /// The API server's message.
        message: String,
    },
    /// 410: the resource version or the continue token has been compacted.
    #[error("the resource version has expired (410)")]
    Expired,
    /// 410 between two pages of a list.
    #[error("the continue token has expired between two pages (410); listing without pages")]
    PageExpired,
    /// 400 or 422: the server does not support a parameter.
    #[error("the API server rejects the request ({0}): {1}")]
    Unsupported(u16, String),
    /// Any other status.
    #[error("the API server answers with status {0}: {1}")]
    Status(u16, String),
    /// The connection was lost.
    #[error("the connection was lost: {0}")]
    Disconnected(String),
    /// The stream ended before the first event.
    #[error("the API server closes the stream immediately")]
    EmptyStream,
    /// No data within a timeout.
    #[error("no data from the API server for {} seconds", .0.as_secs_f32())]
    TimedOut(Duration),
    /// The response is not valid for the API.
    #[error("the API server's response is malformed: {0}")]
    Malformed(String),
    /// The receiver of the events was dropped.
    #[error("stopped")]
    ReceiverClosed,
}

/// `meta/v1 Status`, the API's form of an error.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
    reason: String,
}

impl Status {
    /// The message, otherwise the reason.
    fn text(self) -> String {
        match (self.message.is_empty(), self.reason.is_empty()) {
            (false, _) => self.message,
            (true, false) => self.reason,
            (true, true) => "no reason given".into(),
        }
    }
}

impl WatchError {
    /// A request without a response.
    #[allow(clippy::needless_pass_by_value)] // for map_err
    pub(super) fn connect(host: &str, error: kube::Error) -> Self {
        let why = explain::connection(&error);
        let host = host.to_owned();
        Self::Connect { host, why }
    }

    /// A connection lost while reading.
    pub(super) fn disconnected(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Disconnected(explain::connection(error))
    }

    /// An error response.
    pub(super) fn from_response(verb: &'static str, kind: Kind, code: u16, body: &[u8]) -> Self {
        let status: Status = serde_json::from_slice(body).unwrap_or_default();
        Self::from_status(verb, kind, code, status)
    }

    /// An error response to a request that is neither a list nor a watch.
    pub(super) fn from_answer(code: u16, body: &[u8]) -> Self {
        let status: Status = serde_json::from_slice(body).unwrap_or_default();
        let message = status.text();
        match code {
            401 => Self::Unauthorized(message),
            _ => Self::Status(code, message),
        }
    }

    /// The object of an ERROR event.
    pub(super) fn from_event(verb: &'static str, kind: Kind, object: &str) -> Self {
        match serde_json::from_str::<Status>(object) {
            Ok(status) => Self::from_status(verb, kind, status.code, status),
            Err(_) => Self::Malformed("an ERROR event without status".into()),
        }
    }

    fn from_status(verb: &'static str, kind: Kind, code: u16, status: Status) -> Self {
        let message = status.text();
        match code {
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden {
                verb,
                kind,
                message,
            },
            410 => Self::Expired,
            400 | 422 => Self::Unsupported(code, message),
            _ => Self::Status(code, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forbidden_request_names_the_missing_rbac_rule() {
        let body = br#"{"code":403,"message":"User x cannot list y"}"#;
        let text = WatchError::from_response("list", Kind::EndpointSlice, 403, body).to_string();
        for part in [
            r#"apiGroups ["discovery.k8s.io"], resources [endpointslices], verbs [list, watch]"#,
            "User x cannot list y",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let text = WatchError::from_response("watch", Kind::Pod, 403, b"{").to_string();
        assert!(
            text.contains(r#"apiGroups [""], resources [pods]"#),
            "{text}"
        );
    }
}
