//! A thread that asks upstreams as those of a listener do, with questions that come over a channel.

use std::{net::UdpSocket, sync::mpsc, time::Instant};

use lodestone::{
    plugin::{Waiting, Walk},
    reply::Reply,
    upstream::Asker,
};
use tokio::sync::oneshot;

/// The thread; it ends with this.
pub struct Driver {
    questions: mpsc::Sender<Handed>,
    /// Wakes it, like a client's datagram.
    wake: UdpSocket,
}

type Question = (Box<Waiting>, oneshot::Sender<Came>);

/// A question, and who waits for it to be taken in.
type Handed = (Question, mpsc::Sender<()>);

/// What the thread made of a question.
enum Came {
    Reply(Reply),
    /// It is to be gone on with in another way.
    Back(Box<Waiting>),
}

impl Driver {
    pub fn new() -> Self {
        let clients = UdpSocket::bind("127.0.0.1:0").unwrap();
        let wake = UdpSocket::bind("127.0.0.1:0").unwrap();
        wake.connect(clients.local_addr().unwrap()).unwrap();
        let (questions, asked) = mpsc::channel();
        std::thread::spawn(move || run(&clients, &asked));
        Self { questions, wake }
    }

    /// Hands a question over, waits until it has been taken in, and gives the wait for its reply.
    pub fn drive(&self, waiting: Box<Waiting>) -> impl Future<Output = Reply> + Send + 'static {
        let (tell, told) = oneshot::channel();
        let (taken, is_taken) = mpsc::channel();
        self.questions.send(((waiting, tell), taken)).unwrap();
        self.wake.send(b"!").unwrap();
        is_taken.recv().unwrap();
        async move {
            match told.await.unwrap() {
                Came::Reply(reply) => reply,
                Came::Back(waiting) => waiting.finish().await.1.unwrap(),
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // Dropped before the channel: an empty datagram is the last.
        self.wake.send(b"").unwrap();
    }
}

fn run(clients: &UdpSocket, questions: &mpsc::Receiver<Handed>) {
    let mut asker: Asker<Question> = Asker::new(clients).unwrap();
    let (mut reply, mut is_over) = (Reply::default(), false);
    while !is_over || !asker.is_idle() {
        let called = asker.is_idle() || asker.wait().unwrap();
        if called && !is_over {
            is_over = clients.recv(&mut [0]).unwrap() == 0;
            for ((mut waiting, tell), taken) in questions.try_iter() {
                if let Some(ask) = waiting.take_ask() {
                    let entered = asker.ask(ask, (waiting, tell), Instant::now());
                    if let Err((ask, question)) = entered {
                        give_back(ask, question);
                    }
                } else {
                    let _ = tell.send(Came::Back(waiting));
                }
                taken.send(()).unwrap();
            }
            if is_over {
                asker.close(clients);
            }
        }
        asker.flush();
        asker.read(&mut reply, |reply, (mut waiting, tell)| {
            match waiting.heard(reply) {
                Walk::Done => drop(tell.send(Came::Reply(reply.clone()))),
                Walk::Waiting(next) => drop(tell.send(Came::Back(next))),
                Walk::Dropped => panic!("dropped"),
            }
        });
        asker.sweep(Instant::now());
        for (ask, question) in asker.returned() {
            give_back(ask, question);
        }
    }
}

fn give_back(ask: Box<lodestone::upstream::Ask>, (mut waiting, tell): Question) {
    waiting.put_ask(ask);
    // Whoever asked may be gone.
    let _ = tell.send(Came::Back(waiting));
}
