//! Notifies secondaries of zone changes (NOTIFY, RFC 1996), over UDP.
//!
//! Each secondary has its own task, which waits for a change, collects further ones for a moment,
//! and then notifies the secondary of each zone whose serial differs from the last one notified. So
//! a secondary is notified of a zone at most once per [`NotifyTiming::between`], and one that does
//! not respond costs a few datagrams and does not delay others.
//!
//! The notified serials are kept across a reload. Each zone is also notified once after the start,
//! since changes may have been missed while the server was down (RFC 1996 section 4.1).

use std::{collections::HashMap, io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::{
    net::UdpSocket,
    time::{Instant, sleep, sleep_until, timeout_at},
};

use super::{Rule, Transferable, rule};
use crate::{
    interfaces::local_end,
    query::Question,
    wire::{Class, HEADER_LENGTH, Header, Name, Opcode, Rcode, Type},
};

/// The timing of notifications.
#[derive(Clone, Copy, Debug)]
pub struct NotifyTiming {
    /// Delay after the first change, in which further ones are collected.
    pub settle: Duration,
    /// Minimum interval between notifications of one secondary.
    pub between: Duration,
    /// Timeout of each attempt (RFC 1996 section 3.6).
    pub timeouts: [Duration; 4],
}

impl Default for NotifyTiming {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(1),
            // The default TTL of cluster records, and BIND's default `notify-delay`.
            between: Duration::from_secs(5),
            timeouts: [1, 2, 4, 8].map(Duration::from_secs),
        }
    }
}

/// The serial of each zone that each secondary was last notified of.
#[derive(Debug, Default)]
pub struct NotifiedSerials(Mutex<HashMap<(SocketAddr, Name), u32>>);

/// Notifies one secondary of the zones of one rule.
pub struct Notifier {
    /// The secondary.
    pub to: SocketAddr,
    /// Index in [`Notifier::rules`] of the rule that lists the secondary.
    pub rule: usize,
    /// All rules, since some zones may be subject to another one.
    pub rules: Arc<[Rule]>,
    /// The sources of zones.
    pub sources: Arc<[Arc<dyn Transferable>]>,
    /// The serials notified so far.
    pub notified: Arc<NotifiedSerials>,
    /// The timing.
    pub timing: NotifyTiming,
}

impl Notifier {
    /// Notifies of changes until all sources end.
    pub async fn run(self) {
        let changes = self.sources.iter().filter_map(|source| source.changes());
        let mut changes = stream::select_all(changes);
        let mut last_error = String::new();
        loop {
            sleep(self.timing.settle).await;
            let rested = Instant::now() + self.timing.between;
            self.round(&mut last_error).await;
            if changes.next().await.is_none() {
                return;
            }
            sleep_until(rested).await;
        }
    }

    /// Notifies of every changed zone; `last_error` is the last logged error.
    async fn round(&self, last_error: &mut String) {
        for (zone, serial) in self.changed() {
            let rcode = match self.notify(zone).await {
                Ok(rcode) => rcode,
                Err(error) => {
                    // No response: the remaining zones are retried at the next change.
                    self.log(zone, error.to_string(), last_error);
                    return;
                }
            };
            // An error response confirms receipt as well.
            self.notified.0.lock().insert((self.to, zone), serial);
            tracing::debug!(target: TARGET, "{} was notified of {zone} {serial}: {rcode}", self.to);
            let refused = rcode != Rcode::NOERROR;
            let error = refused.then(|| format!("the response is {rcode}"));
            self.log(zone, error.unwrap_or_default(), last_error);
        }
    }

    /// Logs an error, or a recovery if `error` is empty: once per distinct error, not once per
    /// change.
    fn log(&self, zone: Name, error: String, last_error: &mut String) {
        if error == *last_error {
            return;
        }
        if error.is_empty() {
            tracing::info!(target: TARGET, "{} can be notified again", self.to);
        } else {
            tracing::warn!(
                target: TARGET,
                "{} could not be notified of a change of {zone}: {error}; it will see the change \
                 when it next queries the SOA record",
                self.to
            );
        }
        *last_error = error;
    }

    /// The zones whose serial differs from the notified one.
    fn changed(&self) -> Vec<(Name, u32)> {
        let is_ours = |zone: &Name| rule(&self.rules, zone.as_ref()) == Some(self.rule);
        let zones = self.sources.iter().flat_map(|source| source.serials());
        let zones: HashMap<Name, u32> = zones.filter(|(zone, _)| is_ours(zone)).collect();
        let mut notified = self.notified.0.lock();
        // Forget zones that no longer exist.
        notified
            .retain(|(to, zone), _| *to != self.to || zones.contains_key(zone) || !is_ours(zone));
        let is_changed =
            |(zone, serial): &(Name, u32)| notified.get(&(self.to, *zone)) != Some(serial);
        let mut changed: Vec<_> = zones.into_iter().filter(is_changed).collect();
        changed.sort_unstable_by_key(|(zone, _)| zone.to_string());
        changed
    }

    /// Sends the NOTIFY until there is a response or all attempts have timed out.
    async fn notify(&self, zone: Name) -> io::Result<Rcode> {
        let socket = UdpSocket::bind(local_end(self.rules[self.rule].source, self.to)).await?;
        socket.connect(self.to).await?;
        let question = Question::new(zone, Type::SOA, Class::IN);
        let message = notification(rand::random(), &question);
        let mut buffer = [0; 512];
        for timeout in self.timing.timeouts {
            let deadline = Instant::now() + timeout;
            // An error (such as port unreachable) may be temporary, or belong to a previous
            // datagram.
            let _ = socket.send(&message).await;
            loop {
                match timeout_at(deadline, socket.recv(&mut buffer)).await {
                    Ok(Ok(length)) => {
                        if let Some(rcode) = answer(&buffer[..length], &message) {
                            return Ok(rcode);
                        }
                    }
                    Ok(Err(_)) => {
                        sleep_until(deadline).await;
                        break;
                    }
                    Err(_) => break,
                }
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "no response"))
    }
}

/// Target of log messages.
const TARGET: &str = "plugin/transfer";

/// The NOTIFY message: a question for the zone's SOA record, with AA set (RFC 1996 section 3.7).
fn notification(id: u16, question: &Question) -> Vec<u8> {
    let flags = u16::from(Opcode::NOTIFY.0) << 11 | Header::AUTHORITATIVE;
    let mut out = Vec::with_capacity(HEADER_LENGTH + question.name.as_wire().len() + 4);
    for word in [id, flags, 1, 0, 0, 0] {
        out.extend(word.to_be_bytes());
    }
    out.extend(question.name.as_wire());
    out.extend(question.rtype.0.to_be_bytes());
    out.extend(question.class.0.to_be_bytes());
    out
}

/// The code of a response to `message`, or `None` if the datagram is not one (RFC 1996 section
/// 3.8). The question may be missing, as in a response to an unsupported opcode.
fn answer(bytes: &[u8], message: &[u8]) -> Option<Rcode> {
    let (header, sent) = (Header::read(bytes)?, Header::read(message)?);
    let is_answer = header.has(Header::RESPONSE) && header.id == sent.id;
    if !is_answer || header.opcode() != Opcode::NOTIFY {
        return None;
    }
    if header.counts[0] > 0 {
        let question = bytes.get(HEADER_LENGTH..message.len())?;
        if !question.eq_ignore_ascii_case(&message[HEADER_LENGTH..]) {
            return None;
        }
    }
    Some(Rcode(header.flags & 0x0F))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question::new(Name::parse("Example.org").unwrap(), Type::SOA, Class::IN)
    }

    #[test]
    fn a_notification_asks_for_the_soa_with_authority() {
        let message = notification(0xABCD, &question());
        assert_eq!(message[..4], [0xAB, 0xCD, 0x24, 0x00]);
        assert_eq!(message[4..12], [0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(message[12..], *b"\x07Example\x03org\x00\x00\x06\x00\x01");
    }

    #[test]
    fn only_responses_to_the_notification_are_accepted() {
        let message = notification(7, &question());
        let mut right = message.clone();
        right[2] |= 0x80;
        assert_eq!(answer(&right, &message), Some(Rcode::NOERROR));
        right[3] = 9;
        assert_eq!(answer(&right, &message), Some(Rcode(9)));
        let bare = [0, 7, 0xA0, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer(&bare, &message), Some(Rcode::NOTIMP));
        assert_eq!(answer(&message, &message), None, "no answer");
        for (at, byte) in [(1, 8), (2, 0x84), (13, b'x'), (5, 2)] {
            let mut wrong = right.clone();
            wrong[at] = byte;
            wrong.truncate(if at == 5 { 14 } else { wrong.len() });
            assert_eq!(answer(&wrong, &message), None, "byte {at}");
        }
        assert_eq!(answer(&right[..11], &message), None);
    }
}
