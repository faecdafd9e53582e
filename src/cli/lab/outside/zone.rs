//! A zone of the lab's outside world, read from a zone file by hickory-proto.

use anyhow::anyhow;
use hickory_server::proto::{
    op::ResponseCode,
    rr::{LowerName, Name, RData, Record, RecordSet, RecordType, RrKey},
    serialize::txt::Parser,
};
use std::collections::BTreeMap;

/// Maximum length of a CNAME chain.
const MAX_CHAIN: usize = 8;

/// The records of a zone.
pub(super) struct Zone {
    origin: LowerName,
    records: BTreeMap<RrKey, RecordSet>,
}

impl Zone {
    /// Parses a zone file.
    pub(super) fn parse(origin: &str, text: &'static str) -> anyhow::Result<Self> {
        let origin = Name::from_ascii(origin)?;
        let parser = Parser::new(text, None, Some(origin.clone()));
        let (_, records) = parser
            .parse()
            .map_err(|error| anyhow!("the zone {origin}: {error}"))?;
        let origin = origin.into();
        Ok(Self { origin, records })
    }

    /// Whether a name is in the zone.
    pub(super) fn contains(&self, name: &LowerName) -> bool {
        self.origin.zone_of(name)
    }

    /// The rcode, the answer section (a CNAME with its target's records) and the authority section: the SOA
    /// record of a negative answer (RFC 2308).
    pub(super) fn answer(
        &self,
        name: &LowerName,
        rtype: RecordType,
    ) -> (ResponseCode, Vec<Record>, Vec<Record>) {
        let mut answers: Vec<Record> = Vec::new();
        let mut name = name.clone();
        for _ in 0..MAX_CHAIN {
            let Some(node) = self.node(&name) else {
                return (ResponseCode::NXDomain, answers, self.soa());
            };
            let found = self.records_at(&node, rtype, &name);
            if !found.is_empty() {
                answers.extend(found);
                return (ResponseCode::NoError, answers, Vec::new());
            }
            let alias = self.records_at(&node, RecordType::CNAME, &name);
            let target = alias.iter().find_map(|record| match &record.data {
                RData::CNAME(target) => Some(LowerName::from(target.0.clone())),
                _ => None,
            });
            answers.extend(alias);
            match target {
                Some(target) if self.contains(&target) => name = target,
                Some(_) => return (ResponseCode::NoError, answers, Vec::new()),
                None => break,
            }
        }
        (ResponseCode::NoError, answers, self.soa())
    }

    /// The owner of the records for a name: itself, or the wildcard at its closest encloser (RFC 4592 section
    /// 3.3.1). `None` if the name does not exist.
    fn node(&self, name: &LowerName) -> Option<LowerName> {
        if self.exists(name) {
            return Some(name.clone());
        }
        let mut encloser = name.base_name();
        while !self.exists(&encloser) {
            if encloser.is_root() {
                return None;
            }
            encloser = encloser.base_name();
        }
        let wildcard = Name::from(encloser).prepend_label("*").ok()?;
        let wildcard = LowerName::from(wildcard);
        self.exists(&wildcard).then_some(wildcard)
    }

    /// Whether a name has records or names below it.
    fn exists(&self, name: &LowerName) -> bool {
        self.records.keys().any(|key| name.zone_of(&key.name))
    }

    /// The records at `node`, with `name` as their owner.
    fn records_at(&self, node: &LowerName, rtype: RecordType, name: &LowerName) -> Vec<Record> {
        let set = self.records.get(&RrKey::new(node.clone(), rtype));
        let records = set.into_iter().flat_map(RecordSet::records_without_rrsigs);
        let owned =
            |record: &Record| Record::from_rdata(name.into(), record.ttl, record.data.clone());
        records.map(owned).collect()
    }

    fn soa(&self) -> Vec<Record> {
        self.records_at(&self.origin, RecordType::SOA, &self.origin)
    }
}
