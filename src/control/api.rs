//! The routes of the API, and their parameters.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Query, State},
    http::Uri,
    response::Response,
    routing::{get, post},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    Serving, Shared, records,
    respond::{ApiError, duration, json, json_lines},
    status, tail, top,
};
use crate::explain::{ExplainRequest, RequestError};

/// All routes.
pub(super) fn routes(shared: &Arc<Shared>) -> Router {
    Router::new()
        .route("/api/status", get(get_status))
        .route("/api/explain", get(get_explanation))
        .route("/api/namespaces", get(get_namespaces))
        .route("/api/records", get(get_records))
        .route("/api/tail", get(get_tail))
        .route("/api/top", get(get_top))
        .with_state(Arc::clone(shared))
}

/// The routes of the socket: all, and those that only the user of the process may use.
pub(super) fn socket_routes(shared: &Arc<Shared>) -> Router {
    let own = Router::new().route("/api/drain", post(drain));
    routes(shared).merge(own.with_state(Arc::clone(shared)))
}

/// Another process answers at the addresses of this one.
async fn drain(State(shared): State<Arc<Shared>>) -> Response {
    // Kept if nothing waits for it at present, as during a reload.
    shared.taken_over.notify_one();
    json(&std::process::id())
}

/// The parameters of a request; unknown ones are errors.
fn parameters<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    let parsed = Query::try_from_uri(uri).map(|Query(parameters)| parameters);
    parsed.map_err(|error| ApiError::bad_request(crate::error_text::chain(&error.into())))
}

async fn get_status(State(shared): State<Arc<Shared>>) -> Response {
    json(&status::status(&shared))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ExplainParameters {
    name: String,
    #[serde(rename = "type", default = "address_type")]
    rtype: String,
    from: Option<String>,
    listener: Option<String>,
}

fn address_type() -> String {
    "A".to_owned()
}

async fn get_explanation(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
) -> Result<Response, ApiError> {
    let ExplainParameters {
        name,
        rtype,
        from,
        listener,
    } = parameters(&uri)?;
    let from = from.filter(|from| !from.is_empty());
    let refused = |error: RequestError| ApiError::bad_request(error.to_string());
    let request = ExplainRequest::new(&name, &rtype, from.as_deref());
    let mut request = request.map_err(refused)?;
    request.server = listener;
    let serving: Arc<Serving> = shared.serving.load_full();
    let explanation = serving.target.explain(&request).await;
    Ok(json(&explanation.map_err(refused)?))
}

async fn get_namespaces(State(shared): State<Arc<Shared>>) -> Response {
    json(&records::namespaces(&shared.serving.load()))
}

async fn get_records(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Response, ApiError> {
    let selection = parameters(&uri)?;
    let lines = records::lines(&shared.serving.load(), selection)?;
    Ok(json_lines(lines))
}

async fn get_tail(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Response, ApiError> {
    let selection: tail::Selection = parameters(&uri)?;
    Ok(json_lines(tail::lines(&shared.feed, &selection)?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TopParameters {
    #[serde(rename = "for")]
    duration: Option<String>,
    limit: Option<usize>,
}

/// How long queries are counted by default.
const TOP_DURATION: Duration = Duration::from_secs(10);
/// How long they may be counted: nothing is known before the end.
const MAX_TOP_DURATION: Duration = Duration::from_hours(1);
const TOP_LIMIT: usize = 10;

async fn get_top(State(shared): State<Arc<Shared>>, uri: Uri) -> Result<Response, ApiError> {
    let parameters: TopParameters = parameters(&uri)?;
    let limit = parameters.limit.unwrap_or(TOP_LIMIT);
    let duration = match &parameters.duration {
        Some(text) => duration(text)?,
        None => TOP_DURATION,
    };
    if duration.is_zero() || duration > MAX_TOP_DURATION {
        return Err(ApiError::bad_request("'for' is from 1ms to 1h"));
    }
    let serving = shared.serving.load_full();
    let top = top::count(&shared.feed, &serving.clusters, duration, limit).await;
    Ok(json(&top))
}
