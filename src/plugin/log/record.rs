//! The fields of a query's JSON record, in CoreDNS's order.

use std::time::Duration;

use super::format::{Code, LoggedOutcome, Seconds};
use crate::{logging::LogRecord, query::Query};

/// Adds the fields of the original question and of the reply as sent; last, and not in CoreDNS, the reason of a
/// reply without an answer.
pub(super) fn fields(
    record: &mut LogRecord<'_>,
    query: &Query,
    outcome: LoggedOutcome<'_>,
    reason: Option<String>,
) {
    let asked = &query.original;
    record.text("client_ip", query.client.ip().to_canonical());
    record.bare("client_port", query.client.port());
    record.text("qname", asked.lower);
    record.text("qtype", asked.rtype);
    record.text("qclass", asked.class);
    record.text("protocol", query.transport.label());
    record.bare("id", query.id);
    record.bare("opcode", query.opcode.0);
    record.bare("request_size", query.size);
    record.bare("dnssec_ok", query.dnssec_ok());
    record.bare("bufsize", query.payload());
    let (bytes, took) = match outcome {
        LoggedOutcome::Sent(reply, written) => {
            record.text("rcode", Code(reply.rcode));
            (written.size, written.took)
        }
        LoggedOutcome::Dropped(took) => {
            record.null("rcode");
            (0, took)
        }
        LoggedOutcome::Pending => {
            record.null("rcode");
            (0, Duration::ZERO)
        }
    };
    record.bare("response_size", bytes);
    record.bare("duration_seconds", Seconds(took));
    if let Some(reason) = reason {
        record.text("reason", reason);
    }
}
