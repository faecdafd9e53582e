//! Tells secondaries that a zone has changed (NOTIFY, RFC 1996), over UDP.
//!
//! Each secondary has a task of its own, which waits for changes, lets more of them come for a
//! moment, and then tells it of each zone whose serial is not the one that it was last told of. So
//! however often a zone changes, a secondary hears of it once in [`Pace::between`], and one that
//! does not answer costs a few datagrams and no other secondary's time.
//!
//! What a secondary was told outlives a reload. A zone is told of for the first time once it is
//! known: that is at the start, when a secondary may have missed what happened in between.

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

/// When things are done.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long more changes are waited for after the first.
    pub settle: Duration,
    /// How long a secondary is left alone after it was told.
    pub between: Duration,
    /// How long an answer is waited for, for each time that is tried (RFC 1996 §3.6).
    pub patience: [Duration; 4],
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            settle: Duration::from_secs(1),
            // As long as a record of the cluster may be kept; BIND waits as long.
            between: Duration::from_secs(5),
            patience: [1, 2, 4, 8].map(Duration::from_secs),
        }
    }
}

/// Which serial of which zone each secondary was last told of.
#[derive(Debug, Default)]
pub struct Told(Mutex<HashMap<(SocketAddr, Name), u32>>);

/// One secondary, to be told of the zones of one rule.
pub struct Notifier {
    /// The secondary.
    pub to: SocketAddr,
    /// Of [`Notifier::rules`], the one that names it.
    pub rule: usize,
    /// All rules: another one may be for some of the zones.
    pub rules: Arc<[Rule]>,
    /// Who has zones.
    pub sources: Arc<[Arc<dyn Transferable>]>,
    /// What was told before.
    pub told: Arc<Told>,
    /// When.
    pub pace: Pace,
}

impl Notifier {
    /// Tells of changes for as long as there can be any.
    pub async fn run(self) {
        let changes = self.sources.iter().filter_map(|source| source.changes());
        let mut changes = stream::select_all(changes);
        let mut trouble = String::new();
        loop {
            sleep(self.pace.settle).await;
            let rested = Instant::now() + self.pace.between;
            self.round(&mut trouble).await;
            if changes.next().await.is_none() {
                return;
            }
            sleep_until(rested).await;
        }
    }

    /// Tells of every zone that has changed; `trouble` is what was last said to be wrong.
    async fn round(&self, trouble: &mut String) {
        for (zone, serial) in self.news() {
            let rcode = match self.notify(zone).await {
                Ok(rcode) => rcode,
                Err(error) => {
                    // Nobody there: it is tried again at the next change, with all that is left.
                    self.say(zone, error.to_string(), trouble);
                    return;
                }
            };
            // What it makes of it is its own matter.
            self.told.0.lock().insert((self.to, zone), serial);
            tracing::debug!(target: TARGET, "{} was told of {zone} {serial}: {rcode}", self.to);
            let refused = rcode != Rcode::NOERROR;
            let said = refused.then(|| format!("it answers {rcode}"));
            self.say(zone, said.unwrap_or_default(), trouble);
        }
    }

    /// Logs what is wrong, which is nothing where `said` is empty: once for each kind of trouble,
    /// not once for each change.
    fn say(&self, zone: Name, said: String, trouble: &mut String) {
        if said == *trouble {
            return;
        }
        if said.is_empty() {
            tracing::info!(target: TARGET, "{} can be notified again", self.to);
        } else {
            tracing::warn!(
                target: TARGET,
                "{} could not be notified of a change of {zone}: {said}; it will see the change \
                 when it next asks for the SOA record",
                self.to
            );
        }
        *trouble = said;
    }

    /// The zones whose serial it does not know.
    fn news(&self) -> Vec<(Name, u32)> {
        let is_ours = |zone: &Name| rule(&self.rules, zone.as_ref()) == Some(self.rule);
        let zones = self.sources.iter().flat_map(|source| source.serials());
        let zones: HashMap<Name, u32> = zones.filter(|(zone, _)| is_ours(zone)).collect();
        let mut told = self.told.0.lock();
        // Zones that are gone are forgotten.
        told.retain(|(to, zone), _| *to != self.to || zones.contains_key(zone) || !is_ours(zone));
        let is_news = |(zone, serial): &(Name, u32)| told.get(&(self.to, *zone)) != Some(serial);
        let mut news: Vec<_> = zones.into_iter().filter(is_news).collect();
        news.sort_unstable_by_key(|(zone, _)| zone.to_string());
        news
    }

    /// Asks until there is an answer, or it has been tried often enough.
    async fn notify(&self, zone: Name) -> io::Result<Rcode> {
        let socket = UdpSocket::bind(local_end(self.rules[self.rule].source, self.to)).await?;
        socket.connect(self.to).await?;
        let question = Question::new(zone, Type::SOA, Class::IN);
        let message = notification(rand::random(), &question);
        let mut buffer = [0; 512];
        for patience in self.pace.patience {
            let deadline = Instant::now() + patience;
            // That nobody listens there may show at the next call, and may not stay so.
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
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "it does not answer",
        ))
    }
}

/// The log's word.
const TARGET: &str = "plugin/transfer";

/// The message: a question for the zone's SOA record, from who has authority (RFC 1996 §3.7).
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

/// The code in an answer to `message`; nothing where it is none (RFC 1996 §3.8). An answer need not
/// repeat the question, as that to what is not understood at all.
fn answer(octets: &[u8], message: &[u8]) -> Option<Rcode> {
    let (header, sent) = (Header::read(octets)?, Header::read(message)?);
    let is_answer = header.has(Header::RESPONSE) && header.id == sent.id;
    if !is_answer || header.opcode() != Opcode::NOTIFY {
        return None;
    }
    if header.counts[0] > 0 {
        let asked = octets.get(HEADER_LENGTH..message.len())?;
        if !asked.eq_ignore_ascii_case(&message[HEADER_LENGTH..]) {
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
    fn an_answer_is_to_what_was_said() {
        let message = notification(7, &question());
        let mut right = message.clone();
        right[2] |= 0x80;
        assert_eq!(answer(&right, &message), Some(Rcode::NOERROR));
        right[3] = 9;
        assert_eq!(answer(&right, &message), Some(Rcode(9)));
        let bare = [0, 7, 0xA0, 4, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(answer(&bare, &message), Some(Rcode::NOTIMP));
        assert_eq!(answer(&message, &message), None, "no answer");
        for (at, octet) in [(1, 8), (2, 0x84), (13, b'x'), (5, 2)] {
            let mut wrong = right.clone();
            wrong[at] = octet;
            wrong.truncate(if at == 5 { 14 } else { wrong.len() });
            assert_eq!(answer(&wrong, &message), None, "octet {at}");
        }
        assert_eq!(answer(&right[..11], &message), None);
    }
}
