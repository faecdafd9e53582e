//! A `lodestone` process for a test, on ports chosen by the system.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use hickory_proto::{
    op::{Message, MessageType, OpCode, Query},
    rr::{Name, RecordType},
};

/// Timeout of every operation; a test never waits this long when it passes.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The program under test.
pub fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_lodestone"))
}

/// A running server, killed on drop.
pub struct Server {
    child: Child,
    lines: Receiver<String>,
    /// Its DNS address.
    pub address: SocketAddr,
    corefile: PathBuf,
    _directory: tempfile::TempDir,
}

impl Server {
    /// Starts a server. The first key of the Corefile is `.:0`, with `bind 127.0.0.1`.
    pub fn start(corefile: &str) -> Self {
        Self::start_by(program(), corefile)
    }

    /// Like [`Server::start`], with more arguments.
    pub fn start_with(arguments: &[&str], corefile: &str) -> Self {
        let mut command = program();
        command.args(arguments);
        Self::start_by(command, corefile)
    }

    /// Like [`Server::start`], with another command that gets the program's arguments.
    pub fn start_by(mut command: Command, corefile: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Corefile");
        std::fs::write(&path, corefile).unwrap();
        let mut child = command
            .arg("-conf")
            .arg(&path)
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            let is_shown = std::env::var_os("LODESTONE_TEST_LOG").is_some();
            for line in output.lines().map_while(Result::ok) {
                if is_shown {
                    println!("{line}");
                }
                if send.send(line).is_err() {
                    return;
                }
            }
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut server = Self {
            child,
            lines,
            address,
            corefile: path,
            _directory: directory,
        };
        let banner = server.line(|line| line.contains(" on 127.0.0.1"));
        // In a JSON record, the message follows the time.
        let said = banner.split("\"msg\":").last().unwrap();
        let port = said
            .split([':', ' '])
            .find_map(|word| word.parse().ok())
            .unwrap();
        server.address.set_port(port);
        server
    }

    /// The next line of output that matches.
    pub fn line(&self, is_wanted: impl Fn(&str) -> bool) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(PATIENCE) {
                Ok(line) if is_wanted(&line) => return line,
                Ok(line) => seen.push(line),
                Err(error) => panic!("no such line ({error}) among:\n{}", seen.join("\n")),
            }
        }
    }

    /// Replaces the Corefile by rename, as editors do.
    pub fn edit(&self, corefile: &str) {
        let new = self.corefile.with_extension("new");
        std::fs::write(&new, corefile).unwrap();
        std::fs::rename(&new, &self.corefile).unwrap();
    }

    /// The directory of its Corefile and of other files of the test.
    pub fn directory(&self) -> &Path {
        self.corefile.parent().unwrap()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &id])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits until the process exits.
    pub fn end(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// Sends a query over UDP and returns a [`summary`] of the reply.
    pub fn ask(&self, name: &str, rtype: RecordType) -> String {
        summary(&exchange(self.address, name, rtype).expect("an answer"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A query and its reply over UDP.
pub fn exchange(server: SocketAddr, name: &str, rtype: RecordType) -> std::io::Result<Message> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    socket.send(&question(4711, name, rtype))?;
    let mut bytes = vec![0; 65_535];
    let length = socket.recv(&mut bytes)?;
    Ok(Message::from_vec(&bytes[..length]).expect("a message"))
}

/// A query as sent by a stub resolver.
pub fn question(id: u16, name: &str, rtype: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), rtype));
    message.to_vec().unwrap()
}

/// The rcode and the data of each answer.
pub fn summary(reply: &Message) -> String {
    let data = reply
        .answers
        .iter()
        .map(|record| format!(" {}", record.data));
    format!(
        "{:?}{}",
        reply.metadata.response_code,
        data.collect::<String>()
    )
}

/// A port that is currently free.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Status line and body of an HTTP page.
pub fn page(port: u16, path: &str) -> std::io::Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    )?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    Ok((
        head.lines().next().unwrap_or_default().to_owned(),
        body.to_owned(),
    ))
}
