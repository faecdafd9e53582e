//! Responses: status objects, pages of a list, and watch streams.

use super::store::{Filter, Stored, event, named};
use super::{Fault, Shared, StreamedLists};
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use lodestone::cluster::Kind;
use serde_json::json;
use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Number of lists that can be continued.
const MAX_PAGED_LISTS: usize = 64;

type Part = Result<Bytes, io::Error>;

/// An error response with a Status object as its body.
pub fn status(code: u16) -> Response {
    let body =
        json!({"kind": "Status", "code": code, "status": "Failure", "message": "on request"});
    let code = StatusCode::from_u16(code).unwrap();
    (code, [JSON], body.to_string()).into_response()
}

/// Content type, which some clients require.
const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

/// The version of the server.
pub fn version() -> Response {
    ([JSON], json!({"gitVersion": "v1.36.0"}).to_string()).into_response()
}

/// A SelfSubjectAccessReview with its status: allowed unless denied.
pub fn review(denied: &[(String, String)], body: &[u8]) -> Response {
    let mut review: serde_json::Value = serde_json::from_slice(body).unwrap();
    let asked = &review["spec"]["resourceAttributes"];
    let is_denied = denied
        .iter()
        .any(|(verb, resource)| asked["verb"] == *verb && asked["resource"] == *resource);
    review["status"] = json!({"allowed": !is_denied});
    (StatusCode::CREATED, [JSON], review.to_string()).into_response()
}

/// A page of a list. A continuation is the version of the list, its number, and the number of objects before
/// it; its objects are those at the first page. Only metadata, if the client prefers it.
pub fn list(
    shared: &Shared,
    kind: Kind,
    query: &HashMap<String, String>,
    fault: Option<Fault>,
    metadata_only: bool,
) -> Response {
    let mut inner = shared.inner.lock();
    let token = query.get("continue").map(|it| {
        let numbers = it.split('.').map(|number| number.parse().unwrap());
        <[u64; 3]>::try_from(numbers.collect::<Vec<_>>()).unwrap()
    });
    // As the real one: "specifying resource version is not allowed when using continue".
    if token.is_some() && query.contains_key("resourceVersion") {
        return status(400);
    }
    let [version, list, after] = token.unwrap_or([inner.store.version, inner.next_list, 0]);
    let after = usize::try_from(after).unwrap();
    let wanted = query.get("resourceVersion").map(|it| it.parse::<u64>());
    if wanted.is_some_and(|wanted| wanted.unwrap() > version) {
        return status(504);
    }
    if version < inner.store.oldest {
        return status(410);
    }
    let limit = query
        .get("limit")
        .map_or(usize::MAX, |limit| limit.parse().unwrap());
    let limit = if inner.refuse_pages && limit == usize::MAX {
        limit
    } else {
        limit.min(inner.page)
    };
    let filter = Filter::new(query);
    let all = if token.is_none() {
        Arc::new(inner.store.list(kind, &filter))
    } else {
        match inner.paged_lists.iter().find(|(it, _)| *it == list) {
            Some((_, objects)) => Arc::clone(objects),
            None => return status(410),
        }
    };
    let objects = &all[after..];
    let more = objects.len() > limit;
    if more && token.is_none() {
        inner.next_list += 1;
        inner.paged_lists.push_back((list, Arc::clone(&all)));
        if inner.paged_lists.len() > MAX_PAGED_LISTS {
            inner.paged_lists.pop_front();
        }
    }
    drop(inner);
    let text = |it: &Arc<Stored>| {
        if metadata_only {
            it.metadata()
        } else {
            it.text.clone()
        }
    };
    let mut items: Vec<_> = objects.iter().take(limit).map(text).collect();
    match &fault {
        Some(Fault::Insert(item)) => items.insert(0, item.clone()),
        Some(Fault::Long(length)) => {
            items.insert(0, format!("{{\"x\":\"{}\"}}", "x".repeat(*length)));
        }
        _ => {}
    }
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if more {
        metadata["continue"] = json!(format!("{version}.{list}.{}", after + limit));
    }
    let (version, name) = match named(kind) {
        _ if metadata_only => ("meta.k8s.io/v1", "PartialObjectMetadata"),
        named => named,
    };
    let text = format!(
        "{{\"kind\":\"{name}List\",\"apiVersion\":\"{version}\",\"metadata\":{metadata},\"items\":[{}]}}\n",
        items.join(",")
    );
    shared.inner.lock().list_bytes += text.len();
    let (sender, body) = channel();
    tokio::spawn(async move {
        match fault {
            Some(Fault::Stall) => sender.closed().await,
            Some(Fault::Cut) => cut(&sender, &text).await,
            _ => drop(sender.send(Ok(text.into())).await),
        }
    });
    ([JSON], body).into_response()
}

/// A watch stream, until the client disconnects.
pub fn watch(
    shared: Arc<Shared>,
    kind: Kind,
    query: &HashMap<String, String>,
    fault: Option<Fault>,
) -> Response {
    let filter = Filter::new(query);
    let inner = shared.inner.lock();
    let mut opening = Vec::new();
    let from = match query
        .get("resourceVersion")
        .map(|it| it.parse::<u64>().unwrap())
    {
        Some(version) if version < inner.store.oldest => return status(410),
        // The response to a future version, after waiting for it.
        Some(version) if version > inner.store.version => return status(504),
        Some(version) => version,
        None => {
            if let StreamedLists::Refused(code) = inner.streamed_lists {
                return status(code);
            }
            let all = inner.store.list(kind, &filter);
            opening.extend(all.iter().map(|it| event("ADDED", &it.text)));
            if inner.streamed_lists == StreamedLists::Spoken {
                let annotations = json!({"k8s.io/initial-events-end": "true"});
                opening.push(bookmark(kind, inner.store.version, &annotations));
            }
            inner.store.version
        }
    };
    drop(inner);
    match &fault {
        Some(Fault::Insert(line)) => opening.insert(0, line.clone() + "\n"),
        Some(Fault::Long(length)) => opening.insert(0, "x".repeat(*length) + "\n"),
        Some(Fault::Error(code)) => {
            let status = json!({"kind": "Status", "code": code, "message": "on request"});
            opening.insert(0, event("ERROR", &status.to_string()));
        }
        _ => {}
    }
    let (sender, body) = channel();
    tokio::spawn(async move {
        match fault {
            Some(Fault::Stall) => sender.closed().await,
            Some(Fault::End) => {}
            _ => follow(&shared, kind, &filter, opening, from, fault, &sender).await,
        }
    });
    ([JSON], body).into_response()
}

/// Sends the initial events, then each change. Ends when the client disconnects.
async fn follow(
    shared: &Shared,
    kind: Kind,
    filter: &Filter,
    opening: Vec<String>,
    mut version: u64,
    fault: Option<Fault>,
    sender: &mpsc::Sender<Part>,
) {
    let mut changed = shared.changed.subscribe();
    let (mut bookmarks, hang_ups) = {
        let inner = shared.inner.lock();
        (inner.bookmarks, inner.hang_ups)
    };
    let mut lines = opening;
    loop {
        {
            let inner = shared.inner.lock();
            if inner.hang_ups > hang_ups {
                return;
            }
            lines.extend(
                inner
                    .store
                    .since(kind, version)
                    .iter()
                    .filter_map(|it| it.event(filter)),
            );
            version = version.max(inner.store.version);
            if inner.bookmarks > bookmarks {
                bookmarks = inner.bookmarks;
                lines.push(bookmark(kind, version, &json!({})));
            }
        }
        let enough = lines.len() >= 2;
        match &fault {
            Some(Fault::Cut) if !lines.is_empty() => return cut(sender, &lines[0]).await,
            Some(Fault::Twice) => {
                lines = lines.into_iter().flat_map(|it| [it.clone(), it]).collect();
            }
            Some(Fault::Reorder) if enough => lines.reverse(),
            _ => {}
        }
        if !matches!(fault, Some(Fault::Reorder)) || enough {
            for line in lines.drain(..) {
                if sender.send(Ok(line.into())).await.is_err() {
                    return;
                }
            }
        }
        tokio::select! {
            result = changed.changed() => if result.is_err() { return },
            () = sender.closed() => return,
        }
    }
}

fn bookmark(kind: Kind, version: u64, annotations: &serde_json::Value) -> String {
    let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
    let (version, name) = named(kind);
    let object = json!({"apiVersion": version, "kind": name, "metadata": metadata});
    event("BOOKMARK", &object.to_string())
}

/// Sends the first half and breaks the connection.
async fn cut(sender: &mpsc::Sender<Part>, text: &str) {
    let half = text.as_bytes()[..text.len() / 2].to_vec();
    let _ = sender.send(Ok(half.into())).await;
    let _ = sender.send(Err(io::Error::other("cut on request"))).await;
}

fn channel() -> (mpsc::Sender<Part>, Body) {
    let (sender, receiver) = mpsc::channel::<Part>(64);
    let parts = futures_util::stream::unfold(receiver, |mut receiver| async {
        receiver.recv().await.map(|part| (part, receiver))
    });
    (sender, Body::from_stream(parts))
}
