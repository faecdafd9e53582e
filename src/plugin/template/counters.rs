//! Counters of template matches and failures.

use std::sync::{Arc, OnceLock};

use super::data::Match;
use crate::{
    metrics::{Metrics, ShardedCounter},
    plugin::Block,
    reply::Section,
    wire::{Class, Type},
};

/// The counters of a block's templates.
pub struct Counters {
    metrics: Arc<Metrics>,
    first: Slot,
}

/// A slot of an append-only list, which is read without a lock. Its length is the number of
/// distinct label sets, which is small; types without a mnemonic share one.
type Slot = OnceLock<Box<Node>>;

struct Node {
    server: Arc<str>,
    view: Arc<str>,
    zone: String,
    class: Class,
    rtype: Type,
    counter: Arc<ShardedCounter>,
    next: Slot,
}

/// The kind of a template's failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The template could not be executed.
    Template,
    /// Its output is not a record.
    Record,
}

impl Counters {
    /// Empty counters.
    pub fn new(metrics: &Arc<Metrics>) -> Self {
        Self {
            metrics: Arc::clone(metrics),
            first: Slot::new(),
        }
    }

    /// Counts a match for a question of this class and type.
    pub fn matched(&self, block: &Block, zone: &str, class: Class, rtype: Type) {
        let (class, rtype) = (known_class(class), known_type(rtype));
        let mut slot = &self.first;
        loop {
            let node = slot.get_or_init(|| {
                let labels = [
                    &*block.server,
                    zone,
                    &*block.view,
                    &class_label(class),
                    &type_label(rtype),
                ];
                Box::new(Node {
                    server: Arc::clone(&block.server),
                    view: Arc::clone(&block.view),
                    zone: zone.to_owned(),
                    class,
                    rtype,
                    counter: self.metrics.plugins.template_matches_total.with(&labels),
                    next: Slot::new(),
                })
            });
            let is_same = node.rtype == rtype
                && node.class == class
                && node.zone == zone
                && node.server == block.server
                && node.view == block.view;
            if is_same {
                return node.counter.inc();
            }
            slot = &node.next;
        }
    }

    /// Counts a template of a section that failed.
    pub fn failed(
        &self,
        block: &Block,
        found: &Match<'_>,
        section: Section,
        template: &str,
        failure: FailureKind,
    ) {
        let made = &self.metrics.plugins;
        let family = match failure {
            FailureKind::Template => &made.template_template_failures_total,
            FailureKind::Record => &made.template_rr_failures_total,
        };
        let section = match section {
            Section::Answer => "answer",
            Section::Authority => "authority",
            Section::Additional => "additional",
        };
        let class = class_label(known_class(found.class));
        let rtype = type_label(known_type(found.rtype));
        let labels = [
            &*block.server,
            found.zone,
            &*block.view,
            &class,
            &rtype,
            section,
            template,
        ];
        family.with(&labels).inc();
    }
}

/// Stands for all classes and types without a mnemonic; not a valid value of either.
const UNKNOWN: u16 = 0;

fn known_class(class: Class) -> Class {
    match class.0 {
        1..=4 | 254 | 255 => class,
        _ => Class(UNKNOWN),
    }
}

fn known_type(rtype: Type) -> Type {
    if rtype.to_string().starts_with("TYPE") {
        return Type(UNKNOWN);
    }
    rtype
}

fn class_label(class: Class) -> String {
    match class {
        Class(UNKNOWN) => String::new(),
        known => known.to_string(),
    }
}

fn type_label(rtype: Type) -> String {
    match rtype {
        Type(UNKNOWN) => String::new(),
        known => known.to_string(),
    }
}
