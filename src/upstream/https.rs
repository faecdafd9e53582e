//! Questions over HTTPS (RFC 8484): requests on one kept HTTP/2 connection.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Method, Request, header};

use super::{
    failure::Failure,
    http2::{self, Answer, Sender},
    line::Line,
    meter::Account,
    packet::{MAX_QUERY, Packet},
    target::DohMethod,
    tls::Tls,
};
use crate::{reply::Reply, wire::MAX_MESSAGE};

/// What DNS messages are called in HTTP.
const MESSAGE: &str = "application/dns-message";

/// The connection to one upstream.
#[derive(Debug)]
pub(super) struct Https {
    server: SocketAddr,
    source: Option<IpAddr>,
    tls: Tls,
    /// `https://HOST[:PORT]/dns-query`
    address: String,
    method: DohMethod,
    line: Arc<Line<Sender>>,
    account: Arc<Account>,
}

impl Https {
    pub(super) fn new(
        server: SocketAddr,
        source: Option<IpAddr>,
        tls: Tls,
        method: DohMethod,
        line: Arc<Line<Sender>>,
        account: Arc<Account>,
    ) -> Self {
        // The server goes by the name that it proves; where that is its address, by that.
        let authority = match (tls.name().to_str(), server.port()) {
            (name, _) if name.parse::<IpAddr>().is_ok() && server.port() != 443 => {
                server.to_string()
            }
            (name, _) if name.contains(':') => format!("[{name}]"),
            (name, 443) => name.into_owned(),
            (name, port) => format!("{name}:{port}"),
        };
        Self {
            server,
            source,
            tls,
            address: format!("https://{authority}/dns-query"),
            method,
            line,
            account,
        }
    }

    /// Asks and waits for as long as the caller does.
    pub(super) async fn exchange(&self, packet: &Packet) -> Result<Reply, Failure> {
        let dial = || {
            let (tls, account) = (self.tls.clone(), Arc::clone(&self.account));
            http2::connect(self.server, self.source, Some(tls), move |local| {
                account.connected(local);
            })
        };
        let ask = |sender| async {
            let answer = http2::send(sender, self.request(packet)?, MAX_MESSAGE).await?;
            Ok(self.read(packet, &answer)?)
        };
        self.line.ask(dial, ask).await
    }

    fn request(&self, packet: &Packet) -> Result<Request<Bytes>, Failure> {
        let mut room = [0; MAX_QUERY];
        // The same question is to be the same request (RFC 8484 §4.1).
        let octets = packet.under(0, &mut room);
        let request = Request::builder().header(header::ACCEPT, MESSAGE);
        let request = match self.method {
            DohMethod::Post => request
                .method(Method::POST)
                .uri(&self.address)
                .header(header::CONTENT_TYPE, MESSAGE)
                .body(Bytes::copy_from_slice(octets)),
            DohMethod::Get => {
                let text = URL_SAFE_NO_PAD.encode(octets);
                request
                    .method(Method::GET)
                    .uri(format!("{}?dns={text}", self.address))
                    .body(Bytes::new())
            }
        };
        // A name that TLS takes may yet be none that HTTP takes.
        request.map_err(|_| Failure::Unreachable(std::io::ErrorKind::InvalidInput))
    }

    fn read(&self, packet: &Packet, answer: &Answer) -> Result<Reply, Failure> {
        if answer.status != 200 {
            return Err(Failure::Http(answer.status));
        }
        let kind = answer.head.get(header::CONTENT_TYPE);
        if kind.is_none_or(|kind| kind != MESSAGE) {
            return Err(self.account.wrong());
        }
        self.account.read(packet, &answer.body)
    }
}
