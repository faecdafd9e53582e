//! THE list: every word that a server block knows, in the order in which queries meet it.
//!
//! The order is CoreDNS's, never the file's: a plugin is affected by what stands above it and must
//! not care what stands below. A position that matters has its reason beside it. Words that never
//! see a query (settings) stand where they are set up.

use crate::{
    config::{Parsing, Settings},
    corefile::{Diagnostic, Directive},
    plugin::{self, Setup},
    upstream::TlsFiles,
};

/// A word of the list.
pub struct Word {
    /// As written in a Corefile.
    pub name: &'static str,
    /// How often it may stand in a server block.
    pub repeat: Repeat,
    /// What it becomes.
    pub kind: Kind,
}

/// How often a word may stand in a server block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Once; again is an error.
    Once,
    /// Any number of times: each use is an instance of its own, in file order.
    Instances,
    /// Any number of times: all uses together make one.
    Merged,
    /// Any number of times: the first counts, and later ones are warned about.
    First,
}

/// What a word becomes.
pub enum Kind {
    /// A plugin for each use.
    Plugin(ParsePlugin),
    /// One plugin for all uses.
    MergedPlugin(ParseMerged),
    /// A setting of the server block.
    Setting(ParseSetting),
    /// CoreDNS has it, Lodestone does not; what to do instead, where
    /// [`elsewhere`](crate::plugin::elsewhere) knows nothing better.
    Absent(&'static str),
}

/// What a failed reading of a directive gives: everything that is wrong with it.
pub type Errors = Vec<Diagnostic>;
type ParsePlugin = fn(&Directive, &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors>;
type ParseMerged = fn(&[&Directive], &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors>;
type ParseSetting = fn(&[&Directive], &mut Parsing<'_>, &mut Settings) -> Result<(), Errors>;

const fn word(name: &'static str, repeat: Repeat, kind: Kind) -> Word {
    Word { name, repeat, kind }
}

const fn absent(name: &'static str) -> Word {
    word(
        name,
        Repeat::Instances,
        Kind::Absent("remove the line, or keep CoreDNS for this block"),
    )
}

/// The list, outermost first.
pub const ORDER: &[Word] = &[
    // Read where a file is named: `Parsing::path`.
    word(
        "root",
        Repeat::Merged,
        Kind::Setting(crate::config::settings::root),
    ),
    // Nothing happens here: what it allows is read where it is needed.
    word("metadata", Repeat::Once, Kind::Plugin(parse_metadata)),
    absent("geoip"),
    // Outside of all that can wait.
    word("cancel", Repeat::Merged, Kind::MergedPlugin(parse_cancel)),
    word(
        "proxyproto",
        Repeat::Merged,
        Kind::Setting(crate::config::listening::proxyproto),
    ),
    word(
        "quic",
        Repeat::First,
        Kind::Setting(crate::config::listening::quic),
    ),
    word(
        "grpc_server",
        Repeat::First,
        Kind::Setting(crate::config::listening::grpc_server),
    ),
    word(
        "https",
        Repeat::First,
        Kind::Setting(crate::config::listening::https),
    ),
    word(
        "https3",
        Repeat::First,
        Kind::Setting(crate::config::listening::https3),
    ),
    word(
        "timeouts",
        Repeat::Merged,
        Kind::Setting(crate::config::listening::timeouts),
    ),
    word(
        "multisocket",
        Repeat::Once,
        Kind::Setting(crate::config::settings::multisocket),
    ),
    word(
        "reload",
        Repeat::First,
        Kind::Setting(crate::config::settings::reload),
    ),
    // Whoever answered, it is this server that did.
    word("nsid", Repeat::Once, Kind::Plugin(parse_nsid)),
    // In front of all that looks at what a client takes.
    word("bufsize", Repeat::First, Kind::Plugin(parse_bufsize)),
    word(
        "bind",
        Repeat::Merged,
        Kind::Setting(crate::config::settings::bind),
    ),
    word(
        "debug",
        Repeat::Merged,
        Kind::Setting(crate::config::settings::debug),
    ),
    // Outside of all that answers: its spans are of the whole.
    word("trace", Repeat::Merged, Kind::MergedPlugin(parse_trace)),
    word(
        "ready",
        Repeat::Once,
        Kind::Setting(crate::config::settings::ready),
    ),
    word(
        "health",
        Repeat::Merged,
        Kind::Setting(crate::config::settings::health),
    ),
    word(
        "pprof",
        Repeat::Once,
        Kind::Setting(crate::config::settings::pprof),
    ),
    word(
        "shed",
        Repeat::Once,
        Kind::Setting(crate::config::settings::shed),
    ),
    // Outermost of those that see a reply, so that it counts what the client got.
    word("prometheus", Repeat::Once, Kind::Plugin(parse_prometheus)),
    // Outside of everything that can fail, cache included: a remembered failure is one.
    word("errors", Repeat::Once, Kind::Plugin(parse_errors)),
    // Outside of rewrite: the line shows the question as asked.
    word("log", Repeat::Merged, Kind::MergedPlugin(parse_log)),
    // Outside of rewrite, as log is: what is told is what the client asked.
    word("dnstap", Repeat::Instances, Kind::Plugin(parse_dnstap)),
    // Outside of all that could send these names elsewhere.
    word("local", Repeat::Merged, Kind::MergedPlugin(parse_local)),
    // Outside of all that answers: it asks again for what it makes addresses of.
    word("dns64", Repeat::Merged, Kind::MergedPlugin(parse_dns64)),
    absent("siit"),
    word("any", Repeat::First, Kind::Plugin(parse_any)),
    word("chaos", Repeat::First, Kind::Plugin(parse_chaos)),
    // Outside of cache, so that a remembered answer is shuffled anew for each client.
    word(
        "loadbalance",
        Repeat::Merged,
        Kind::MergedPlugin(parse_loadbalance),
    ),
    // Outside of all that answers from data: who may not ask is answered here.
    word("tsig", Repeat::Once, Kind::Plugin(parse_tsig)),
    // Above all that answers: they see the question as it became.
    word("rewrite", Repeat::Merged, Kind::MergedPlugin(parse_rewrite)),
    // Outside of acl and of all that answers: each name that it tries is asked as if by the client.
    word(
        "autopath",
        Repeat::Merged,
        Kind::MergedPlugin(parse_autopath),
    ),
    // Outside of cache and of all that answers, and inside of what changes the question: rules are
    // for the name that is looked up.
    word("acl", Repeat::Merged, Kind::MergedPlugin(parse_acl)),
    word("header", Repeat::Merged, Kind::MergedPlugin(parse_header)),
    absent("dnssec"),
    word(
        "tls",
        Repeat::Merged,
        Kind::Setting(crate::config::listening::tls),
    ),
    word("minimal", Repeat::First, Kind::Plugin(parse_minimal)),
    // Before all that looks names up: what is written in the Corefile overrides them.
    word(
        "template",
        Repeat::Merged,
        Kind::MergedPlugin(parse_template),
    ),
    // Before all that has zones to tell: they refuse what it does not serve.
    word(
        "transfer",
        Repeat::Merged,
        Kind::MergedPlugin(parse_transfer),
    ),
    absent("dynupdate"),
    // Before kubernetes: an administrator's line overrides the cluster.
    word("hosts", Repeat::Once, Kind::Plugin(parse_hosts)),
    absent("route53"),
    absent("azure"),
    absent("clouddns"),
    // Before kubernetes: its zones may lie in those of the cluster.
    word(
        "k8s_external",
        Repeat::Merged,
        Kind::MergedPlugin(parse_k8s_external),
    ),
    // Before forward: the cluster's names never leave the cluster.
    word("kubernetes", Repeat::Once, Kind::Plugin(parse_kubernetes)),
    // Instances in the file, one for queries: the longest zone of all of them counts.
    word("file", Repeat::Merged, Kind::MergedPlugin(parse_file)),
    word("auto", Repeat::Instances, Kind::Plugin(parse_auto)),
    word(
        "secondary",
        Repeat::Merged,
        Kind::MergedPlugin(parse_secondary),
    ),
    word("etcd", Repeat::First, Kind::Plugin(parse_etcd)),
    // Behind all that answers here, unlike CoreDNS's: a name that falls through to an upstream today
    // and is the cluster's tomorrow is then answered from the cluster at once. Behind rewrite, so
    // that a reply is kept under the name that was looked up.
    word("cache", Repeat::Once, Kind::Plugin(parse_cache)),
    // Directly before forward: it recognises its own probe where it would be forwarded again.
    word("loop", Repeat::Once, Kind::Plugin(parse_loop)),
    word("forward", Repeat::Instances, Kind::Plugin(parse_forward)),
    word("grpc", Repeat::Once, Kind::Plugin(parse_grpc)),
    word("erratic", Repeat::Merged, Kind::MergedPlugin(parse_erratic)),
    // Answers everything that gets this far.
    word("whoami", Repeat::First, Kind::Plugin(parse_whoami)),
    absent("on"),
    absent("sign"),
    // It chooses the block before any plugin of it is asked.
    word("view", Repeat::Once, Kind::Plugin(parse_view)),
    absent("nomad"),
];

// Each plugin reads its own words; what is here only fits them to the list.

fn boxed(setup: impl Setup + 'static) -> Box<dyn Setup> {
    Box::new(setup)
}

fn parse_metadata(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::metadata::parse(one, &parsing.zone_names()).map(boxed)
}

fn parse_cancel(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::cancel::parse(uses).map(boxed)
}

fn parse_trace(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::trace::parse(uses, parsing.warnings).map(boxed)
}

fn parse_prometheus(one: &Directive, _: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::prometheus::parse(one).map(boxed)
}

fn parse_errors(one: &Directive, _: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::errors::parse(one).map(boxed)
}

fn parse_log(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::log::parse(uses).map(boxed)
}

fn parse_dnstap(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    let mut config = plugin::dnstap::parse(one, parsing.warnings)?;
    // What metadata offers comes too late: it is built behind those that offer something too.
    let mut directives = parsing.directives.iter();
    let metadata = directives.find(|directive| directive.name == "metadata");
    config.metadata = metadata.and_then(|directive| {
        let published = plugin::metadata::parse(directive, &parsing.zone_names());
        // Whatever is wrong with it is told where it is read.
        published.ok()
    });
    Ok(boxed(config))
}

fn parse_loadbalance(
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
) -> Result<Box<dyn Setup>, Errors> {
    let mut config = plugin::loadbalance::parse(uses)?;
    if let plugin::loadbalance::Policy::Weighted { file, .. } = &mut config.policy {
        *file = parsing.path(file);
    }
    Ok(boxed(config))
}

fn parse_nsid(one: &Directive, _: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::nsid::parse(one).map(boxed)
}

fn parse_bufsize(one: &Directive, _: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::bufsize::parse(one).map(boxed)
}

fn parse_any(one: &Directive, _: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::any::parse(one).map(boxed)
}

fn parse_minimal(one: &Directive, _: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::minimal::parse(one).map(boxed)
}

fn parse_chaos(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::chaos::parse(one, parsing.warnings).map(boxed)
}

fn parse_header(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::header::parse(uses, parsing.warnings).map(boxed)
}

fn parse_rewrite(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::rewrite::parse(uses, parsing.warnings).map(boxed)
}

fn parse_autopath(
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
) -> Result<Box<dyn Setup>, Errors> {
    let zones = parsing.zone_names();
    plugin::autopath::parse(uses, &zones, parsing.directives, parsing.warnings).map(boxed)
}

fn parse_etcd(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    let mut config = plugin::etcd::parse(one, &parsing.zone_names(), parsing.warnings)?;
    under_root(&mut config.tls, parsing);
    Ok(boxed(config))
}

fn parse_cache(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::cache::parse(one, &parsing.zone_names(), parsing.warnings).map(boxed)
}

fn parse_transfer(
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
) -> Result<Box<dyn Setup>, Errors> {
    plugin::transfer::parse(uses, &parsing.zone_names(), parsing.warnings).map(boxed)
}

fn parse_tsig(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    let mut config = plugin::tsig::parse(one, &parsing.zone_names(), parsing.warnings)?;
    for file in &mut config.files {
        *file = parsing.path(file);
    }
    Ok(boxed(config))
}

fn parse_hosts(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    let mut config = plugin::hosts::parse(one, &parsing.zone_names(), parsing.warnings)?;
    config.file = parsing.path(&config.file);
    Ok(boxed(config))
}

fn parse_k8s_external(
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
) -> Result<Box<dyn Setup>, Errors> {
    let zones = parsing.zone_names();
    plugin::k8s_external::parse(uses, &zones, parsing.directives, parsing.warnings).map(boxed)
}

fn parse_kubernetes(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    let config = plugin::kubernetes::parse(one, &parsing.zone_names(), parsing.warnings)?;
    Ok(boxed(
        config.with_readers(parsing.directives, parsing.warnings),
    ))
}

fn parse_file(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    let mut config = plugin::file::parse(uses, &parsing.zone_names(), parsing.warnings)?;
    for one in &mut config.files {
        one.path = parsing.path(&one.path);
    }
    Ok(boxed(config))
}

fn parse_auto(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    let mut config = plugin::auto::parse(one, &parsing.zone_names(), parsing.warnings)?;
    config.directory = parsing.path(&config.directory);
    Ok(boxed(config))
}

fn parse_secondary(
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
) -> Result<Box<dyn Setup>, Errors> {
    plugin::secondary::parse(uses, &parsing.zone_names(), parsing.warnings).map(boxed)
}

fn parse_loop(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::loop_guard::parse(one, &parsing.zone_names()).map(boxed)
}

/// The files of a connection to an upstream, where `root` says.
fn under_root(tls: &mut TlsFiles, parsing: &Parsing<'_>) {
    let identity = tls.identity.iter_mut();
    let files = identity.flat_map(|(certificate, key)| [certificate, key]);
    for file in files.chain(&mut tls.authorities) {
        *file = parsing.path(file);
    }
}

fn parse_forward(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    let mut config = plugin::forward::parse(one, &parsing.zone_names(), parsing.warnings)?;
    under_root(&mut config.tls, parsing);
    Ok(boxed(config))
}

fn parse_grpc(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    let mut config = plugin::grpc::parse(one, parsing.warnings)?;
    if let Some(tls) = &mut config.tls {
        under_root(tls, parsing);
    }
    Ok(boxed(config))
}

fn parse_whoami(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::whoami::parse(one, &parsing.zone_names(), parsing.warnings).map(boxed)
}

fn parse_local(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::local::parse(uses).map(boxed)
}

fn parse_dns64(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::dns64::parse(uses).map(boxed)
}

fn parse_acl(uses: &[&Directive], parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::acl::parse(uses, &parsing.zone_names(), parsing.warnings).map(boxed)
}

fn parse_erratic(uses: &[&Directive], _: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::erratic::parse(uses).map(boxed)
}

fn parse_template(
    uses: &[&Directive],
    parsing: &mut Parsing<'_>,
) -> Result<Box<dyn Setup>, Errors> {
    plugin::template::parse(uses, &parsing.zone_names(), parsing.warnings).map(boxed)
}

fn parse_view(one: &Directive, parsing: &mut Parsing<'_>) -> Result<Box<dyn Setup>, Errors> {
    plugin::view::parse(one, &parsing.zone_names(), parsing.warnings).map(boxed)
}
