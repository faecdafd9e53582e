//! A minimal gRPC server for unary calls.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpListener;

/// A call: path of the method, authentication token, and message.
pub struct Call {
    pub path: String,
    pub token: Option<String>,
    pub message: Vec<u8>,
}

/// A message, or an error status.
pub type Answer = Result<Vec<u8>, u32>;

/// The server, stopped on drop.
pub struct RpcServer {
    pub address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl RpcServer {
    pub fn start(answer: impl Fn(Call) -> Answer + Send + Sync + 'static) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(serve(listener, Arc::new(answer)));
        Self {
            address,
            _runtime: runtime,
        }
    }
}

async fn serve(
    listener: TcpListener,
    answer: Arc<impl Fn(Call) -> Answer + Send + Sync + 'static>,
) {
    while let Ok((stream, _)) = listener.accept().await {
        let answer = Arc::clone(&answer);
        tokio::spawn(async move {
            let respond = move |request| respond(request, Arc::clone(&answer));
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(respond))
                .await;
        });
    }
}

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

async fn respond(
    request: Request<Incoming>,
    answer: Arc<impl Fn(Call) -> Answer>,
) -> Result<Response<Body>, std::convert::Infallible> {
    let (head, body) = request.into_parts();
    assert_eq!(head.headers["content-type"], "application/grpc");
    assert_eq!(head.headers["te"], "trailers");
    let body = body.collect().await.unwrap().to_bytes();
    assert_eq!(body[0], 0, "not compressed");
    assert_eq!(
        u32::from_be_bytes(body[1..5].try_into().unwrap()) as usize,
        body.len() - 5
    );
    let token = head.headers.get("token");
    let answered = answer(Call {
        path: head.uri.path().to_owned(),
        token: token.map(|token| token.to_str().unwrap().to_owned()),
        message: body[5..].to_vec(),
    });
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(match answered {
        Err(code) => {
            let response = response.header("grpc-status", code);
            response.body(Full::default().boxed()).unwrap()
        }
        Ok(message) => {
            let mut framed = vec![0];
            framed.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
            framed.extend(message);
            let trailers = async {
                let zero = HeaderValue::from_static("0");
                Some(Ok(HeaderMap::from_iter([(
                    "grpc-status".parse().unwrap(),
                    zero,
                )])))
            };
            let body = Full::new(Bytes::from(framed)).with_trailers(trailers);
            response.body(body.boxed()).unwrap()
        }
    })
}
