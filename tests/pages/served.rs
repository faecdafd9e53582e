//! Serving an example with a process.
//!
//! The example is unchanged except for shared resources: ports 1050 to 1059 and those of HTTP pages are
//! replaced by free ones, and a `kubernetes` block without a source gets the lab's sample cluster.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{TcpListener, UdpSocket},
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

use crate::page::{Example, Page};

/// Timeout of a start; never reached when the test passes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Ports of DNS servers in examples.
const PORTS: std::ops::RangeInclusive<u16> = 1050..=1059;

/// Directives with an HTTP page, and their default addresses.
const PAGES: [(&str, &str); 4] = [
    ("health", "8080"),
    ("ready", "8181"),
    ("prometheus", "9153"),
    ("pprof", "6053"),
];

/// A working directory with the files of a page's examples.
pub struct ExampleDirectory {
    directory: tempfile::TempDir,
    corefile: String,
}

/// A running server, killed on drop.
pub struct Served<'a> {
    child: Child,
    /// The ports of the example and their replacements.
    ports: Vec<(String, String)>,
    _directory: &'a ExampleDirectory,
}

impl ExampleDirectory {
    pub fn new(page: &Page, example: &Example) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in page.files() {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let host = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        for (name, text) in [
            ("cert.pem", host.cert.pem()),
            ("key.pem", host.signing_key.serialize_pem()),
            ("ca.pem", host.cert.pem()),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        Self {
            directory,
            corefile: example.corefile.clone(),
        }
    }

    /// Runs `lodestone check --no-files` on it.
    pub fn check(&self) -> Output {
        fs::write(self.directory.path().join("Corefile"), &self.corefile).unwrap();
        let mut program = self.program();
        program
            .args(["check", "--no-files", "Corefile"])
            .output()
            .unwrap()
    }

    /// Starts a server with it.
    pub fn serve(&self) -> Result<Served<'_>, String> {
        let ports = free_ports(&self.corefile);
        let corefile = with_cluster(&apart(&replaced(&self.corefile, &ports)));
        let path = self.directory.path().join("Corefile.served");
        fs::write(path, &corefile).unwrap();
        let mut program = self.program();
        program.args(["-conf", "Corefile.served"]);
        let mut child = program
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (send, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Drain later output, so that the server does not block.
                let _ = send.send(line);
            }
        });
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let stderr =
            thread::spawn(move || std::io::read_to_string(&mut errors).unwrap_or_default());
        let served = Served {
            child,
            ports,
            _directory: self,
        };
        loop {
            match lines.recv_timeout(PATIENCE) {
                Ok(line) if line.starts_with("Lodestone-") => return Ok(served),
                Ok(_) => {}
                Err(_) => {
                    drop(served);
                    let stderr = stderr.join().unwrap();
                    return Err(format!("it does not start:\n{stderr}\n{corefile}"));
                }
            }
        }
    }

    fn program(&self) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_lodestone"));
        program.current_dir(self.directory.path());
        program
    }
}

impl Served<'_> {
    /// A command of the page with the replaced port.
    pub fn line(&self, line: &str) -> String {
        let mut line = line.to_owned();
        for (written, port) in &self.ports {
            line = line.replace(&format!("-p {written} "), &format!("-p {port} "));
        }
        line
    }

    /// The output of a command with the page's ports.
    pub fn as_written(&self, output: &str) -> String {
        let mut output = output.to_owned();
        for (written, port) in &self.ports {
            output = output.replace(&format!("#{port}"), &format!("#{written}"));
        }
        output
    }
}

impl Drop for Served<'_> {
    fn drop(&mut self) {
        // The process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port for each port in the text.
fn free_ports(text: &str) -> Vec<(String, String)> {
    let named = PORTS.map(|port| port.to_string());
    // Kept bound until all are found, so that they differ.
    let mut held = Vec::new();
    named
        .filter(|port| text.contains(&format!(":{port}")))
        .map(|port| {
            let (free, sockets) = free_port();
            held.push(sockets);
            (port, free.to_string())
        })
        .collect()
}

/// A port that is free for UDP and TCP.
fn free_port() -> (u16, (TcpListener, UdpSocket)) {
    loop {
        // On all addresses, like the listener: lingering connections on another address conflict too.
        let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        if let Ok(udp) = UdpSocket::bind(("0.0.0.0", port)) {
            return (port, (tcp, udp));
        }
    }
}

fn replaced(text: &str, ports: &[(String, String)]) -> String {
    let mut text = text.to_owned();
    for (written, port) in ports {
        text = text.replace(&format!(":{written}"), &format!(":{port}"));
    }
    text
}

/// The Corefile with HTTP pages on free ports.
fn apart(text: &str) -> String {
    let mut lines = Vec::new();
    for line in text.lines() {
        let mut words: Vec<&str> = line.split_whitespace().collect();
        let page = PAGES.iter().find(|(word, _)| words.first() == Some(word));
        if page.is_none() {
            lines.push(line.to_owned());
            continue;
        }
        if words.get(1).is_some_and(|word| *word != "{") {
            words.remove(1);
        }
        words.insert(1, "127.0.0.1:0");
        lines.push(words.join(" "));
    }
    lines.join("\n") + "\n"
}

/// The Corefile with the sample cluster as the source of each `kubernetes` without one.
fn with_cluster(text: &str) -> String {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/cli/lab/sample");
    let source = format!("manifests \"{}\"", sample.display());
    if ["manifests", "endpoint ", "kubeconfig"]
        .iter()
        .any(|word| text.contains(word))
    {
        return text.to_owned();
    }
    let mut lines = Vec::new();
    for line in text.lines() {
        let is_it = line.split_whitespace().next() == Some("kubernetes");
        lines.push(match line.trim_end().ends_with('{') {
            _ if !is_it => line.to_owned(),
            true => format!("{line}\n{source}"),
            false => format!("{line} {{\n{source}\n}}"),
        });
    }
    lines.join("\n") + "\n"
}

#[test]
fn example_gets_free_ports_and_the_sample_cluster() {
    let text = ".:1053 {\n    health {\n    lameduck 5s\n    }\n    ready :8181\n    \
        kubernetes cluster.local\n    forward . 127.0.0.1:1054\n}\n";
    let ports = [("1053", "7"), ("1054", "8")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    let text = with_cluster(&apart(&replaced(text, &ports)));
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert_eq!(&lines[..2], [".:7 {", "health 127.0.0.1:0 {"]);
    assert_eq!(lines[4], "ready 127.0.0.1:0");
    assert_eq!(lines[5], "kubernetes cluster.local {");
    assert!(lines[6].starts_with("manifests \"/"), "{text}");
    assert_eq!(&lines[7..], ["}", "forward . 127.0.0.1:8", "}"]);
    let served = [
        "a {",
        "kubernetes cluster.local {",
        "endpoint http://a",
        "}",
        "}",
    ]
    .join("\n");
    assert_eq!(with_cluster(&served), served);
}
