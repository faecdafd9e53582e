//! Executes the queries of a command line, one after the other, and prints.

use std::{
    fmt::Write,
    net::{SocketAddr, ToSocketAddrs},
    time::Duration,
};

use super::{
    exchange::{self, Failed, Path, Received, Stream, cause},
    layout::{self, Direction},
    lookup::{Family, Globals, Lookup},
    options_text,
    parsed::Parsed,
    query::QueryMessage,
    search::Resolver,
};
use crate::{
    cli::output,
    wire::{Name, Rcode, Type},
};

/// Default time to wait for a reply by UDP and by TCP, and default number of attempts, as in BIND.
const UDP_TIMEOUT: Duration = Duration::from_secs(5);
pub(super) const TCP_TIMEOUT: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;

/// Exit code without a reply, as in BIND.
const NO_REPLY: u8 = 9;

/// Why no further query is sent.
pub(super) enum Stop {
    /// A server's name has no address.
    Server(String),
    /// The output cannot be written.
    Output(String),
}

/// A server and the word that it was given by.
#[derive(Clone, Debug)]
pub(super) struct Server {
    address: SocketAddr,
    word: String,
}

/// The state of an execution.
pub(super) struct Run {
    resolver: Resolver,
    pub(super) globals: Globals,
    /// Printed before the first reply.
    greeting: Option<String>,
    /// The exit code.
    code: u8,
}

/// What follows from one exchange.
pub(super) enum Next {
    /// The next name of the search list, if any.
    Search,
    /// The lookup is complete.
    Done,
}

pub(super) fn print(text: &str) -> Result<(), Stop> {
    output::print(text).map_err(Stop::Output)
}

/// Says why there is no reply.
pub(super) fn report_failure(
    message: &QueryMessage,
    name: &Name,
    server: &Server,
    failed: &Failed,
) -> Result<(), Stop> {
    let address = shown(server.address);
    match failed {
        Failed::Connect(error) => {
            let name = name.to_string();
            let name = match name.strip_suffix('.') {
                Some(short) if !short.is_empty() => short,
                _ => &name,
            };
            print(&format!(
                ";; Connection to {address}({}) for {name} failed: {}.\n",
                server.word,
                cause(error)
            ))
        }
        Failed::Reply { error, other_ids } => {
            warn_of_others(message, other_ids)?;
            let cause = cause(error);
            print(&format!(";; communications error to {address}: {cause}\n"))
        }
    }
}

/// Warns of replies to other queries.
fn warn_of_others(message: &QueryMessage, ids: &[u16]) -> Result<(), Stop> {
    for id in ids {
        print(&format!(
            ";; Warning: ID mismatch: expected ID {}, got {id}\n",
            message.id
        ))?;
    }
    Ok(())
}

impl Run {
    /// Reads the resolv.conf. `greeting` is printed before the first reply.
    pub(super) fn new(globals: Globals, greeting: Option<String>) -> Self {
        Self {
            resolver: Resolver::read(&globals),
            globals,
            greeting,
            code: 0,
        }
    }

    /// The exit code so far.
    pub(super) fn code(&self) -> u8 {
        self.code
    }

    pub(super) fn greet(&mut self) -> Result<(), Stop> {
        match self.greeting.take() {
            Some(text) => print(&text),
            None => Ok(()),
        }
    }

    /// Sends one query, or one for each name of the search list, and prints.
    pub(super) fn lookup(&mut self, lookup: &Lookup) -> Result<(), Stop> {
        let servers = self.servers(lookup)?;
        if servers.is_empty() {
            let why = self.globals.family.map_or_else(String::new, |family| {
                format!(
                    ": none of {} has an {family}",
                    self.globals.resolv_conf.display()
                )
            });
            print(&format!(";; No acceptable nameservers{why}\n"))?;
            self.code = NO_REPLY;
            return Ok(());
        }
        let names = self.resolver.candidates(&self.globals, &lookup.name);
        let last = names.len().saturating_sub(1);
        for (at, name) in names.iter().enumerate() {
            let next = self.query(lookup, name, &servers, at == last)?;
            if matches!(next, Next::Done) {
                break;
            }
        }
        Ok(())
    }

    fn servers(&self, lookup: &Lookup) -> Result<Vec<Server>, Stop> {
        let is_usable = |address: &SocketAddr| match self.globals.family {
            None => true,
            Some(Family::V4) => address.is_ipv4(),
            Some(Family::V6) => address.is_ipv6(),
        };
        let port = self.globals.port;
        if lookup.servers.is_empty() {
            let servers = self.resolver.servers.iter().map(|server| Server {
                address: server.with_port(port),
                word: server.ip.to_string(),
            });
            return Ok(servers
                .filter(|server| is_usable(&server.address))
                .collect());
        }
        let mut servers = Vec::new();
        for word in &lookup.servers {
            let failed =
                |why: &str| Stop::Server(format!("dig: couldn't get address for '{word}': {why}"));
            let found = (word.as_str(), port).to_socket_addrs();
            let found = found.map_err(|_| failed("not found"))?;
            let before = servers.len();
            servers.extend(found.filter(is_usable).map(|address| Server {
                address,
                word: word.clone(),
            }));
            if servers.len() == before {
                let family = self.globals.family.map(|family| family.to_string());
                return Err(failed(&format!("it has no {}", family.unwrap_or_default())));
            }
        }
        Ok(servers)
    }

    /// One query, sent to the servers in order until one replies.
    fn query(
        &mut self,
        lookup: &Lookup,
        name: &Name,
        servers: &[Server],
        is_last: bool,
    ) -> Result<Next, Stop> {
        let message = QueryMessage::new(lookup, name);
        if lookup.show.query && !self.globals.short {
            self.greet()?;
            print(&sent(&message, lookup))?;
        }
        if lookup.is_transfer() {
            return self.transfer(lookup, name, &message, servers);
        }
        // An ANY query uses TCP unless told otherwise, as in BIND.
        let by_tcp = lookup.tcp.unwrap_or(lookup.rtype() == Type::ANY);
        let tries = lookup.tries.or(self.resolver.attempts).unwrap_or(TRIES);
        if by_tcp {
            for _ in 0..tries {
                for (at, server) in servers.iter().enumerate() {
                    let reply = self.by_tcp(&message, name, server)?;
                    let Some(received) = reply else { continue };
                    let is_last_server = at + 1 == servers.len();
                    let reply = Reply {
                        received,
                        server,
                        transport: "TCP",
                    };
                    if let Some(next) =
                        self.reply(lookup, &message, &reply, is_last, is_last_server)?
                    {
                        return Ok(next);
                    }
                }
            }
            return self.unreachable();
        }
        for (at, server) in servers.iter().enumerate() {
            // BIND repeats the query to the first server only.
            let tries = if at == 0 { tries } else { 1 };
            for _ in 0..tries {
                let path = self.path(server, UDP_TIMEOUT);
                let received = match exchange::by_udp(&path, &message.bytes) {
                    Ok(received) => received,
                    Err(failed) => {
                        report_failure(&message, name, server, &failed)?;
                        continue;
                    }
                };
                warn_of_others(&message, &received.other_ids)?;
                let truncated = exchange::is_truncated(&received.message);
                let mut reply = Reply {
                    received,
                    server,
                    transport: "UDP",
                };
                if truncated && !lookup.ignore_truncation {
                    if lookup.show.comments {
                        print(";; Truncated, retrying in TCP mode.\n")?;
                    }
                    match self.by_tcp(&message, name, server)? {
                        Some(received) => {
                            reply.received = received;
                            reply.transport = "TCP";
                        }
                        None => continue,
                    }
                }
                let is_last_server = at + 1 == servers.len();
                match self.reply(lookup, &message, &reply, is_last, is_last_server)? {
                    Some(next) => return Ok(next),
                    // SERVFAIL, and another server is queried.
                    None => break,
                }
            }
        }
        self.unreachable()
    }

    pub(super) fn path(&self, server: &Server, default: Duration) -> Path {
        Path {
            server: server.address,
            source: self.globals.source,
            timeout: self
                .globals
                .time
                .or(self.resolver.timeout)
                .unwrap_or(default),
        }
    }

    fn by_tcp(
        &mut self,
        message: &QueryMessage,
        name: &Name,
        server: &Server,
    ) -> Result<Option<Received>, Stop> {
        let path = self.path(server, TCP_TIMEOUT);
        let received = Stream::open(&path, &message.bytes).and_then(|mut stream| stream.next());
        match received {
            Ok(received) => {
                warn_of_others(message, &received.other_ids)?;
                Ok(Some(received))
            }
            Err(failed) => {
                report_failure(message, name, server, &failed)?;
                Ok(None)
            }
        }
    }

    pub(super) fn unreachable(&mut self) -> Result<Next, Stop> {
        self.code = NO_REPLY;
        self.greet()?;
        print(";; no servers could be reached\n")?;
        Ok(Next::Done)
    }

    /// Prints a reply unless the search goes on; nothing if another server is to be queried.
    fn reply(
        &mut self,
        lookup: &Lookup,
        message: &QueryMessage,
        reply: &Reply<'_>,
        is_last_name: bool,
        is_last_server: bool,
    ) -> Result<Option<Next>, Stop> {
        let Some(parsed) = Parsed::new(&reply.received.message) else {
            print(";; Got bad packet: unexpected end of input\n")?;
            self.code = NO_REPLY;
            return Ok(Some(Next::Done));
        };
        let rcode = Rcode(parsed.rcode());
        if rcode == Rcode::SERVFAIL && !lookup.fail && !is_last_server {
            let server = shown(reply.server.address);
            print(&format!(
                ";; Got SERVFAIL reply from {server}, trying next server\n"
            ))?;
            return Ok(None);
        }
        let next = match rcode {
            Rcode::NXDOMAIN if !is_last_name => Next::Search,
            _ => Next::Done,
        };
        if matches!(next, Next::Search) && !self.globals.show_search {
            return Ok(Some(next));
        }
        let mut out = String::new();
        if let (Some(opt), Some(cookie)) = (&parsed.opt, &message.cookie)
            && options_text::has_other_cookie(opt, parsed.bytes, cookie)
        {
            out.push_str(";; Warning: Client COOKIE mismatch\n");
        }
        if parsed.is_malformed || layout::has_malformed_data(&parsed) {
            out.push_str(";; Warning: Message parser reports malformed message packet.\n");
        }
        out.push_str(&self.greeting.take().unwrap_or_default());
        if self.globals.short {
            short(&parsed, lookup, reply, self.globals.microseconds, &mut out);
        } else {
            if lookup.show.comments {
                out.push_str(";; Got answer:\n");
            }
            let direction = Direction::Reply(message.cookie.as_deref());
            layout::message(&parsed, lookup, direction, &mut out);
        }
        if lookup.show.stats && !self.globals.short {
            reply.statistics(self.globals.microseconds, &mut out);
            let size = reply.received.message.len();
            let _ = writeln!(out, ";; MSG SIZE  rcvd: {size}\n");
        }
        print(&out)?;
        Ok(Some(next))
    }
}

/// The text of `+qr`.
fn sent(message: &QueryMessage, lookup: &Lookup) -> String {
    let mut out = String::new();
    if lookup.show.comments {
        out.push_str(";; Sending:\n");
    }
    if let Some(parsed) = Parsed::new(&message.bytes) {
        layout::message(&parsed, lookup, Direction::Query, &mut out);
    }
    if lookup.show.stats {
        let _ = writeln!(out, ";; QUERY SIZE: {}\n", message.bytes.len());
    }
    out
}

/// A reply and where it came from.
pub(super) struct Reply<'s> {
    pub(super) received: Received,
    pub(super) server: &'s Server,
    pub(super) transport: &'static str,
}

impl Reply<'_> {
    /// Appends the lines of `+stats` but the last.
    pub(super) fn statistics(&self, microseconds: bool, out: &mut String) {
        let took = time(self.received.took, microseconds);
        let (unit, server) = (unit(microseconds), shown(self.server.address));
        let now = jiff::Timestamp::now().strftime("%a %b %d %H:%M:%S UTC %Y");
        let _ = write!(
            out,
            ";; Query time: {took} {unit}\n;; SERVER: {server}({}) ({})\n;; WHEN: {now}\n",
            self.server.word, self.transport
        );
    }
}

fn time(took: Duration, microseconds: bool) -> u128 {
    if microseconds {
        took.as_micros()
    } else {
        took.as_millis()
    }
}

fn unit(microseconds: bool) -> &'static str {
    if microseconds { "usec" } else { "msec" }
}

/// Appends the data of the answers (`+short`).
fn short(
    parsed: &Parsed<'_>,
    lookup: &Lookup,
    reply: &Reply<'_>,
    microseconds: bool,
    out: &mut String,
) {
    if !lookup.show.answer {
        return;
    }
    for record in &parsed.sections[0] {
        out.push_str(&layout::data(record, parsed.bytes, &lookup.show));
        if lookup.show.identify {
            let took = time(reply.received.took, microseconds);
            let unit = if microseconds { "us" } else { "ms" };
            let server = &reply.server.word;
            let _ = write!(out, " from server {server} in {took} {unit}.");
        }
        out.push('\n');
    }
}

/// An address in BIND's form, `ADDRESS#PORT`.
fn shown(address: SocketAddr) -> String {
    format!("{}#{}", address.ip(), address.port())
}
