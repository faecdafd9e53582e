//! Queries as they are answered, one by one.

use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use axum::body::Bytes;
use futures_util::{Stream, stream};
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tokio::{sync::mpsc, time::Instant};

use super::respond::{ApiError, duration};
use crate::{
    authority::presentation::presentation,
    corefile::nearest,
    query_feed::{AnsweredQuery, QueryFeed, QueryWatcher, Subscription},
    reply::{Reply, Section},
    wire::{NameRef, Rcode},
};

/// An answered query.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TailedQuery {
    /// When it was answered (RFC 3339).
    pub time: String,
    /// Address of the client.
    pub client: IpAddr,
    /// `udp` or `tcp`.
    pub protocol: String,
    /// The queried name.
    pub name: String,
    /// The queried type.
    #[serde(rename = "type")]
    pub rtype: String,
    /// The response code.
    pub rcode: String,
    /// Name of the reason, as in metrics; `None` where there is an answer.
    pub reason: Option<String>,
    /// Why there is no answer; `None` where there is one.
    pub text: Option<String>,
    /// Data of the first records of the answer.
    pub answer: Vec<String>,
    /// Duration in microseconds.
    pub took_us: u64,
}

/// A line of the list.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Line {
    /// A query.
    Query(Box<TailedQuery>),
    /// A number of queries that are not in the list, because its reader was too slow.
    Missed {
        /// The number.
        missed: u64,
    },
}

/// Queries that are ready before they are read. Further ones are counted.
const READY_QUERIES: usize = 1024;
/// Records of an answer in a line.
const MAX_RECORDS: usize = 4;

/// The parameters of a request.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Selection {
    rcode: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    client: Option<String>,
    #[serde(rename = "for")]
    duration: Option<String>,
}

/// Which queries are wanted.
#[derive(Debug)]
struct Filter {
    /// Empty for all.
    rcodes: Vec<Rcode>,
    namespace: Option<String>,
    /// Part of the name, in lower case.
    name: Option<String>,
    client: Option<IpNet>,
}

impl Filter {
    fn new(selection: &Selection) -> Result<Self, ApiError> {
        let rcodes = selection.rcode.as_deref().unwrap_or_default();
        let rcodes = rcodes.split(',').filter(|rcode| !rcode.is_empty());
        let rcodes = rcodes.map(|text| {
            let rcode: Result<Rcode, _> = text.parse();
            rcode.map_err(|unknown| {
                let hint = nearest(text, Rcode::names());
                let hint = hint.map(|name| format!("; did you mean {name}?"));
                ApiError::bad_request(format!("{unknown}{}", hint.unwrap_or_default()))
            })
        });
        let client = selection.client.as_deref().map(|text| {
            let address = text.parse::<IpAddr>().map(IpNet::from);
            let network = address.or_else(|_| text.parse());
            let wrong = |_| ApiError::bad_request(format!("'{text}' is no address or network"));
            network.map_err(wrong)
        });
        Ok(Self {
            rcodes: rcodes.collect::<Result<_, _>>()?,
            namespace: selection.namespace.clone(),
            name: selection.name.as_ref().map(|it| it.to_ascii_lowercase()),
            client: client.transpose()?,
        })
    }

    fn includes(&self, answered: &AnsweredQuery<'_>) -> bool {
        let query = answered.query;
        let name = query.original.name.as_ref();
        let rcodes = &self.rcodes;
        (rcodes.is_empty() || rcodes.contains(&answered.reply.rcode))
            && self.client.is_none_or(|it| it.contains(&client(answered)))
            && self.namespace.as_deref().is_none_or(|it| is_in(it, name))
            && self.name.as_deref().is_none_or(|it| {
                let name = name.to_string().to_ascii_lowercase();
                name.contains(it)
            })
    }
}

/// Whether a name has the form `....NAMESPACE.svc....`.
fn is_in(namespace: &str, name: NameRef<'_>) -> bool {
    let mut labels = name.labels().peekable();
    while let Some(label) = labels.next() {
        if label.eq_ignore_ascii_case(namespace.as_bytes())
            && labels
                .peek()
                .is_some_and(|it| it.eq_ignore_ascii_case(b"svc"))
        {
            return true;
        }
    }
    false
}

/// The client's address; a dual-stack socket has IPv4 clients as IPv4-mapped addresses.
pub(super) fn client(answered: &AnsweredQuery<'_>) -> IpAddr {
    answered.query.client.ip().to_canonical()
}

struct Tail {
    filter: Filter,
    sender: mpsc::Sender<TailedQuery>,
    missed: Arc<AtomicU64>,
}

impl QueryWatcher for Tail {
    fn on_answered(&self, answered: &AnsweredQuery<'_>) {
        if !self.filter.includes(answered) {
            return;
        }
        // Before the query is formatted, which costs more than its answer.
        match self.sender.try_reserve() {
            Ok(slot) => slot.send(TailedQuery::new(answered)),
            Err(_) => {
                self.missed.fetch_add(1, Relaxed);
            }
        }
    }
}

impl TailedQuery {
    fn new(answered: &AnsweredQuery<'_>) -> Self {
        let AnsweredQuery { query, reply, .. } = *answered;
        let text = answered.reason();
        Self {
            time: format!("{:.3}", jiff::Timestamp::now()),
            client: client(answered),
            protocol: query.transport.label().to_owned(),
            name: query.original.name.to_string(),
            rtype: query.original.rtype.to_string(),
            rcode: reply.rcode.to_string(),
            reason: text.as_ref().map(|_| reply.why.name().to_owned()),
            text: text.map(|text| text.as_str().to_owned()),
            answer: answer(reply),
            took_us: u64::try_from(answered.took.as_micros()).unwrap_or(u64::MAX),
        }
    }
}

fn answer(reply: &Reply) -> Vec<String> {
    let records = reply.section(Section::Answer);
    let texts = records.iter().take(MAX_RECORDS).map(|record| {
        let data = reply.data(record);
        presentation(record.rtype, data, 0..data.len(), 0)
    });
    let mut texts: Vec<String> = texts.collect();
    if let Some(more) = records.len().checked_sub(MAX_RECORDS).filter(|it| *it > 0) {
        texts.push(format!("... {more} more"));
    }
    texts
}

/// The queue between the threads that answer queries and the client.
struct Queue {
    receiver: mpsc::Receiver<TailedQuery>,
    missed: Arc<AtomicU64>,
    end: Option<Instant>,
    _subscription: Subscription,
}

/// One line for each query that is answered from now on.
pub(super) fn lines(
    feed: &Arc<QueryFeed>,
    selection: &Selection,
) -> Result<impl Stream<Item = Result<Bytes, Infallible>> + use<>, ApiError> {
    let filter = Filter::new(selection)?;
    let duration: Option<Duration> = match &selection.duration {
        Some(text) => Some(duration(text)?),
        None => None,
    };
    let (sender, receiver) = mpsc::channel(READY_QUERIES);
    let missed = Arc::new(AtomicU64::new(0));
    let tail = Tail {
        filter,
        sender,
        missed: Arc::clone(&missed),
    };
    let queue = Queue {
        receiver,
        missed,
        // A duration beyond the clock's range has no end.
        end: duration.and_then(|it| Instant::now().checked_add(it)),
        _subscription: feed.subscribe(Arc::new(tail)),
    };
    Ok(stream::unfold(queue, async |mut queue| {
        let line = queue.next().await?;
        let mut text = serde_json::to_vec(&line).unwrap_or_default();
        text.push(b'\n');
        Some((Ok(Bytes::from(text)), queue))
    }))
}

impl Queue {
    async fn next(&mut self) -> Option<Line> {
        let missed = self.missed.swap(0, Relaxed);
        if missed > 0 {
            return Some(Line::Missed { missed });
        }
        let next = self.receiver.recv();
        let query = match self.end {
            Some(end) => tokio::time::timeout_at(end, next).await.ok()??,
            None => next.await?,
        };
        Some(Line::Query(Box::new(query)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        query::{Query, Question, Request},
        wire::{Class, Name, Type},
    };
    use futures_util::StreamExt;

    fn publish(feed: &QueryFeed, name: &str, rcode: Rcode) {
        let name = Name::parse(name).unwrap();
        let query = Query::new(Request::internal(Question::new(name, Type::A, Class::IN)));
        let reply = Reply::failure(rcode, crate::reply::Why::NoSuchService);
        feed.publish(&AnsweredQuery {
            query: &query,
            reply: &reply,
            took: Duration::from_micros(7),
            describe: &|text| text.push("because"),
        });
    }

    fn selection(pairs: &str) -> Selection {
        let uri = format!("/?{pairs}").parse().unwrap();
        axum::extract::Query::try_from_uri(&uri).unwrap().0
    }

    #[tokio::test]
    async fn filters_apply_together() {
        let feed = Arc::new(QueryFeed::default());
        let wanted = selection("rcode=nxdomain,SERVFAIL&namespace=shop&name=WEB");
        let mut lines = Box::pin(lines(&feed, &wanted).unwrap());
        publish(&feed, "web.shop.svc.cluster.local.", Rcode::NOERROR);
        publish(&feed, "web.pay.svc.cluster.local.", Rcode::NXDOMAIN);
        publish(&feed, "db.shop.svc.cluster.local.", Rcode::NXDOMAIN);
        publish(&feed, "Web.Shop.svc.cluster.local.", Rcode::SERVFAIL);
        let line = lines.next().await.unwrap().unwrap();
        let query: TailedQuery = serde_json::from_slice(&line).unwrap();
        assert_eq!(query.name, "Web.Shop.svc.cluster.local.");
        assert_eq!((&*query.rcode, query.took_us), ("SERVFAIL", 7));
        assert_eq!(query.text.as_deref(), Some("because"));
    }

    #[tokio::test]
    async fn a_slow_reader_learns_how_many_it_missed() {
        let feed = Arc::new(QueryFeed::default());
        let mut lines = Box::pin(lines(&feed, &Selection::default()).unwrap());
        for _ in 0..READY_QUERIES + 5 {
            publish(&feed, "web.shop.svc.cluster.local.", Rcode::NXDOMAIN);
        }
        assert_eq!(lines.next().await.unwrap().unwrap(), "{\"missed\":5}\n");
        drop(lines);
        assert!(!feed.is_watched());
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_ends_after_its_time() {
        let feed = Arc::new(QueryFeed::default());
        let mut lines = Box::pin(lines(&feed, &selection("for=60s")).unwrap());
        assert!(lines.next().await.is_none());
    }

    #[test]
    fn wrong_parameters_are_refused() {
        let feed = Arc::new(QueryFeed::default());
        for wrong in ["rcode=NXDOMIAN", "client=10.0.0", "for=60"] {
            assert!(lines(&feed, &selection(wrong)).is_err(), "{wrong}");
        }
        let uri = "/?rcodes=NXDOMAIN".parse().unwrap();
        let parsed: Result<axum::extract::Query<Selection>, _> =
            axum::extract::Query::try_from_uri(&uri);
        assert!(parsed.is_err());
    }
}
