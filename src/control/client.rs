//! Requests of the command line to a running server.

use std::{fmt::Write, io, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::{net::UnixStream, time::timeout};

pub use super::{
    records::{Namespace, Record},
    status::{ClusterStatus, Status},
    tail::{Line, TailedQuery},
    top::{KeyCount, Top},
};
use super::{
    respond::ErrorBody,
    socket::{self, Address},
};
use crate::error_text;

/// Why a running server cannot be asked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // the messages describe them
pub enum ClientError {
    #[error("no lodestone server is running here{0}")]
    NoServer(String),
    #[error("several lodestone servers are running here; choose one with --socket:{0}")]
    Several(String),
    #[error("cannot connect to the server at {address}: {}", error_text::io(.source))]
    Connect {
        address: Address,
        #[source]
        source: io::Error,
    },
    #[error("the server at {address}: {message}")]
    Refused { address: Address, message: String },
    #[error("the connection to the server at {address} was lost: {why}")]
    Lost { address: Address, why: String },
}

/// A running server.
#[derive(Debug)]
pub struct Client {
    address: Address,
    stream: UnixStream,
}

/// How long a server may take to describe itself, where there are several.
const PATIENCE: Duration = Duration::from_secs(2);
/// Maximum length of a line in bytes.
const MAX_LINE: usize = 1 << 20;

impl Client {
    /// Connects to the server at `address`; without it, to the only one in this network namespace that this
    /// user may ask.
    ///
    /// # Errors
    /// There is no such server, or more than one.
    pub async fn connect(address: Option<&Address>) -> Result<Self, ClientError> {
        match address {
            Some(address) => Self::connect_to(address).await,
            None => Self::find().await,
        }
    }

    async fn connect_to(address: &Address) -> Result<Self, ClientError> {
        let address = address.clone();
        match socket::connect(&address).await {
            Ok(stream) => Ok(Self { address, stream }),
            Err(source) => Err(ClientError::Connect { address, source }),
        }
    }

    async fn find() -> Result<Self, ClientError> {
        let mut found = Vec::new();
        let mut forbidden = String::new();
        for address in socket::running() {
            match Self::connect_to(&address).await {
                Ok(client) => found.push(client),
                Err(ClientError::Connect { source, .. })
                    if source.kind() == io::ErrorKind::PermissionDenied =>
                {
                    let _ = write!(forbidden, ", except one that cannot be asked: {source}");
                }
                // It has ended meanwhile.
                Err(_) => {}
            }
        }
        match (found.pop(), found.is_empty()) {
            (None, _) => Err(ClientError::NoServer(forbidden)),
            (Some(client), true) => Ok(client),
            (Some(client), false) => {
                found.push(client);
                let mut list = String::new();
                for client in found {
                    let address = client.address.clone();
                    let _ = write!(list, "\n  {address}");
                    if let Ok(Ok(status)) = timeout(PATIENCE, client.get("status", &[])).await {
                        list.push_str(&describe(&status));
                    }
                }
                Err(ClientError::Several(list))
            }
        }
    }

    /// Its address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Requests a value.
    ///
    /// # Errors
    /// The server refuses the request, or the connection is lost.
    pub async fn get<T: DeserializeOwned>(
        self,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let address = self.address.clone();
        let body = self.send(path, parameters).await?;
        decode(address, body).await
    }

    /// Requests a list, one JSON value per line, and calls `each` with every line, until it returns false.
    ///
    /// # Errors
    /// The server refuses the request, or the connection is lost.
    pub async fn lines(
        self,
        path: &str,
        parameters: &[(&str, &str)],
        mut each: impl FnMut(&[u8]) -> bool,
    ) -> Result<(), ClientError> {
        let address = self.address.clone();
        let lost = |why: &str| ClientError::Lost {
            address: address.clone(),
            why: why.to_owned(),
        };
        let mut body = self.send(path, parameters).await?;
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| lost(&error.to_string()))?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            rest.extend_from_slice(&data);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line = rest.split_to(end + 1);
                if !each(&line[..end]) {
                    return Ok(());
                }
            }
            if rest.len() > MAX_LINE {
                return Err(lost("a line is longer than 1 MiB"));
            }
        }
        if rest.is_empty() {
            Ok(())
        } else {
            Err(lost("it ended within a line"))
        }
    }

    /// Tells the server to drain and exit, and returns its process id.
    ///
    /// # Errors
    /// The server refuses the request, or the connection is lost.
    pub async fn drain(self) -> Result<u32, ClientError> {
        let address = self.address.clone();
        let body = self.send_by(Method::POST, "drain", &[]).await?;
        decode(address, body).await
    }

    async fn send(self, path: &str, parameters: &[(&str, &str)]) -> Result<Incoming, ClientError> {
        self.send_by(Method::GET, path, parameters).await
    }

    async fn send_by(
        self,
        method: Method,
        path: &str,
        parameters: &[(&str, &str)],
    ) -> Result<Incoming, ClientError> {
        let Self { address, stream } = self;
        let lost = |why: String| ClientError::Lost {
            address: address.clone(),
            why,
        };
        let mut target = format!("/api/{path}");
        for (number, (name, value)) in parameters.iter().enumerate() {
            let separator = if number == 0 { '?' } else { '&' };
            let value = utf8_percent_encode(value, NON_ALPHANUMERIC);
            let _ = write!(target, "{separator}{name}={value}");
        }
        let request = Request::builder().method(method).uri(target);
        let request = request.header(HOST, "localhost");
        let request = request.body(Empty::<Bytes>::new());
        let request = request.map_err(|error| lost(error.to_string()))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| lost(error.to_string()))?;
        // Its errors are also those of the response.
        tokio::spawn(connection);
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| lost(error.to_string()))?;
        let status = response.status();
        let body = response.into_body();
        if status == StatusCode::OK {
            return Ok(body);
        }
        let body = body
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes);
        let error: Option<ErrorBody> = body.ok().and_then(|it| serde_json::from_slice(&it).ok());
        let message = error.map_or_else(|| status.to_string(), |body| body.error);
        Err(ClientError::Refused { address, message })
    }
}

/// Reads a JSON value.
async fn decode<T: DeserializeOwned>(address: Address, body: Incoming) -> Result<T, ClientError> {
    let value = match body.collect().await {
        Ok(body) => serde_json::from_slice(&body.to_bytes()).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    value.map_err(|why| ClientError::Lost { address, why })
}

/// `  process 1, cluster.local. at dns://:53`
fn describe(status: &Status) -> String {
    let mut text = format!("  process {}", status.pid);
    for zone in status.zones.iter().take(2) {
        let _ = write!(text, ", {} at {}", zone.zone, zone.listener);
    }
    text
}
