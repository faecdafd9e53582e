//! `lodestone dig` against a server of this test, and compared with BIND's `dig`.
//!
//! Without `dig` the comparison prints that and passes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[allow(dead_code, reason = "pages are run in a shell, this is not")]
mod dig;
mod dns;

use std::{
    fs,
    net::UdpSocket,
    process::{Command, Output},
    sync::atomic::Ordering,
    thread,
};

use dns::{Asked, record};

/// A server that answers by the first label of the name: see [`answer`].
struct Server(dns::Server);

impl Server {
    fn start() -> Self {
        Self(dns::Server::start(answer))
    }

    /// Runs `lodestone dig` with the server's port, and its address unless the line has a server.
    fn run(&self, line: &str) -> Output {
        run(&self.line(line))
    }

    fn line(&self, line: &str) -> String {
        let server = if line.contains('@') || line.contains("--resolv-conf") {
            String::new()
        } else {
            format!("@{} ", self.0.address.ip())
        };
        format!("{server}-p {} {line}", self.0.address.port())
    }

    fn text(&self, line: &str) -> String {
        let output = self.run(line);
        assert_eq!(code(&output), 0, "{line}: {}", stderr(&output));
        stdout(&output)
    }
}

fn run(line: &str) -> Output {
    let words = line.split_whitespace();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lodestone"));
    command.arg("dig").args(words).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// An OPT record with these options.
fn opt(options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes = vec![0, 0, 41, 0x04, 0xD0, 0, 0, 0, 0];
    let mut data = Vec::new();
    for (code, value) in options {
        data.extend(code.to_be_bytes());
        data.extend(u16::try_from(value.len()).unwrap().to_be_bytes());
        data.extend(*value);
    }
    bytes.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

fn soa(serial: u32) -> Vec<u8> {
    let mut data = b"\x02ns\x03dns\xC0\x0C\x0Ahostmaster\xC0\x0C".to_vec();
    for number in [serial, 7200, 1800, 86400, 5] {
        data.extend(number.to_be_bytes());
    }
    record(None, 6, 5, &data)
}

/// The cookie of a query, from its last option.
fn cookie(query: &[u8]) -> Vec<u8> {
    let at = query.windows(4).position(|it| it == [0, 10, 0, 8]).unwrap();
    query[at + 4..at + 12].to_vec()
}

/// The replies to a query.
fn answer(query: &[u8], by_tcp: bool) -> Vec<Vec<u8>> {
    let asked = Asked::new(query);
    let message = |flags: u16, sections: [&[Vec<u8>]; 3]| asked.reply(flags, sections);
    let (label, rtype) = (asked.label(), asked.rtype());
    let a = || record(None, 1, 5, &[192, 0, 2, 1]);
    let plain = if query[11] > 0 {
        vec![opt(&[])]
    } else {
        vec![]
    };
    let one = |reply| vec![reply];
    match label {
        "big" if !by_tcp => one(message(0x8780, [&[], &[], &plain])),
        "blocked" => {
            let policy = [&[0, 15][..], b"rule \"x\"\x07"].concat();
            let options: [(u16, &[u8]); 4] = [
                (15, &policy),
                (15, &[0, 22]),
                (15, b"\0\x63abc"),
                (3, b"abc"),
            ];
            one(message(0x8585, [&[], &[], &[opt(&options)]]))
        }
        "nx" => {
            let text = [&[0, 0][..], "nächster: prod".as_bytes()].concat();
            let opt = [opt(&[(15, &text)])];
            one(message(0x8583, [&[], &[soa(7)], &opt]))
        }
        "noedns" => one(message(0x8180, [&[a()], &[], &[]])),
        "cookie" | "other-cookie" => {
            let mut both = [cookie(query), vec![0xAB; 8]].concat();
            if label == "other-cookie" {
                both[0] ^= 1;
            }
            one(message(0x8180, [&[a()], &[], &[opt(&[(10, &both)])]]))
        }
        "formerr" => one([&query[..2], &[0x81, 0x81, 0, 0, 0, 0, 0, 0, 0, 0]].concat()),
        "servfail" => one(message(0x8182, [&[], &[], &plain])),
        "norec" => one(message(0x8100, [&[a()], &[], &plain])),
        "malformed" => {
            let bad = record(None, 1, 5, &[192, 0, 2]);
            one(message(0x8180, [&[bad, a()], &[], &plain]))
        }
        "late" => {
            let mut other = message(0x8180, [&[a()], &[], &plain]);
            other[0] ^= 0xFF;
            vec![other, message(0x8180, [&[a()], &[], &plain])]
        }
        "stub" => one(query[..6].to_vec()),
        "silent" => vec![],
        "srv" => {
            let target = b"\0\0\0\x64\0\x50\x03web\xC0\x0C";
            let glue = record(Some(b"\x03web\xC0\x0C"), 28, 5, &[0x20; 16]);
            let additional = [vec![glue], plain].concat();
            one(message(
                0x8580,
                [&[record(None, 33, 5, target)], &[], &additional],
            ))
        }
        "types" => {
            let records = [
                record(None, 16, 90_061, b"\x05a\"b\\c\x03\xFF\x00;"),
                record(None, 65280, 5, &[0xAB; 100]),
                record(None, 65280, 604_800, b""),
                record(None, 257, 0, b"\0\x05issueca.example"),
                record(None, 43, 60, &[&[0x12, 0x34, 8, 2][..], &[7; 32]].concat()),
                record(None, 48, 5, &[&[1, 1, 3, 8][..], &[9; 70]].concat()),
                record(
                    None,
                    65,
                    5,
                    b"\0\x01\0\0\x01\0\x06\x02h2\x02h3\0\x03\0\x02\x01\xBB",
                ),
                record(None, 35, 5, b"\0\x64\0\x0A\x01u\x03sip\x0C!^.*$!sip:a!\0"),
                record(None, 2, 5, b"\x02ns\xC0\x0C"),
                record(
                    None,
                    46,
                    5,
                    b"\0\x01\x08\x02\0\0\x0E\x10\x70\xDB\xD8\x80\x69\x55\xB9\x00\x0A\x52\0\xAA\xBB",
                ),
                record(None, 47, 5, b"\x01b\0\0\x06\x40\x01\0\0\0\x03"),
            ];
            one(message(0x8180, [&records, &[], &plain]))
        }
        "zone" if rtype == 252 => {
            let first = message(0x8580, [&[soa(7), a()], &[], &[]]);
            let second = message(
                0x8580,
                [&[record(None, 2, 5, b"\x02ns\xC0\x0C"), soa(7)], &[], &[]],
            );
            vec![first, second]
        }
        _ if rtype == 252 => one(message(0x8585, [&[], &[], &[]])),
        _ => one(message(0x8180, [&[a()], &[], &plain])),
    }
}

/// Command lines whose output is compared with that of BIND's `dig`.
const LINES: &[&str] = &[
    "web.default",
    "web.default. A IN +norecurse +noad",
    "@127.0.0.1 @127.0.0.1 web.default",
    "web.default @127.0.0.1",
    "web.default @127.0.0.1 nx.example @127.0.0.1 +noall",
    "web.default +norec +noall +comments",
    "+all +nostats web.default",
    "big.example",
    "big.example +ignore",
    "big.example +short",
    "big.example +noall +answer",
    "big.example +tcp +aaflag +cdflag +zflag",
    "blocked.example",
    "nx.example",
    "nx.example +nocomments",
    "noedns.example",
    "formerr.example +dnssec",
    "servfail.example +nocmd +nostats",
    "norec.example",
    "srv.example SRV",
    "srv.example SRV +short",
    "srv.example SRV +noadditional +noquestion",
    "srv.example SRV +nottlid",
    "srv.example SRV +noclass",
    "srv.example SRV +noclass +nottlid",
    "types.example ANY",
    "types.example +short",
    "types.example +noall +answer +ttlunits +nosplit",
    "types.example +noall +answer +split=44",
    "+noall +answer web.example nx.example",
    "+qr web.example +nsid +dnssec +subnet=10.1.2.0/23 +bufsize=4096 +ednsopt=65001:abcd",
    "+qr +noedns web.example TXT",
    "-x 10.1.2.3 -x 2001:db8::1",
    "-x 10.1 SOA",
    "a.example b.example MX +short",
    "aaaaaaaaaaaaaaaaaaaaaa.bbbb +noall +question +answer",
    "aaaaaaaaaaaaaaaaaaa.bbbbb.eeee +noall +question +answer",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbbbb.eeee +noall +question +answer",
    "silent.example +time=1 +tries=1",
    "+tcp silent.example +time=1 +tries=1",
    "zone.example AXFR",
    "zone.example AXFR +noall +answer",
    "refused.example AXFR",
    "+search",
    "nx +showsearch +domain=web.example +nocmd",
    "nx +search +domain=nx.example +noall +question",
    "a.nx +ndots=2 +domain=example +noall +answer",
    "-u web.example +noall +stats",
    "-t TYPE65280 -c IN -q web.example",
    "cookie.example",
    "other-cookie.example",
    "+short +stats web.example",
];

#[test]
fn output_is_that_of_bind() {
    if !dig::is_here() {
        return;
    }
    let server = &Server::start();
    thread::scope(|scope| {
        for lines in LINES.chunks(LINES.len().div_ceil(4)) {
            scope.spawn(move || {
                for line in lines {
                    let full = server.line(line);
                    let theirs = Command::new("dig")
                        .args(full.split_whitespace())
                        .output()
                        .unwrap();
                    let ours = server.run(line);
                    assert_eq!(
                        comparable(&stdout(&ours)),
                        comparable(&stdout(&theirs)),
                        "{line}"
                    );
                    assert_eq!(code(&ours), code(&theirs), "{line}");
                }
            });
        }
    });
}

/// The output without what differs from run to run: version, message ID, cookie and times.
fn comparable(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let cut = |mark: &str| line.find(mark).map(|at| line[..at + mark.len()].to_owned());
        let own = cut(", id:")
            .or_else(|| cut(";; Query time:"))
            .or_else(|| cut(";; WHEN:"));
        if line.starts_with("; <<>> DiG ") {
            let words = line.splitn(3, "<<>>").nth(2);
            return format!("; <<>> DiG <<>>{}", words.unwrap());
        }
        if let Some(cookie) = line.strip_prefix("; COOKIE: ") {
            let kind = cookie.split_once(' ').map(|(_, kind)| kind);
            let length = cookie.split(' ').next().unwrap().len();
            return format!("; COOKIE: {length} {}", kind.unwrap_or_default());
        }
        own.unwrap_or_else(|| line.to_owned())
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn extended_errors_are_printed() {
    let server = Server::start();
    let text = server.text("blocked.example");
    assert!(text.contains("status: REFUSED"), "{text}");
    let wanted = "; EDE: 15 (Blocked): (rule \"x\".)\n; EDE: 22 (No Reachable Authority)\n";
    assert!(text.contains(wanted), "{text}");
    let text = server.text("nx.example");
    assert!(
        text.contains("; EDE: 0 (Other): (nächster: prod)\n"),
        "{text}"
    );
}

#[test]
fn a_reply_has_the_layout_of_dig() {
    let server = Server::start();
    let text = server.text("srv.example SRV");
    let port = server.0.address.port();
    let version = env!("CARGO_PKG_VERSION");
    let wanted = format!(
        "\n; <<>> DiG lodestone-{version} <<>> @127.0.0.1 -p {port} srv.example SRV
; (1 server found)
;; global options: +cmd
;; Got answer:
;; ->>HEADER<<- opcode: QUERY, status: NOERROR, id: ID
;; flags: qr aa rd ra; QUERY: 1, ANSWER: 1, AUTHORITY: 0, ADDITIONAL: 2

;; OPT PSEUDOSECTION:
; EDNS: version: 0, flags:; udp: 1232
;; QUESTION SECTION:
;srv.example.\t\t\tIN\tSRV

;; ANSWER SECTION:
srv.example.\t\t5\tIN\tSRV\t0 100 80 web.srv.example.

;; ADDITIONAL SECTION:
web.srv.example.\t5\tIN\tAAAA\t2020:2020:2020:2020:2020:2020:2020:2020

;; Query time: N msec
;; SERVER: 127.0.0.1#{port}(127.0.0.1) (UDP)
;; WHEN: DATE
;; MSG SIZE  rcvd: 96

"
    );
    let shown = text.lines().map(|line| {
        let (id, time) = (line.find(", id: "), line.find("Query time: "));
        match (id, time) {
            (Some(at), _) => format!("{}, id: ID\n", &line[..at]),
            (_, Some(at)) => format!("{}Query time: N msec\n", &line[..at]),
            _ if line.starts_with(";; WHEN: ") => ";; WHEN: DATE\n".to_owned(),
            _ => format!("{line}\n"),
        }
    });
    assert_eq!(shown.collect::<String>(), wanted);
}

#[test]
fn malformed_and_late_replies_are_told_of() {
    let server = Server::start();
    let text = server.text("malformed.example");
    let warning = ";; Warning: Message parser reports malformed message packet.\n";
    assert!(text.starts_with(warning), "{text}");
    for shown in ["A\t\\# 3 C00002\n", "A\t192.0.2.1\n"] {
        assert!(text.contains(shown), "{text}");
    }
    let text = server.text("late.example");
    assert!(
        text.starts_with(";; Warning: ID mismatch: expected ID "),
        "{text}"
    );
    assert!(text.contains("A\t192.0.2.1\n"), "{text}");
    let output = server.run("stub.example");
    assert_eq!(code(&output), 9);
    assert!(
        stdout(&output).contains(";; Got bad packet"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn exit_codes_are_those_of_dig() {
    let server = Server::start();
    for (line, expected) in [
        ("nx.example", 0),
        ("servfail.example", 0),
        ("silent.example +time=1 +tries=1", 9),
        ("silent.example +tcp +time=1 +tries=1", 9),
        ("web.example +shrot", 1),
        ("web.example +yaml", 1),
        ("@no-such-host.invalid web.example", 1),
        ("a..b", 10),
        ("-f /nowhere/batch", 8),
        ("--resolv-conf /nowhere/resolv.conf web.example", 8),
        ("-h", 0),
        ("-v", 0),
    ] {
        let output = server.run(line);
        assert_eq!(code(&output), expected, "{line}: {}", stderr(&output));
        assert_eq!(
            stderr(&output).is_empty(),
            matches!(expected, 0 | 9),
            "{line}"
        );
    }
    let output = server.run("web.example +norecruse");
    assert!(
        stderr(&output).contains("Did you mean +norecurse?"),
        "{}",
        stderr(&output)
    );
    // Nothing listens on this port any longer.
    let closed = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = run(&format!("@127.0.0.1 -p {} x +tries=2", closed.port()));
    assert_eq!(code(&output), 9);
    let refused = format!(
        ";; communications error to 127.0.0.1#{}: connection refused\n",
        closed.port()
    );
    assert!(
        stdout(&output).starts_with(&refused.repeat(2)),
        "{}",
        stdout(&output)
    );
    let full = fs::File::create("/dev/full").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lodestone"));
    command.args(["dig", "-v"]).stdout(full);
    assert_eq!(command.status().unwrap().code(), Some(1));
}

#[test]
fn resolv_conf_gives_servers_search_list_and_options() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    let text = "nameserver 127.0.0.1\nsearch nx.svc.test web.svc.test\noptions ndots:2 attempts:1 timeout:1\n";
    fs::write(&file, text).unwrap();
    let run = |line: &str| server.run(&format!("--resolv-conf {} {line}", file.display()));
    let questions = |line: &str| {
        let text = stdout(&run(&format!("+noall +question {line}")));
        let names = text
            .lines()
            .filter_map(|line| line.split_whitespace().next());
        names.map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        questions("nx +showsearch"),
        [";nx.nx.svc.test.", ";nx.web.svc.test.", ";nx."]
    );
    assert_eq!(questions("nx +search"), [";nx."]);
    assert_eq!(questions("web +showsearch"), [";web.nx.svc.test."]);
    assert_eq!(questions("nx.a +showsearch +ndots=1"), [";nx.a."]);
    assert_eq!(questions("nx. +showsearch"), [";nx."]);
    assert_eq!(questions("nx.a.b +showsearch"), [";nx.a.b."]);
    assert_eq!(questions("nx"), [";nx."]);
    let before = server.0.received.load(Ordering::SeqCst);
    assert_eq!(code(&run("silent.example")), 9);
    assert_eq!(
        server.0.received.load(Ordering::SeqCst) - before,
        1,
        "attempts:1"
    );
}

#[test]
fn mistakes_are_named_with_what_was_meant() {
    for (line, wanted) in [
        (
            "--resolv-conf nope x",
            "nope: it does not exist\ndig: couldn't read the file of --resolv-conf\n",
        ),
        (
            "-4 @::1 x",
            "dig: couldn't get address for '::1': it has no IPv4 address, and -4 permits no other\n",
        ),
        (
            "-6 @127.0.0.1 x",
            "dig: couldn't get address for '127.0.0.1': it has no IPv6 address, and -6 permits no other\n",
        ),
        (
            "x --short",
            "Invalid option: --short\nDid you mean +short?\n",
        ),
        ("x -short", "Invalid option: -short\nDid you mean +short?\n"),
        (
            "x --noall",
            "Invalid option: --noall\nDid you mean +noall?\n",
        ),
        ("x --tcp", "Invalid option: --tcp\nDid you mean +tcp?\n"),
    ] {
        let text = stderr(&run(line));
        assert!(text.starts_with(wanted), "{line}: {text}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    fs::write(&file, "nameserver 127.0.0.1\n").unwrap();
    let file = file.display();
    let output = run(&format!("-6 --resolv-conf {file} x"));
    let wanted = format!(
        ";; No acceptable nameservers: none of {file} has an IPv6 address, and -6 permits no other\n"
    );
    assert!(stdout(&output).ends_with(&wanted), "{}", stdout(&output));
    assert_eq!(code(&output), 9);
}

#[test]
fn queries_are_read_from_a_file() {
    let server = Server::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("batch");
    fs::write(&file, "# names\nweb.example\n\nsrv.example SRV\n").unwrap();
    let text = server.text(&format!("+short -f {}", file.display()));
    assert_eq!(text, "192.0.2.1\n0 100 80 web.srv.example.\n");
}

#[test]
fn help_lists_the_options() {
    for line in [["dig", "-h"], ["help", "dig"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_lodestone"))
            .args(line)
            .output()
            .unwrap();
        assert_eq!(code(&output), 0);
        assert!(
            stdout(&output).contains("+search"),
            "{line:?}: {}",
            stdout(&output)
        );
    }
}
