//! What the plugins of a block take from each other.

use super::{ServerBlock, is_under};
use crate::corefile::{self, Diagnostic, Directive, Word, Zone};

/// A word that answers questions.
pub(super) struct Answerer {
    pub(super) name: &'static str,
    zones: Zones,
}

/// Where its zones stand.
#[derive(Clone, Copy)]
enum Zones {
    /// They are those of the block.
    Block,
    /// One, the first argument.
    First,
    /// Behind so many other arguments; those of the block where there is none.
    Behind(usize),
}

/// All of them, in the order in which questions meet them.
pub(super) const ANSWERERS: &[Answerer] = &[
    answerer("template", Zones::Behind(2)),
    answerer("hosts", Zones::Behind(1)),
    answerer("k8s_external", Zones::Behind(0)),
    answerer("kubernetes", Zones::Behind(0)),
    answerer("file", Zones::Behind(1)),
    answerer("auto", Zones::Behind(0)),
    answerer("secondary", Zones::Behind(0)),
    answerer("etcd", Zones::Behind(0)),
    answerer("forward", Zones::First),
    answerer("grpc", Zones::First),
    answerer("erratic", Zones::Block),
    answerer("whoami", Zones::Block),
];

const fn answerer(name: &'static str, zones: Zones) -> Answerer {
    Answerer { name, zones }
}

/// A use of such a word.
struct Use<'a> {
    directive: &'a Directive,
    /// The zones as they are said, or those of the block.
    said: Vec<Zone>,
    /// What of them comes to this block.
    zones: Vec<Zone>,
    /// Where they are said.
    at: &'a Word,
}

/// Looks at one block.
pub(super) fn look(block: &ServerBlock, found: &mut Vec<Diagnostic>) {
    let uses = uses(block);
    for use_ in &uses {
        outside(use_, found);
    }
    for cache in block.uses("cache") {
        let skip = usize::from(
            cache
                .arguments
                .first()
                .is_some_and(|it| it.parse::<i64>().is_ok()),
        );
        if let Some(use_) = read(block, cache, Zones::Behind(skip)) {
            outside(&use_, found);
        }
    }
    for (place, use_) in uses.iter().enumerate() {
        if use_.zones.is_empty() {
            continue;
        }
        nothing_behind(use_, &uses[place + 1..], found);
        if let Some(before) = uses[..place]
            .iter()
            .find(|before| before.takes_all_of(use_))
        {
            found.push(never_reached(use_, before));
        }
    }
}

/// What answers in a block, in order.
fn uses(block: &ServerBlock) -> Vec<Use<'_>> {
    let words = ANSWERERS.iter();
    words
        .flat_map(|word| {
            let uses = block.uses(word.name);
            uses.filter_map(|directive| read(block, directive, word.zones))
        })
        .collect()
}

fn read<'a>(block: &ServerBlock, directive: &'a Directive, zones: Zones) -> Option<Use<'a>> {
    let words = match zones {
        Zones::Block => &[],
        Zones::First => directive.arguments.get(..1)?,
        Zones::Behind(count) => directive.arguments.get(count..).unwrap_or_default(),
    };
    let said = match words {
        [] => block.keys.iter().map(|key| key.zone.clone()).collect(),
        words => corefile::zones(words).ok()?,
    };
    Some(Use {
        directive,
        zones: block.narrow(&said),
        said,
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

    /// Whether no question for a name of its zones gets past it.
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
            // It answers for the zones whose files are there.
            "auto" => false,
            _ => !self.has("fallthrough"),
        }
    }

    /// Whether no question gets past it to `other`, which stands behind it.
    fn takes_all_of(&self, other: &Use<'_>) -> bool {
        // All uses of these are one plugin, in which the longest zone counts and not the order.
        let are_one = matches!(self.name(), "file" | "secondary" | "k8s_external");
        if are_one && self.name() == other.name() {
            return false;
        }
        let mut zones = other.zones.iter();
        // Names of addresses that are not in the table go on in any case.
        let lets_pass = |zone: &Zone| self.name() == "hosts" && zone.is_reverse();
        self.takes_all()
            && zones
                .all(|zone| !lets_pass(zone) && self.zones.iter().any(|mine| is_under(zone, mine)))
    }
}

/// Zones of which no name comes to this block.
fn outside(use_: &Use<'_>, found: &mut Vec<Diagnostic>) {
    // Where a zone is written with a unit behind it, its parser knows better what was meant.
    let is_told = corefile::parse_duration(use_.at).is_ok() && use_.name() == "cache";
    if !use_.zones.is_empty() || is_told {
        return;
    }
    let message = format!("'{}' is for no name that comes to this block", use_.name());
    let zones: Vec<&str> = use_.said.iter().take(3).map(Zone::as_str).collect();
    let told = format!(
        "no key of this block holds {} or a part of it",
        zones.join(", ")
    );
    found.push(use_.at.warning(message).label(told));
}

fn nothing_behind(use_: &Use<'_>, behind: &[Use<'_>], found: &mut Vec<Diagnostic>) {
    let Some(line) = use_.directive.property("fallthrough") else {
        return;
    };
    let Ok(falling) = corefile::zones(&line.words[1..]) else {
        return;
    };
    let falls = |zone: &Zone| {
        falling.is_empty()
            || falling
                .iter()
                .any(|other| is_under(zone, other) || is_under(other, zone))
    };
    let meet = |other: &Use<'_>| {
        let met = |zone: &Zone| {
            let mut zones = other.zones.iter();
            zones.any(|theirs| is_under(zone, theirs) || is_under(theirs, zone))
        };
        use_.zones.iter().any(|zone| falls(zone) && met(zone))
    };
    // Zones that never come here are none that anything could be behind of.
    let is_told = !use_.zones.iter().any(falls);
    // nomad stands behind all others, and has zones of a form of its own.
    if is_told || behind.iter().any(meet) {
        return;
    }
    let warning = line.name().warning(format!(
        "what falls through '{}' is answered by nothing in this block",
        use_.name()
    ));
    found.push(
        warning
            .label("leads to SERVFAIL")
            .help("remove the line, or add what shall answer, such as: forward . /etc/resolv.conf"),
    );
}

fn never_reached(use_: &Use<'_>, before: &Use<'_>) -> Diagnostic {
    let name = use_.name();
    let warning = use_
        .directive
        .name
        .warning(format!("this '{name}' is never asked"))
        .label("nothing comes this far")
        .also(
            before.directive.name.place,
            format!("'{}' answers all of its names", before.name()),
        );
    match before.name() {
        "forward" => warning.help(
            "the first 'forward' whose zone holds a name takes it: put the narrower zone first",
        ),
        "whoami" | "erratic" | "grpc" => warning,
        other => warning.help(format!("add a line 'fallthrough' to '{other}'")),
    }
}
