//! Zone transfers: AXFR (RFC 5936) and IXFR (RFC 1995), as many messages over one connection.

use std::fmt::Write;

use super::{
    exchange::Stream,
    layout,
    lookup::Lookup,
    parsed::Parsed,
    query::QueryMessage,
    run::{Next, Reply, Run, Server, Stop, TCP_TIMEOUT, print, report_failure},
};
use crate::wire::{Name, Rcode, Type};

/// Where the transfer is: found by its SOA records.
#[derive(Default)]
struct Progress {
    /// The serial of the first record.
    serial: Option<u32>,
    records: usize,
    /// SOA records with that serial.
    ends: usize,
    /// Whether the second record is an SOA record: differences, not the zone.
    is_incremental: bool,
    is_complete: bool,
}

impl Progress {
    /// Counts a record; false if the transfer does not start with an SOA record.
    fn count(&mut self, soa: Option<u32>) -> bool {
        self.records += 1;
        let Some(serial) = self.serial else {
            self.serial = soa;
            self.ends = 1;
            return soa.is_some();
        };
        if self.records == 2 {
            self.is_incremental = soa.is_some_and(|other| other != serial);
        }
        if soa == Some(serial) {
            self.ends += 1;
            // Of differences, the last part begins with the new serial, and the end repeats it.
            self.is_complete = self.ends == if self.is_incremental { 3 } else { 2 };
        }
        true
    }
}

impl Run {
    pub(super) fn transfer(
        &mut self,
        lookup: &Lookup,
        name: &Name,
        message: &QueryMessage,
        servers: &[Server],
    ) -> Result<Next, Stop> {
        for server in servers {
            let path = self.path(server, TCP_TIMEOUT);
            match Stream::open(&path, &message.bytes) {
                Ok(stream) => return self.records(lookup, message, server, stream, name),
                Err(failed) => report_failure(message, name, server, &failed)?,
            }
        }
        self.unreachable()
    }

    fn records(
        &mut self,
        lookup: &Lookup,
        message: &QueryMessage,
        server: &Server,
        mut stream: Stream,
        name: &Name,
    ) -> Result<Next, Stop> {
        let mut progress = Progress::default();
        let (mut messages, mut bytes) = (0usize, 0usize);
        loop {
            let received = match stream.next() {
                Ok(received) => received,
                Err(failed) => {
                    report_failure(message, name, server, &failed)?;
                    return self.unreachable();
                }
            };
            self.greet()?;
            messages += 1;
            bytes += received.message.len();
            let mut out = String::new();
            let Some(parsed) = Parsed::new(&received.message) else {
                print(";; Got bad packet: unexpected end of input\n")?;
                return self.unreachable();
            };
            let mut failure = None;
            if Rcode(parsed.rcode()) != Rcode::NOERROR {
                failure = Some("; Transfer failed.\n");
            }
            for record in &parsed.sections[0] {
                if progress.is_complete || failure.is_some() {
                    break;
                }
                let serial = (record.rtype == Type::SOA)
                    .then(|| serial(parsed.bytes, record.data_end))
                    .flatten();
                if lookup.show.answer {
                    if self.globals.short {
                        out.push_str(&layout::data(record, parsed.bytes, &lookup.show));
                        out.push('\n');
                    } else {
                        layout::record(record, parsed.bytes, &lookup.show, &mut out);
                    }
                }
                if !progress.count(serial) {
                    failure = Some("; Transfer failed.  Didn't start with SOA answer.\n");
                }
            }
            if progress.records == 0 && failure.is_none() {
                failure = Some("; Transfer failed.\n");
            }
            // A single SOA record: the client's serial is the current one (RFC 1995 section 2).
            progress.is_complete |= progress.records == 1 && lookup.rtype() == Type::IXFR;
            if let Some(failure) = failure {
                out.push_str(failure);
                print(&out)?;
                return Ok(Next::Done);
            }
            if progress.is_complete && lookup.show.stats {
                let reply = Reply {
                    received,
                    server,
                    transport: "TCP",
                };
                reply.statistics(self.globals.microseconds, &mut out);
                let records = progress.records;
                let _ = writeln!(
                    out,
                    ";; XFR size: {records} records (messages {messages}, bytes {bytes})\n"
                );
            }
            print(&out)?;
            if progress.is_complete {
                return Ok(Next::Done);
            }
        }
    }
}

/// The serial of SOA data, which ends with it and four timers (RFC 1035 section 3.3.13).
fn serial(message: &[u8], end: usize) -> Option<u32> {
    let bytes = message.get(end.checked_sub(20)?..end)?;
    bytes.first_chunk().copied().map(u32::from_be_bytes)
}
