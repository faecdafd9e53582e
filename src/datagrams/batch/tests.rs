use std::{cell::RefCell, os::fd::RawFd, time::Duration};

use super::{
    calls::{Call, receive_one, send_many, send_one},
    *,
};

fn pair() -> (UdpSocket, UdpSocket) {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(server.local_addr().unwrap()).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    (server, client)
}

#[test]
fn a_batch_comes_and_goes_at_once() {
    let (server, client) = pair();
    for text in [&b"one"[..], b"two", b"three"] {
        client.send(text).unwrap();
    }
    let mut batch = Batch::new(server.local_addr().unwrap());
    assert_eq!(batch.receive(&server, true).unwrap(), 3);
    for index in 0..3 {
        let (datagram, reply) = batch.datagram(index).unwrap();
        assert_eq!(datagram.client, client.local_addr().unwrap());
        assert_eq!(datagram.local, server.local_addr().unwrap());
        // The second gets no reply.
        if index != 1 {
            reply.extend(datagram.bytes);
            reply.push(b'!');
        }
    }
    assert_eq!(batch.send(&server), 0);
    let mut buffer = [0; 16];
    for text in [&b"one!"[..], b"three!"] {
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], text);
    }
}

#[test]
fn of_what_is_too_long_the_beginning_is_taken() {
    let (server, client) = pair();
    client.send(&[7; PACKET + 1]).unwrap();
    client.send(b"short").unwrap();
    let mut batch = Batch::new(server.local_addr().unwrap());
    assert_eq!(batch.receive(&server, true).unwrap(), 2);
    assert_eq!(batch.datagram(0).unwrap().0.bytes, [7; PACKET]);
    assert_eq!(batch.datagram(1).unwrap().0.bytes, b"short");
}

#[test]
fn a_reply_that_cannot_be_sent_does_not_lose_the_others() {
    let (server, client) = pair();
    for text in [&b"one"[..], b"two", b"three"] {
        client.send(text).unwrap();
    }
    let mut batch = Batch::new(server.local_addr().unwrap());
    assert_eq!(batch.receive(&server, true).unwrap(), 3);
    for (index, length) in [(0, 4), (1, 70_000), (2, 4)] {
        batch.datagram(index).unwrap().1.resize(length, 0);
    }
    assert_eq!(batch.send(&server), 1, "the one of 70,000 bytes");
    let mut buffer = [0; 16];
    for _ in 0..2 {
        assert_eq!(client.recv(&mut buffer).unwrap(), 4);
    }
    assert!(
        batch
            .slots
            .iter()
            .all(|slot| slot.reply.capacity() <= REPLY_CAPACITY)
    );
}

#[test]
fn what_was_queued_for_too_long_is_dropped_and_the_rest_taken() {
    const MAX_AGE: Duration = Duration::from_millis(400);
    for any in [false, true] {
        let (server, client) = pair();
        let mut bound = server.local_addr().unwrap();
        if any {
            // As of a socket for all addresses, whose datagrams come with where they were sent to.
            enable_destination_addresses(&server, bound).unwrap();
            bound.set_ip(IpAddr::from([0, 0, 0, 0]));
        }
        let send = |count: usize, text: &[u8]| {
            (0..count).for_each(|_| assert_eq!(client.send(text).unwrap(), text.len()));
        };
        let mut batch = Batch::new(bound);
        batch.backlog = Backlog::new(MAX_AGE);
        let mut receive = |wanted: &[u8]| {
            let count = batch.receive(&server, true).unwrap();
            let taken = (0..count).filter(|index| match batch.datagram(*index) {
                Some((datagram, _)) => {
                    assert_eq!(datagram.bytes, wanted);
                    assert_eq!(datagram.local.ip(), server.local_addr().unwrap().ip());
                    true
                }
                None => false,
            });
            (taken.count(), batch.take_stale())
        };
        send(5 * BATCH, b"before");
        std::thread::sleep(MAX_AGE / 4);
        // The queue is not emptied, so that the kernel is asked for times.
        assert_eq!(receive(b"before"), (BATCH, 0));
        send(3 * BATCH, b"after");
        assert_eq!(receive(b"before"), (BATCH, 0));
        std::thread::sleep(2 * MAX_AGE);
        // These came before the kernel was asked, ...
        assert_eq!(receive(b""), (0, BATCH));
        assert_eq!(receive(b""), (0, BATCH));
        assert_eq!(receive(b""), (0, BATCH));
        // ... and these with their times.
        assert_eq!(receive(b""), (0, BATCH));
        send(BATCH, b"new");
        assert_eq!(receive(b""), (0, BATCH));
        assert_eq!(receive(b""), (0, BATCH));
        assert_eq!(receive(b"new"), (BATCH, 0));
        send(1, b"new");
        assert_eq!(receive(b"new"), (1, 0));
    }
}

#[test]
fn the_first_datagram_after_an_overload_is_taken() {
    const MAX_AGE: Duration = Duration::from_millis(400);
    let (server, client) = pair();
    let mut batch = Batch::new(server.local_addr().unwrap());
    batch.backlog = Backlog::new(MAX_AGE);
    for _ in 0..3 * BATCH {
        client.send(b"old").unwrap();
    }
    std::thread::sleep(MAX_AGE / 4);
    for _ in 0..2 {
        assert_eq!(batch.receive(&server, true).unwrap(), BATCH);
    }
    std::thread::sleep(2 * MAX_AGE);
    // The queue is empty after a full batch, which does not show that.
    assert_eq!(batch.receive(&server, true).unwrap(), BATCH);
    assert_eq!(batch.take_stale(), BATCH);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(MAX_AGE / 4);
            client.send(b"new").unwrap();
        });
        while batch.receive(&server, true).unwrap() == 0 {}
    });
    assert_eq!(batch.take_stale(), 0);
    assert_eq!(batch.datagram(0).unwrap().0.bytes, b"new");
}

#[test]
fn a_wait_that_ends_is_no_error() {
    let (server, _client) = pair();
    server.set_nonblocking(true).unwrap();
    let mut batch = Batch::new(server.local_addr().unwrap());
    assert_eq!(batch.receive(&server, true).unwrap(), 0);
}

#[test]
fn each_reply_leaves_from_the_address_that_was_asked() {
    let server = UdpSocket::bind("0.0.0.0:0").unwrap();
    let bound = server.local_addr().unwrap();
    enable_destination_addresses(&server, bound).unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let asked = ["127.0.0.2", "127.0.0.3", "127.0.0.1"]
        .map(|ip| SocketAddr::new(ip.parse().unwrap(), bound.port()));
    for to in asked {
        client.send_to(b"?", to).unwrap();
    }
    let mut batch = Batch::new(bound);
    assert_eq!(batch.receive(&server, true).unwrap(), 3);
    for (index, to) in asked.into_iter().enumerate() {
        let (datagram, reply) = batch.datagram(index).unwrap();
        assert_eq!(datagram.local, to);
        reply.push(b'!');
    }
    batch.send(&server);
    let late = |to: SocketAddr| DelayedReply {
        bytes: b"later".to_vec(),
        client: client.local_addr().unwrap(),
        local: Some(to.ip()),
    };
    let replies = vec![late(asked[1]), late(asked[0])];
    assert_eq!(Outbox::default().send(&server, &replies), 0);
    let mut buffer = [0; 16];
    for from in asked.into_iter().chain([asked[1], asked[0]]) {
        assert_eq!(client.recv_from(&mut buffer).unwrap().1, from);
    }
}

#[test]
fn more_replies_than_a_batch_all_go_late() {
    let (server, client) = pair();
    let to = client.local_addr().unwrap();
    let numbers = 0..u8::try_from(BATCH).unwrap() + 3;
    let late = |number| DelayedReply {
        bytes: vec![number],
        client: to,
        local: None,
    };
    let replies: Vec<_> = numbers.clone().map(late).collect();
    assert_eq!(Outbox::default().send(&server, &replies), 0);
    let mut buffer = [0; 16];
    for number in numbers {
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], number);
    }
}

/// The system's calls without segmentation: replies leave in the order of their queries.
const APART: Calls = Calls {
    segments: Some(false),
    ..Calls::MANY
};

/// Three datagrams come and three replies go, by other calls than the system's.
fn three_by(calls: Calls) -> (Batch, usize, Vec<Vec<u8>>) {
    let (server, client) = pair();
    let texts = [&b"one"[..], b"two", b"three"];
    for text in texts {
        client.send(text).unwrap();
    }
    let mut batch = Batch::new(server.local_addr().unwrap());
    batch.messages.calls = calls;
    let (mut taken, mut failed) = (0, 0);
    while taken < texts.len() {
        let count = batch.receive(&server, true).unwrap();
        for index in 0..count {
            let (datagram, reply) = batch.datagram(index).unwrap();
            assert_eq!(datagram.bytes, texts[taken + index]);
            assert_eq!(datagram.client, client.local_addr().unwrap());
            reply.extend(datagram.bytes);
        }
        failed += batch.send(&server);
        taken += count;
    }
    let mut buffer = [0; 16];
    let replies = (0..texts.len() - failed).map(|_| {
        let length = client.recv(&mut buffer).unwrap();
        buffer[..length].to_vec()
    });
    let replies = replies.collect();
    (batch, failed, replies)
}

fn fails_with(error: i32) -> libc::c_int {
    // SAFETY: the place of this thread's error number, which may be written at any time.
    unsafe { *libc::__errno_location() = error };
    -1
}

#[test]
fn a_short_send_goes_on_where_it_stopped() {
    unsafe fn two(
        socket: RawFd,
        headers: *mut libc::mmsghdr,
        count: usize,
        flags: libc::c_int,
    ) -> libc::c_int {
        // SAFETY: fewer headers than the caller has.
        unsafe { send_many(socket, headers, count.min(2), flags) }
    }
    let calls = Calls { send: two, ..APART };
    let (_, failed, replies) = three_by(calls);
    assert_eq!(
        (failed, replies),
        (0, vec![b"one".to_vec(), b"two".to_vec(), b"three".to_vec()])
    );
}

#[test]
fn a_reply_without_room_is_left_out_and_the_rest_goes() {
    thread_local!(static CALLS: std::cell::Cell<u32> = const { std::cell::Cell::new(0) });
    unsafe fn full_at_first(
        socket: RawFd,
        headers: *mut libc::mmsghdr,
        count: usize,
        flags: libc::c_int,
    ) -> libc::c_int {
        match CALLS.replace(CALLS.get() + 1) {
            0 => fails_with(libc::EINTR),
            1 => fails_with(libc::EAGAIN),
            // SAFETY: as the caller has it.
            _ => unsafe { send_many(socket, headers, count, flags) },
        }
    }
    let calls = Calls {
        send: full_at_first,
        ..APART
    };
    let (_, failed, replies) = three_by(calls);
    assert_eq!(
        (failed, replies),
        (1, vec![b"two".to_vec(), b"three".to_vec()])
    );
}

#[test]
fn a_system_without_the_calls_for_many_is_served_one_by_one() {
    unsafe fn missing(_: RawFd, _: *mut libc::mmsghdr, _: usize, _: libc::c_int) -> libc::c_int {
        fails_with(libc::ENOSYS)
    }
    let calls = Calls {
        receive: missing,
        send: missing,
        ..APART
    };
    let (batch, failed, replies) = three_by(calls);
    assert_eq!(
        (failed, replies),
        (0, vec![b"one".to_vec(), b"two".to_vec(), b"three".to_vec()])
    );
    assert!(ptr::fn_addr_eq(
        batch.messages.calls.receive,
        receive_one as Call
    ));
    assert!(ptr::fn_addr_eq(batch.messages.calls.send, send_one as Call));
}

thread_local! {
    /// Numbers of datagrams of the messages that [`recording`] was given.
    static MESSAGES: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

/// Records the messages and sends them.
unsafe fn recording(
    socket: RawFd,
    headers: *mut libc::mmsghdr,
    count: usize,
    flags: libc::c_int,
) -> libc::c_int {
    // SAFETY: guaranteed by the caller.
    let sent = unsafe { slice::from_raw_parts(headers, count) };
    MESSAGES.with_borrow_mut(|messages| messages.extend(sent.iter().map(parts)));
    // SAFETY: guaranteed by the caller.
    unsafe { send_many(socket, headers, count, flags) }
}

/// Refuses messages of several datagrams, as a device without checksum offload does.
unsafe fn refusing(
    socket: RawFd,
    headers: *mut libc::mmsghdr,
    count: usize,
    flags: libc::c_int,
) -> libc::c_int {
    // SAFETY: guaranteed by the caller.
    let sent = unsafe { slice::from_raw_parts(headers, count) };
    match sent.iter().position(|message| parts(message) > 1) {
        Some(0) => {
            MESSAGES.with_borrow_mut(|messages| messages.push(0));
            fails_with(libc::EIO)
        }
        // SAFETY: guaranteed by the caller; no more headers than it has.
        at => unsafe { recording(socket, headers, at.unwrap_or(count), flags) },
    }
}

#[test]
fn replies_of_one_length_to_one_client_are_sent_as_one_message() {
    let lengths = [50_u8, 40, 50, 30, 50, 40, 20];
    for (send, messages) in [
        // Three of 50 with one of 40; 40, 30 and 20; the other client's.
        (recording as Call, &[1, 1, 1, 1, 4][..]),
        // The message is refused, and its parts are sent one by one.
        (refusing, &[0, 1, 1, 1, 1, 1, 1, 1, 1]),
    ] {
        MESSAGES.take();
        let server = UdpSocket::bind("0.0.0.0:0").unwrap();
        let bound = server.local_addr().unwrap();
        enable_destination_addresses(&server, bound).unwrap();
        let client = || {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            client.connect(("127.0.0.2", bound.port())).unwrap();
            let limit = Duration::from_secs(5);
            client.set_read_timeout(Some(limit)).unwrap();
            client
        };
        let [client, other] = [client(), client()];
        let mut batch = Batch::new(bound);
        batch.messages.calls.send = send;
        assert!(batch.messages.calls.segments(&server), "Linux 4.18");
        for length in lengths {
            client.send(&[length; 1]).unwrap();
        }
        other.send(&[50]).unwrap();
        assert_eq!(batch.receive(&server, true).unwrap(), lengths.len() + 1);
        for index in 0..=lengths.len() {
            let (datagram, reply) = batch.datagram(index).unwrap();
            reply.resize(usize::from(datagram.bytes[0]), u8::try_from(index).unwrap());
        }
        assert_eq!(batch.send(&server), 0);
        let mut buffer = [0; 100];
        let mut received = [0; 7];
        for _ in lengths {
            // Connected: it takes only what comes from the address that was asked.
            let length = client.recv(&mut buffer).unwrap();
            received[usize::from(buffer[0])] = u8::try_from(length).unwrap();
        }
        assert_eq!(received, lengths);
        assert_eq!(other.recv(&mut buffer).unwrap(), 50);
        let mut sent = MESSAGES.take();
        // Either client may be the first.
        sent.sort_unstable();
        assert_eq!(sent, messages);
    }
}

#[test]
fn queries_to_one_upstream_are_sent_as_one_message() {
    for (send, messages) in [
        (recording as Call, &[4, 1][..]),
        (refusing, &[0, 1, 1, 1, 1, 1]),
    ] {
        MESSAGES.take();
        let (server, client) = connected_pair();
        let mut ours = Connected::default();
        ours.messages.calls.send = send;
        let texts = [&b"one"[..], b"two", b"six", b"a", b"bc"];
        let mut sent = 0;
        while sent < texts.len() {
            sent += ours.send(&client, &texts[sent..].iter().copied()).unwrap();
        }
        let mut theirs = Connected::default();
        assert_eq!(theirs.receive(&server).unwrap(), texts.len());
        for (index, text) in texts.into_iter().enumerate() {
            assert_eq!(theirs.message(index), text);
        }
        assert_eq!(MESSAGES.take(), messages);
    }
}

#[test]
fn one_by_one_a_datagram_that_is_too_long_is_cut_too() {
    let (server, client) = pair();
    client.send(&[7; PACKET + 1]).unwrap();
    client.send(b"short").unwrap();
    let mut batch = Batch::new(server.local_addr().unwrap());
    batch.messages.calls.receive = receive_one;
    assert_eq!(batch.receive(&server, true).unwrap(), 1);
    assert_eq!(batch.datagram(0).unwrap().0.bytes, [7; PACKET]);
    assert_eq!(batch.receive(&server, true).unwrap(), 1);
    assert_eq!(batch.datagram(0).unwrap().0.bytes, b"short");
    server.set_nonblocking(true).unwrap();
    assert_eq!(batch.receive(&server, true).unwrap(), 0);
}

fn connected_pair() -> (UdpSocket, UdpSocket) {
    let (server, client) = pair();
    server.connect(client.local_addr().unwrap()).unwrap();
    (server, client)
}

#[test]
fn messages_of_a_connected_socket_come_and_go_together() {
    let (server, client) = connected_pair();
    let large = vec![7; 60_000];
    let texts = [&b"one"[..], b"", &large];
    let mut ours = Connected::default();
    assert_eq!(ours.send(&client, &texts.into_iter()).unwrap(), 3);
    let mut theirs = Connected::default();
    assert_eq!(theirs.receive(&server).unwrap(), 3);
    for (index, text) in texts.into_iter().enumerate() {
        assert_eq!(theirs.message(index), text);
    }
    assert_eq!(theirs.message(Connected::RECEIVED), b"");
    let nothing = theirs.receive(&server).unwrap_err();
    assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
}

#[test]
fn more_messages_than_go_at_a_time_are_left() {
    let (server, client) = connected_pair();
    let mut messages = Connected::default();
    let many = (0..=BATCH).map(|_| &b"?"[..]);
    assert_eq!(messages.send(&client, &many).unwrap(), BATCH);
    for _ in 0..BATCH / Connected::RECEIVED {
        assert_eq!(messages.receive(&server).unwrap(), Connected::RECEIVED);
    }
    assert!(messages.receive(&server).is_err(), "no more");
    assert_eq!(messages.send(&client, &std::iter::empty()).unwrap(), 0);
}

#[test]
fn a_connected_socket_says_that_nobody_is_there() {
    let (server, client) = connected_pair();
    drop(server);
    let mut messages = Connected::default();
    let once = || std::iter::once(&b"?"[..]);
    assert_eq!(messages.send(&client, &once()).unwrap(), 1);
    let error = messages.receive(&client).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_connected_socket_without_the_calls_for_many_has_one_message_a_call() {
    unsafe fn missing(_: RawFd, _: *mut libc::mmsghdr, _: usize, _: libc::c_int) -> libc::c_int {
        fails_with(libc::ENOSYS)
    }
    let (server, client) = connected_pair();
    let mut messages = Connected::default();
    messages.messages.calls = Calls {
        receive: missing,
        send: missing,
        ..APART
    };
    let texts = [&b"one"[..], b"two"];
    assert_eq!(messages.send(&client, &texts.into_iter()).unwrap(), 1);
    assert_eq!(messages.receive(&server).unwrap(), 1);
    assert_eq!(messages.message(0), b"one");
}
