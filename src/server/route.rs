//! Routing of a query to a server block: the longest matching zone.
//!
//! Routes are immutable; a reload builds new ones and swaps them in.

use std::{fmt, sync::Arc};

use crate::{
    plugin::Block,
    query::Query,
    wire::{Class, Name, NameRef, Type},
};

/// The blocks of one listener, by zone.
pub struct Routes {
    zones: hashbrown::HashMap<Box<[u8]>, Vec<Route>, foldhash::fast::FixedState>,
    /// The blocks of the root zone, for names that match no other zone.
    root: Vec<Route>,
    /// The lengths of the zones' names: suffixes of other lengths are not looked up.
    lengths: Lengths,
    other_classes: bool,
}

/// A block, and the filter for queries to it.
#[derive(Clone)]
pub struct Route {
    /// The block.
    pub block: Arc<Block>,
    /// Which queries the block accepts; `None` for all.
    pub filter: Option<Filter>,
}

/// Decides whether a block accepts a query.
pub type Filter = Arc<dyn Fn(&Query) -> bool + Send + Sync>;

impl Routes {
    /// Routes to blocks, in the order of the Corefile: of several blocks with one zone, the first whose
    /// filter accepts the query is used.
    pub fn new(routes: impl IntoIterator<Item = Route>) -> Self {
        let mut zones = hashbrown::HashMap::<_, Vec<Route>, _>::default();
        let mut lengths = Lengths::default();
        let mut other_classes = false;
        for route in routes {
            let zone = route.block.zone.to_lower();
            lengths.insert(zone.as_wire().len());
            let plugins = route.block.chain.plugins();
            let mut properties = plugins.iter().map(|plugin| plugin.properties);
            other_classes |= properties.any(|it| it.other_classes || it.server_names);
            zones.entry(zone.as_wire().into()).or_default().push(route);
        }
        Self {
            root: zones.remove(Name::ROOT.as_wire()).unwrap_or_default(),
            zones,
            lengths,
            other_classes,
        }
    }

    /// The block for a query; `None` means REFUSED.
    ///
    /// DS records are in the parent zone (RFC 4035 section 3.1.4.1), so a DS query is routed to the
    /// shortest matching zone; to the root only if no other matches.
    pub fn find(&self, query: &Query) -> Option<&Arc<Block>> {
        let question = &query.question;
        if question.class != Class::IN && !self.other_classes {
            return None;
        }
        let mut found = None;
        let mut suffix = Some(question.lower.as_ref());
        while let Some(name) = suffix {
            if found.is_some() && name.is_root() {
                break;
            }
            if let Some(block) = self.at(name, query) {
                found = Some(block);
                if question.rtype != Type::DS {
                    break;
                }
            }
            suffix = name.parent();
        }
        found
    }

    /// All blocks, in unspecified order.
    pub fn blocks(&self) -> impl Iterator<Item = &Arc<Block>> {
        let others = self.zones.values().flatten();
        self.root.iter().chain(others).map(|route| &route.block)
    }

    fn at(&self, zone: NameRef<'_>, query: &Query) -> Option<&Arc<Block>> {
        if !self.lengths.contain(zone.as_wire().len()) {
            return None;
        }
        let routes = if zone.is_root() {
            &self.root
        } else {
            self.zones.get(zone.as_wire())?
        };
        routes
            .iter()
            .find(|route| route.filter.as_ref().is_none_or(|admits| admits(query)))
            .map(|route| &route.block)
    }
}

impl From<Arc<Block>> for Route {
    fn from(block: Arc<Block>) -> Self {
        Self {
            block,
            filter: None,
        }
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set()
            .entries(self.blocks().map(|block| &block.zone))
            .finish()
    }
}

/// A set of name lengths, up to 255 (RFC 1035 section 2.3.4).
#[derive(Clone, Copy, Default)]
struct Lengths([u64; 4]);

impl Lengths {
    fn insert(&mut self, length: usize) {
        self.0[length / 64 % 4] |= 1 << (length % 64);
    }

    fn contain(self, length: usize) -> bool {
        self.0[length / 64 % 4] & 1 << (length % 64) != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{plugin::Chain, query::Question, wire::Name};

    fn block(zone: &str) -> Arc<Block> {
        Arc::new(Block {
            zone: Name::parse(zone).unwrap(),
            server: "dns://:53".into(),
            zone_label: zone.into(),
            view: "".into(),
            chain: Arc::new(Chain::new(Vec::new())),
            counters: Arc::default(),
            feed: Arc::default(),
        })
    }

    fn found(routes: &Routes, name: &str, rtype: Type) -> Option<String> {
        let question = Question::new(Name::parse(name).unwrap(), rtype, Class::IN);
        routes
            .find(&Query::internal(question))
            .map(|block| block.zone_label.to_string())
    }

    #[test]
    fn queries_match_the_longest_zone_and_ds_queries_the_shortest() {
        let zones = [".", "org", "ex.org", "a.ex.org"];
        let routes = Routes::new(zones.map(|zone| Route::from(block(zone))));
        for (name, rtype, zone) in [
            ("b.A.ex.ORG", Type::A, "a.ex.org"),
            ("a.ex.org", Type::A, "a.ex.org"),
            ("xa.ex.org", Type::A, "ex.org"),
            ("example.org", Type::A, "org"),
            ("com", Type::A, "."),
            (".", Type::A, "."),
            ("a.ex.org", Type::DS, "org"),
            ("com", Type::DS, "."),
            (".", Type::DS, "."),
        ] {
            assert_eq!(
                found(&routes, name, rtype).as_deref(),
                Some(zone),
                "{name} {rtype}"
            );
        }
    }

    #[test]
    fn without_a_zone_there_is_no_block() {
        let routes = Routes::new([Route::from(block("ex.org"))]);
        assert_eq!(found(&routes, "org", Type::A), None);
        assert_eq!(found(&routes, ".", Type::A), None);
        assert_eq!(found(&routes, "a.ex.org", Type::DS).unwrap(), "ex.org");
    }

    #[test]
    fn a_query_that_a_filter_rejects_is_routed_to_the_next_zone() {
        let refuses: Filter = Arc::new(|query| query.question.rtype == Type::SRV);
        let filtered = Route {
            block: block("a.ex.org"),
            filter: Some(refuses),
        };
        let routes = Routes::new([filtered, block("ex.org").into()]);
        assert_eq!(found(&routes, "a.ex.org", Type::SRV).unwrap(), "a.ex.org");
        assert_eq!(found(&routes, "a.ex.org", Type::A).unwrap(), "ex.org");
    }

    #[test]
    fn other_classes_are_not_routed_unless_a_plugin_serves_them() {
        let routes = Routes::new([Route::from(block("."))]);
        let question = Question::new(Name::ROOT, Type::TXT, Class::CH);
        assert!(routes.find(&Query::internal(question)).is_none());
    }
}
