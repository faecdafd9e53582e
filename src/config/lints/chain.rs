//! Lints about plugins of one block that hide each other.

use super::{ServerBlock, is_under};
use crate::corefile::{self, Diagnostic, Directive, Word, ZoneName};

/// A directive whose plugin answers queries.
pub(super) struct AnsweringPlugin {
    pub(super) name: &'static str,
    zones: ZoneArguments,
}

/// Position of the directive's zones in its arguments.
#[derive(Clone, Copy)]
enum ZoneArguments {
    /// None: the zones of the block.
    Block,
    /// The first argument.
    First,
    /// After this many other arguments; without any, the zones of the block.
    After(usize),
}

/// All answering plugins, in chain order.
pub(super) const ANSWERING_PLUGINS: &[AnsweringPlugin] = &[
    answering("template", ZoneArguments::After(2)),
    answering("hosts", ZoneArguments::After(1)),
    answering("k8s_external", ZoneArguments::After(0)),
    answering("kubernetes", ZoneArguments::After(0)),
    answering("file", ZoneArguments::After(1)),
    answering("auto", ZoneArguments::After(0)),
    answering("secondary", ZoneArguments::After(0)),
    answering("etcd", ZoneArguments::After(0)),
    answering("forward", ZoneArguments::First),
    answering("grpc", ZoneArguments::First),
    answering("erratic", ZoneArguments::Block),
    answering("whoami", ZoneArguments::Block),
];

const fn answering(name: &'static str, zones: ZoneArguments) -> AnsweringPlugin {
    AnsweringPlugin { name, zones }
}

/// One use of an answering directive.
struct Use<'a> {
    directive: &'a Directive,
    /// Zones as configured, or those of the block.
    configured: Vec<ZoneName>,
    /// The part of them within the block's zones.
    zones: Vec<ZoneName>,
    /// The word that names the first zone.
    at: &'a Word,
}

/// Checks one block.
pub(super) fn check(block: &ServerBlock, lints: &mut Vec<Diagnostic>) {
    let uses = uses(block);
    for use_ in &uses {
        outside(use_, lints);
    }
    for cache in block.uses("cache") {
        let skip = usize::from(
            cache
                .arguments
                .first()
                .is_some_and(|it| it.parse::<i64>().is_ok()),
        );
        if let Some(use_) = read(block, cache, ZoneArguments::After(skip)) {
            outside(&use_, lints);
        }
    }
    for (index, use_) in uses.iter().enumerate() {
        if use_.zones.is_empty() {
            continue;
        }
        unanswered_fallthrough(use_, &uses[index + 1..], lints);
        if let Some(before) = uses[..index]
            .iter()
            .find(|before| before.takes_all_of(use_))
        {
            lints.push(never_reached(use_, before));
        }
    }
}

/// Uses of answering directives in chain order.
fn uses(block: &ServerBlock) -> Vec<Use<'_>> {
    let words = ANSWERING_PLUGINS.iter();
    words
        .flat_map(|word| {
            let uses = block.uses(word.name);
            uses.filter_map(|directive| read(block, directive, word.zones))
        })
        .collect()
}

fn read<'a>(
    block: &ServerBlock,
    directive: &'a Directive,
    zones: ZoneArguments,
) -> Option<Use<'a>> {
    let words = match zones {
        ZoneArguments::Block => &[],
        ZoneArguments::First => directive.arguments.get(..1)?,
        ZoneArguments::After(count) => directive.arguments.get(count..).unwrap_or_default(),
    };
    let configured = match words {
        [] => block.keys.iter().map(|key| key.zone.clone()).collect(),
        words => corefile::zones(words).ok()?,
    };
    Some(Use {
        directive,
        zones: block.narrow(&configured),
        configured,
        at: words.first().unwrap_or(&directive.name),
    })
}

impl Use<'_> {
    fn name(&self) -> &str {
        &self.directive.name
    }

    fn has(&self, name: &str) -> bool {
        self.directive.property(name).is_some()
    }

    /// Whether no query within its zones passes to the next plugin.
    fn takes_all(&self) -> bool {
        match self.name() {
            "forward" | "grpc" => {
                let ways = ["except", "next", "next_on_nodata", "fallthrough"];
                !ways.iter().any(|way| self.has(way))
            }
            "template" => {
                let all = self
                    .directive
                    .arguments
                    .get(1)
                    .is_some_and(|it| *it == "ANY");
                all && !["match", "expr", "fallthrough"]
                    .iter()
                    .any(|it| self.has(it))
            }
            // Answers only for zones whose files exist.
            "auto" => false,
            _ => !self.has("fallthrough"),
        }
    }

    /// Whether no query reaches `other`, which is later in the chain.
    fn takes_all_of(&self, other: &Use<'_>) -> bool {
        // All uses of these form one plugin, which selects the longest matching zone regardless of
        // order.
        let form_one_plugin = matches!(self.name(), "file" | "secondary" | "k8s_external");
        if form_one_plugin && self.name() == other.name() {
            return false;
        }
        let mut zones = other.zones.iter();
        // Reverse names without an entry always fall through.
        let lets_pass = |zone: &ZoneName| self.name() == "hosts" && zone.is_reverse();
        self.takes_all()
            && zones
                .all(|zone| !lets_pass(zone) && self.zones.iter().any(|mine| is_under(zone, mine)))
    }
}

/// Reports zones outside of the block.
fn outside(use_: &Use<'_>, lints: &mut Vec<Diagnostic>) {
    // For zones that look like a duration, the cache parser has a better diagnostic.
    let is_reported = corefile::parse_duration(use_.at).is_ok() && use_.name() == "cache";
    if !use_.zones.is_empty() || is_reported {
        return;
    }
    let message = format!(
        "the zones of '{}' are outside of this server block",
        use_.name()
    );
    let zones: Vec<&str> = use_
        .configured
        .iter()
        .take(3)
        .map(ZoneName::as_str)
        .collect();
    let label = format!("no key of this block overlaps with {}", zones.join(", "));
    lints.push(use_.at.warning(message).label(label));
}

fn unanswered_fallthrough(use_: &Use<'_>, behind: &[Use<'_>], lints: &mut Vec<Diagnostic>) {
    let Some(line) = use_.directive.property("fallthrough") else {
        return;
    };
    let Ok(falling) = corefile::zones(&line.words[1..]) else {
        return;
    };
    let falls = |zone: &ZoneName| {
        falling.is_empty()
            || falling
                .iter()
                .any(|other| is_under(zone, other) || is_under(other, zone))
    };
    let meet = |other: &Use<'_>| {
        let met = |zone: &ZoneName| {
            let mut zones = other.zones.iter();
            zones.any(|theirs| is_under(zone, theirs) || is_under(theirs, zone))
        };
        use_.zones.iter().any(|zone| falls(zone) && met(zone))
    };
    // No query for these zones reaches the plugin: reported by `outside`.
    let is_reported = !use_.zones.iter().any(falls);
    // nomad, the last plugin of the chain, is not checked: its zone syntax differs.
    if is_reported || behind.iter().any(meet) {
        return;
    }
    let warning = line.name().warning(format!(
        "queries that fall through '{}' reach no other plugin of this block",
        use_.name()
    ));
    lints.push(warning.label("answered with SERVFAIL").help(
        "remove the line, or add a plugin that answers, such as: forward . /etc/resolv.conf",
    ));
}

fn never_reached(use_: &Use<'_>, before: &Use<'_>) -> Diagnostic {
    let name = use_.name();
    let warning = use_
        .directive
        .name
        .warning(format!("this '{name}' is never reached"))
        .label("no query reaches it")
        .also(
            before.directive.name.span,
            format!("'{}' answers all queries for its names", before.name()),
        );
    match before.name() {
        "forward" => warning.help(
            "the first 'forward' whose zone holds a name takes the query: put the longer zone first",
        ),
        "whoami" | "erratic" | "grpc" => warning,
        other => warning.help(format!("add a line 'fallthrough' to '{other}'")),
    }
}
