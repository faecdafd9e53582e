//! `lodestone dig`: queries a server and prints the reply in the layout of BIND's `dig`.
//!
//! For `kubectl exec` into a pod whose image has no shell and no tools. Options are in `dig`'s spelling; those
//! that it does not have here are refused. Differences: see `docs/dig.md`.

mod arguments;
pub(super) mod exchange;
mod layout;
mod lookup;
mod options;
mod options_text;
mod parsed;
mod query;
mod run;
mod search;
mod transfer;

use std::{ffi::OsString, fmt::Write, net::ToSocketAddrs, process::ExitCode};

use self::{
    arguments::{Arguments, Only, Refusal},
    run::{Run, Stop},
};
use super::output;

/// The text of `lodestone dig -h`.
pub const HELP: &str = "\
Query a DNS server, with the options and the output of BIND's dig.

Usage: lodestone dig [@SERVER] [NAME] [TYPE] [CLASS] [OPTION]... [NAME ...]

Words can be in any order. What stands before the first name applies to all queries.

  @SERVER         address or name of the server [default: those of /etc/resolv.conf]
  NAME            the name [default: the root, type NS]
  TYPE            A, AAAA, SRV, TXT, ANY, AXFR, IXFR=SERIAL, TYPE65280, ... [default: A]
  CLASS           IN, CH, HS [default: IN]
  -x ADDRESS      reverse lookup: the PTR records of an address
  -p PORT         port of the server [default: 53]
  -t TYPE, -c CLASS, -q NAME
                  the same words where they could be taken for something else
  -b ADDRESS[#PORT]
                  own address
  -4, -6          use IPv4 or IPv6 only
  -f FILE         read queries from a file, one command line per line
  -u              times in microseconds
  -h, -v          print help, or the version, and exit
  --resolv-conf FILE
                  servers, search list and options of this file [default: /etc/resolv.conf]

Options, each with no before its name to switch it off (+norecurse):
  +search         use the search list, and show the last reply; +showsearch: show each
  +tcp, +vc       use TCP
  +short          print only the data of the answers
  +all, +cmd, +comments, +question, +answer, +authority, +additional, +stats
                  print this part of the output
  +ttlid, +class, +ttlunits, +split[=N], +identify, +qr
                  print TTLs, classes; TTLs with units; groups of digits; the server after a short
                  answer; the query
  +recurse, +adflag, +cdflag, +aaflag, +zflag
                  flags of the query: RD, AD, CD, AA and the reserved bit
  +edns[=N], +dnssec, +nsid, +cookie[=HEX], +subnet=ADDRESS/LENGTH, +ednsopt=CODE[:HEX], +bufsize=N
                  EDNS version, DO bit, options and payload size
  +ignore         do not retry over TCP after a truncated reply
  +fail           do not query the next server after SERVFAIL
With a value:
  +ndots=N        dots of a name that is not searched for first [default: of resolv.conf, else 1]
  +domain=NAME    use this search list
  +time=N, +timeout=N
                  seconds to wait for a reply [default: of resolv.conf, else 5; TCP: 10]
  +tries=N, +retry=N
                  attempts, or attempts after the first [default: of resolv.conf, else 3]
  +qid=N          message ID

Exit codes: 0 a reply, 1 invalid command line, 8 a file that cannot be read, 9 no reply, 10 internal error.
See docs/dig.md.
";

/// Exit codes, as in BIND.
const USAGE: u8 = 1;
const FILE: u8 = 8;
const INTERNAL: u8 = 10;

/// Executes the words after `dig`; returns the exit code.
pub fn run(words: impl IntoIterator<Item = OsString>) -> ExitCode {
    let words = words.into_iter().map(|word| {
        let word = word.into_string();
        word.map_err(|word| format!("'{}' is not UTF-8", word.to_string_lossy()))
    });
    let words: Vec<String> = match words.collect() {
        Ok(words) => words,
        Err(error) => return refused(&Refusal::Usage(error)),
    };
    let arguments = match Arguments::parse(&words) {
        Ok(arguments) => arguments,
        Err(refusal) => return refused(&refusal),
    };
    let version = format!("DiG lodestone-{}", env!("CARGO_PKG_VERSION"));
    match arguments.only {
        Some(Only::Help) => return super::printed(HELP),
        Some(Only::Version) => return super::printed(&format!("{version}\n")),
        None => {}
    }
    for warning in &arguments.warnings {
        output::print_error(warning);
    }
    let greeting = greeting(&arguments, &version, &words);
    let mut run = Run::new(arguments.globals, greeting);
    for lookup in &arguments.lookups {
        if let Err(stop) = run.lookup(lookup) {
            let (code, text) = match stop {
                Stop::Server(text) => (USAGE, text),
                Stop::Output(text) => (INTERNAL, text),
            };
            output::print_error(text);
            return ExitCode::from(code);
        }
    }
    ExitCode::from(run.code())
}

fn refused(refusal: &Refusal) -> ExitCode {
    let (code, text) = match refusal {
        Refusal::Usage(text) => (USAGE, format!("{text}\nSee 'lodestone dig -h'")),
        Refusal::Name(text) => (INTERNAL, format!("dig: {text}")),
        Refusal::File(text) => (FILE, text.clone()),
    };
    output::print_error(text);
    ExitCode::from(code)
}

/// The lines that precede the first reply.
fn greeting(arguments: &Arguments, version: &str, words: &[String]) -> Option<String> {
    if arguments.lookups.is_empty() || !arguments.globals.cmd || arguments.globals.short {
        return None;
    }
    let mut text = format!("\n; <<>> {version} <<>>");
    for word in words {
        let _ = write!(text, " {word}");
    }
    text.push('\n');
    // As in BIND: the addresses of the last server before the first name.
    let last = arguments.servers.last();
    let found = last.and_then(|word| (word.as_str(), 0).to_socket_addrs().ok());
    match found.map_or(0, Iterator::count) {
        0 => {}
        1 => text.push_str("; (1 server found)\n"),
        more => _ = writeln!(text, "; ({more} servers found)"),
    }
    text.push_str(";; global options: +cmd\n");
    Some(text)
}
