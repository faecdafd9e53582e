//! What goes wrong between a watch and the API server.

use super::super::event::Kind;
use super::fault;
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
    #[error(
        "the API server does not accept the credentials (401); are the token or the client \
         certificate this cluster's, and not expired? It says: {0}"
    )]
    Unauthorized(String),
    /// 403.
    #[error(
        "{verb} is forbidden (403): let the ClusterRole of this program have a rule with apiGroups \
         [{:?}], resources [{}], verbs [list, watch]. The API server says: {message}",
        .kind.group(), .kind.resource()
    )]
    Forbidden {
        /// What was asked for, as RBAC calls it.
        verb: &'static str,
        /// Of what.
        kind: Kind,
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
        let why = fault::connection(&error);
        let host = host.to_owned();
        Self::Connect { host, why }
    }

    /// The connection broke in the middle.
    pub(super) fn broken(error: &(dyn std::error::Error + 'static)) -> Self {
        Self::Broken(fault::connection(error))
    }

    /// A response that says no.
    pub(super) fn refused(verb: &'static str, kind: Kind, code: u16, body: &[u8]) -> Self {
        let status: Status = serde_json::from_slice(body).unwrap_or_default();
        Self::of(verb, kind, code, status)
    }

    /// The object of an ERROR event.
    pub(super) fn told(verb: &'static str, kind: Kind, object: &str) -> Self {
        match serde_json::from_str::<Status>(object) {
            Ok(status) => Self::of(verb, kind, status.code, status),
            Err(_) => Self::Malformed("an ERROR event without status".into()),
        }
    }

    fn of(verb: &'static str, kind: Kind, code: u16, status: Status) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forbidden_says_what_to_allow() {
        let body = br#"{"code":403,"message":"User x cannot list y"}"#;
        let text = Failure::refused("list", Kind::Slice, 403, body).to_string();
        for part in [
            r#"apiGroups ["discovery.k8s.io"], resources [endpointslices], verbs [list, watch]"#,
            "User x cannot list y",
        ] {
            assert!(text.contains(part), "{text}");
        }
        let text = Failure::refused("watch", Kind::Pod, 403, b"{").to_string();
        assert!(
            text.contains(r#"apiGroups [""], resources [pods]"#),
            "{text}"
        );
    }
}
