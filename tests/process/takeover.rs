//! A new process takes over from a running one, without losing a query.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use hickory_proto::{op::Message, rr::RecordType};

use super::server::{Server, free_port, page, program, question};

/// Sends queries one after the other from new ports until it is told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    lost: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<usize>>,
}

impl Load {
    fn start(server: SocketAddr) -> Self {
        let (stop, lost) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let threads = [udp as fn(SocketAddr) -> bool, udp, tcp].map(|ask| {
            let (stop, lost) = (Arc::clone(&stop), Arc::clone(&lost));
            thread::spawn(move || {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    count += 1;
                    if !ask(server) {
                        lost.fetch_add(1, Ordering::Relaxed);
                    }
                }
                count
            })
        });
        Self {
            stop,
            lost,
            threads: threads.into(),
        }
    }

    /// The number of queries by each thread, and of those without a reply.
    fn end(self) -> (Vec<usize>, usize) {
        self.stop.store(true, Ordering::Relaxed);
        let counts = self.threads.into_iter().map(|it| it.join().unwrap());
        (counts.collect(), self.lost.load(Ordering::Relaxed))
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

fn udp(server: SocketAddr) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.connect(server).unwrap();
    let mut bytes = [0; 512];
    socket.send(&question(7, "a.test.", RecordType::A)).is_ok()
        && socket.recv(&mut bytes).is_ok()
        && Message::from_vec(&bytes).is_ok()
}

fn tcp(server: SocketAddr) -> bool {
    let exchange = || {
        let mut stream = TcpStream::connect(server)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let query = question(7, "a.test.", RecordType::A);
        let length = u16::try_from(query.len()).unwrap().to_be_bytes();
        stream.write_all(&[&length[..], &query].concat())?;
        stream.read_exact(&mut [0; 12])
    };
    exchange().is_ok()
}

#[test]
fn a_new_process_takes_over_without_losing_a_query() {
    let (port, health) = (free_port(), free_port());
    let corefile = format!(
        ".:{port} {{\n bind 127.0.0.1\n whoami\n health 127.0.0.1:{health} {{\n  lameduck 60s\n }}\n}}\n"
    );
    let socket =
        |generation: usize| format!("@lodestone-test-take-{}-{generation}", std::process::id());
    let mut server = Server::start_with(&["-control", &socket(0)], &corefile);
    let load = Load::start(server.address);
    for generation in 1..=3 {
        let from = format!("-takeover={}", socket(generation - 1));
        let next = Server::start_with(&["-control", &socket(generation), &from], &corefile);
        next.line(|line| line.contains(&format!("Took over from process {}", server.id())));
        // It does not wait for `lameduck`: the other one has its address.
        server.line(|line| line.contains("Another process has taken over"));
        assert!(server.end().success());
        assert!(page(health, "/health").unwrap().0.contains("200"));
        server = next;
    }
    let (counts, lost) = load.end();
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
    assert_eq!(lost, 0, "of {counts:?}");
}

/// In a container, the kubelet would start it again, and it would take over in turn.
#[test]
fn the_only_process_of_a_container_waits_for_sigterm_after_a_take_over() {
    let namespaces = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--kill-child",
    ];
    let trial = Command::new("unshare")
        .args(namespaces)
        .arg("true")
        .output();
    if !trial.is_ok_and(|output| output.status.success()) {
        return println!("skipped: no PID namespace of one's own here");
    }
    let port = free_port();
    let corefile = format!(".:{port} {{\n bind 127.0.0.1\n whoami\n}}\n");
    let socket = |name: &str| format!("@lodestone-test-container-{}-{name}", std::process::id());
    let mut command = Command::new("unshare");
    command.args(namespaces).arg(program().get_program());
    command.args(["-control", &socket("a")]);
    let mut container = Server::start_by(command, &corefile);
    let from = format!("-takeover={}", socket("a"));
    let next = Server::start_with(&["-control", &socket("b"), &from], &corefile);
    container.line(|line| line.contains("waiting for SIGTERM"));
    assert!(udp(next.address));
    let children = format!("/proc/{0}/task/{0}/children", container.id());
    let child = std::fs::read_to_string(children).unwrap();
    let killed = Command::new("kill").args(["-TERM", child.trim()]).status();
    assert!(killed.unwrap().success());
    assert!(container.end().success());
    assert!(udp(next.address));
}

#[test]
fn without_a_server_it_is_an_ordinary_start_and_a_wrong_socket_is_an_error() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("Corefile");
    std::fs::write(
        &path,
        format!(".:{port} {{\n bind 127.0.0.1\n whoami\n}}\n"),
    )
    .unwrap();
    let run = |takeover: &str| {
        let output = program()
            .args([takeover, "-conf"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
    };
    let text = run("-takeover=/none");
    assert!(
        text.contains("cannot take over: cannot connect to the server at /none"),
        "{text}"
    );
    let text = run("-takeover=");
    assert!(text.contains("a socket is a path"), "{text}");
}
