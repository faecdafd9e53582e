//! TCP: pipelining, limits and timeouts.

use std::time::{Duration, Instant};

use lodestone::{
    server::limits::{Limits, StreamSettings},
    wire::Rcode,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    client::{ask_udp, framed, next, query, rcode, read, send, with_id},
    plugins::{Serving, serve, serve_with},
};

async fn connect(serving: &Serving) -> TcpStream {
    TcpStream::connect(serving.at).await.unwrap()
}

fn with_settings(change: impl FnOnce(&mut StreamSettings)) -> Serving {
    serve_with(Limits::default(), |wanted| change(&mut wanted.streams))
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_query_does_not_delay_later_ones() {
    let serving = serve();
    let mut stream = connect(&serving).await;
    let mut together = framed(&with_id(query("wait.test"), 1));
    together.extend(framed(&with_id(query("a.test"), 2)));
    together.extend(framed(&with_id(query("a.test"), 3)));
    stream.write_all(&together).await.unwrap();
    let first = read(&next(&mut stream).await.unwrap());
    let second = read(&next(&mut stream).await.unwrap());
    assert_eq!((first.header.id, second.header.id), (2, 3));
    serving.plugin.release.add_permits(1);
    let last = read(&next(&mut stream).await.unwrap());
    assert_eq!((last.header.id, last.reply.rcode), (1, Rcode::NOERROR));
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_in_one_segment_are_answered_in_one_segment() {
    let serving = serve();
    let mut stream = connect(&serving).await;
    let together: Vec<u8> = (0..8)
        .flat_map(|id| framed(&with_id(query("a.test"), id)))
        .collect();
    let length = together.len() + 8 * 16;
    stream.write_all(&together).await.unwrap();
    let mut buffer = vec![0; 4096];
    let read = stream.read(&mut buffer).await.unwrap();
    assert_eq!(
        read, length,
        "eight replies, each with an answer of 16 bytes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn fragmented_and_coalesced_messages_are_reassembled() {
    let serving = serve();
    let mut stream = connect(&serving).await;
    stream.set_nodelay(true).unwrap();
    let mut bytes = framed(&with_id(query("a.test"), 1));
    bytes.extend(framed(&with_id(query("a.test"), 2)));
    let (first, rest) = bytes.split_at(40);
    for byte in first {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    assert_eq!(read(&next(&mut stream).await.unwrap()).header.id, 1);
    stream.write_all(rest).await.unwrap();
    assert_eq!(read(&next(&mut stream).await.unwrap()).header.id, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_pipelined_queries_are_answered() {
    let serving = serve();
    let (mut reader, mut writer) = connect(&serving).await.into_split();
    // More than all buffers hold: the server must stop reading while it cannot write.
    let writing = tokio::spawn(async move {
        for id in 0..2_000 {
            let name = if id % 100 == 0 {
                "alias.test"
            } else {
                "big.test"
            };
            writer
                .write_all(&framed(&with_id(query(name), id)))
                .await
                .unwrap();
        }
        writer
    });
    let mut seen = vec![false; 2_000];
    for _ in 0..2_000 {
        let reply = read(&next(&mut reader).await.unwrap());
        assert!(!std::mem::replace(
            &mut seen[usize::from(reply.header.id)],
            true
        ));
        let answers = if reply.header.id.is_multiple_of(100) {
            2
        } else {
            200
        };
        assert_eq!(reply.header.counts[1], answers);
    }
    drop(writing.await.unwrap());
    assert!(next(&mut reader).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_in_flight_per_connection_are_limited() {
    let serving = with_settings(|settings| settings.in_flight = 2);
    let mut stream = connect(&serving).await;
    let together: Vec<u8> = (1..=4)
        .flat_map(|id| framed(&with_id(query("wait.test"), id)))
        .chain(framed(&with_id(query("a.test"), 5)))
        .collect();
    stream.write_all(&together).await.unwrap();
    serving.begun(2).await;
    // Other connections are not delayed.
    let mut other = connect(&serving).await;
    send(&mut other, &query("a.test")).await;
    assert!(next(&mut other).await.is_some());
    assert_eq!(
        serving.plugin.begun.available_permits(),
        0,
        "only two have begun"
    );
    serving.plugin.release.add_permits(4);
    for _ in 0..5 {
        assert_eq!(rcode(&next(&mut stream).await.unwrap()), Rcode::NOERROR);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_and_idle_clients_are_disconnected() {
    let serving = with_settings(|settings| {
        settings.first_query = Duration::from_millis(50);
        settings.idle = Duration::from_millis(300);
    });
    let start = Instant::now();
    let mut silent = connect(&serving).await;
    assert!(next(&mut silent).await.is_none());
    let silent = start.elapsed();
    assert!(silent >= Duration::from_millis(50), "{silent:?}");

    let start = Instant::now();
    let mut idle = connect(&serving).await;
    send(&mut idle, &query("a.test")).await;
    assert!(next(&mut idle).await.is_some());
    assert!(next(&mut idle).await.is_none());
    let idle = start.elapsed();
    assert!(idle >= Duration::from_millis(300), "{idle:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_messages_do_not_extend_the_idle_timeout() {
    let serving = with_settings(|settings| settings.first_query = Duration::from_millis(50));
    let mut stream = connect(&serving).await;
    send(&mut stream, &[]).await;
    send(&mut stream, &[0; 5]).await;
    stream.write_all(&[0xFF]).await.unwrap();
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_with_pending_queries_is_not_idle() {
    let serving = with_settings(|settings| {
        settings.first_query = Duration::from_millis(20);
        settings.idle = Duration::from_millis(20);
    });
    let mut stream = connect(&serving).await;
    send(&mut stream, &query("wait.test")).await;
    serving.begun(1).await;
    // Meanwhile another connection is closed by the idle timeout.
    assert!(next(&mut connect(&serving).await).await.is_none());
    serving.plugin.release.add_permits(1);
    assert_eq!(rcode(&next(&mut stream).await.unwrap()), Rcode::NOERROR);
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_before_a_half_close_are_answered() {
    let serving = serve();
    let mut stream = connect(&serving).await;
    send(&mut stream, &query("wait.test")).await;
    stream.shutdown().await.unwrap();
    serving.begun(1).await;
    serving.plugin.release.add_permits(1);
    assert_eq!(rcode(&next(&mut stream).await.unwrap()), Rcode::NOERROR);
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn maxtcpqueries_limits_queries_per_connection() {
    let serving = with_settings(|settings| settings.queries = Some(2));
    let mut stream = connect(&serving).await;
    let together: Vec<u8> = (1..=3)
        .flat_map(|id| framed(&with_id(query("a.test"), id)))
        .collect();
    stream.write_all(&together).await.unwrap();
    for id in 1..=2 {
        assert_eq!(read(&next(&mut stream).await.unwrap()).header.id, id);
    }
    assert!(next(&mut stream).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn new_connection_evicts_the_longest_idle_one() {
    let limits = Limits {
        connections: 2,
        ..Limits::default()
    };
    let serving = serve_with(limits, |_| {});
    let mut busy = connect(&serving).await;
    send(&mut busy, &query("wait.test")).await;
    serving.begun(1).await;
    let mut idle = connect(&serving).await;
    send(&mut idle, &query("a.test")).await;
    assert!(next(&mut idle).await.is_some());

    let mut third = connect(&serving).await;
    send(&mut third, &query("wait.test")).await;
    assert!(next(&mut idle).await.is_none(), "the idle one is closed");
    serving.begun(1).await;
    // Both are busy now: a fourth is refused; UDP is not affected.
    let mut fourth = connect(&serving).await;
    assert!(fourth.read_u8().await.is_err());
    let reply = ask_udp(serving.at, &query("a.test")).await;
    assert_eq!(rcode(&reply), Rcode::NOERROR);
    serving.plugin.release.add_permits(2);
    for stream in [&mut busy, &mut third] {
        assert_eq!(rcode(&next(stream).await.unwrap()), Rcode::NOERROR);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_that_does_not_read_is_disconnected() {
    let serving = with_settings(|settings| {
        settings.write = Duration::from_millis(100);
        settings.idle = Duration::from_mins(1);
    });
    let mut stream = connect(&serving).await;
    let question = framed(&query("big.test"));
    // The client sends and never reads: the server closes the connection, so writing fails eventually.
    let asking = async { while stream.write_all(&question).await.is_ok() {} };
    let gave_up = tokio::time::timeout(Duration::from_secs(20), asking).await;
    assert!(gave_up.is_ok());
}

/// A connection from 127.0.0.`last`.
async fn connect_from(last: u8, serving: &Serving) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, last], 0).into()).unwrap();
    socket.connect(serving.at).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_read_are_evicted() {
    let limits = Limits {
        connections: 4,
        ..Limits::default()
    };
    let serving = serve_with(limits, |wanted| {
        wanted.streams.write = Duration::from_mins(10);
        wanted.streams.idle = Duration::from_mins(10);
    });
    let mut deaf = Vec::new();
    for _ in 0..4 {
        let (reader, mut writer) = connect(&serving).await.into_split();
        // A query that stays pending: the connection is not idle.
        writer
            .write_all(&framed(&query("wait.test")))
            .await
            .unwrap();
        serving.begun(1).await;
        let question = framed(&query("big.test"));
        let asking =
            tokio::spawn(async move { while writer.write_all(&question).await.is_ok() {} });
        deaf.push((reader, asking));
    }
    for _ in 0..12 {
        let mut stream = connect(&serving).await;
        send(&mut stream, &query("a.test")).await;
        assert_eq!(rcode(&next(&mut stream).await.unwrap()), Rcode::NOERROR);
    }
    for (_, asking) in deaf {
        asking.abort();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_with_the_most_connections_is_evicted_first() {
    let limits = Limits {
        connections: 3,
        ..Limits::default()
    };
    let serving = serve_with(limits, |_| {});
    let mut hog = Vec::new();
    for _ in 0..3 {
        let mut stream = connect(&serving).await;
        send(&mut stream, &query("wait.test")).await;
        serving.begun(1).await;
        hog.push(stream);
    }
    let mut other = connect_from(2, &serving).await;
    send(&mut other, &query("a.test")).await;
    assert_eq!(rcode(&next(&mut other).await.unwrap()), Rcode::NOERROR);
    // Its other connections are still answered.
    serving.plugin.release.add_permits(3);
    let mut answered = 0;
    for mut stream in hog {
        answered += usize::from(stream.read_u8().await.is_ok());
    }
    assert_eq!(answered, 2);
}
