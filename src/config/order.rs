//! The directives of a server block, in the order in which queries pass their plugins.
//!
//! The order is CoreDNS's, independent of the order in the file. Where a position matters, the
//! reason is stated beside it. Settings do not process queries and have CoreDNS's position.
//!
//! A new directive takes an entry here and a module of [`crate::plugin`] with a function `parse`,
//! or a function of [`settings`] or [`listening`].

use self::{
    Kind::Setting,
    Repeat::{First, Instances, Merged, Once},
};
use super::settings::{self, Settings, listening};
use crate::{
    corefile::Directive,
    features::Feature,
    plugin::{self, ParseErrors, Parsing, Setup},
};

/// A directive.
pub struct DirectiveSpec {
    /// As written in a Corefile.
    pub name: &'static str,
    /// How often it may occur in a server block.
    pub repeat: Repeat,
    /// What it configures.
    pub kind: Kind,
}

/// How often a directive may occur in a server block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Once; a second use is an error.
    Once,
    /// Any number of times: each use is a separate instance, in file order.
    Instances,
    /// Any number of times: all uses form one instance.
    Merged,
    /// Any number of times: the first use applies, later ones get a warning.
    First,
}

/// What a directive configures.
pub enum Kind {
    /// A plugin: one instance per use with [`Repeat::Instances`], otherwise one in total.
    Plugin(ParsePlugin),
    /// A setting of the server block.
    Setting(ParseSetting),
    /// Implemented by CoreDNS only. The text is the suggested fix, unless
    /// [`unsupported`](super::unsupported) has a better one.
    Absent(&'static str),
    /// Not part of this build.
    NotBuilt(Feature),
}

/// Parses the uses of a directive, at least one, into the configuration of a plugin.
pub type ParsePlugin = fn(&[&Directive], &mut Parsing<'_>) -> Result<Box<dyn Setup>, ParseErrors>;
/// Parses all uses of a directive, at least one, into the settings of their block.
pub type ParseSetting =
    fn(&[&Directive], &mut Parsing<'_>, &mut Settings) -> Result<(), ParseErrors>;

/// [`Kind::Plugin`] of a module of [`crate::plugin`].
macro_rules! plugin {
    ($module:ident) => {
        Kind::Plugin(|uses, parsing| Ok(Box::new(plugin::$module::parse(uses, parsing)?)))
    };
}

/// Like `plugin!`, for a plugin behind a feature.
macro_rules! optional {
    ($feature:literal, $part:ident, $module:ident) => {{
        #[cfg(feature = $feature)]
        {
            plugin!($module)
        }
        #[cfg(not(feature = $feature))]
        {
            Kind::NotBuilt(Feature::$part)
        }
    }};
}

/// Listener settings behind a feature.
const fn setting_of(feature: Feature, parse: ParseSetting) -> Kind {
    if feature.is_built() {
        Setting(parse)
    } else {
        Kind::NotBuilt(feature)
    }
}

const fn word(name: &'static str, repeat: Repeat, kind: Kind) -> DirectiveSpec {
    DirectiveSpec { name, repeat, kind }
}

const fn absent(name: &'static str) -> DirectiveSpec {
    word(
        name,
        Instances,
        Kind::Absent("remove the line, or keep CoreDNS for this block"),
    )
}

/// All directives, outermost first.
pub const ORDER: &[DirectiveSpec] = &[
    // Applied where a parser reads a path: `Parsing::path`.
    word("root", Merged, Setting(settings::root)),
    // Has no hook: other plugins read the metadata it enables.
    word("metadata", Once, plugin!(metadata)),
    absent("geoip"),
    // Outside of every plugin that can wait.
    word("cancel", Merged, plugin!(cancel)),
    word("proxyproto", Merged, Setting(listening::proxyproto)),
    word("quic", First, setting_of(Feature::Quic, listening::quic)),
    word(
        "grpc_server",
        First,
        setting_of(Feature::Grpc, listening::grpc_server),
    ),
    word("https", First, setting_of(Feature::Https, listening::https)),
    word(
        "https3",
        First,
        setting_of(Feature::Quic, listening::https3),
    ),
    word("timeouts", Merged, Setting(listening::timeouts)),
    word("multisocket", Once, Setting(settings::multisocket)),
    word("reload", First, Setting(settings::reload)),
    // Outside of every plugin that replies: each reply carries the server's identity.
    word("nsid", Once, plugin!(nsid)),
    // Outside of every plugin that reads the client's payload size.
    word("bufsize", First, plugin!(bufsize)),
    word("bind", Merged, Setting(settings::bind)),
    word("debug", Merged, Setting(settings::debug)),
    // Outside of every plugin that replies: its spans cover them.
    word("trace", Merged, optional!("trace", Trace, trace)),
    word("ready", Once, Setting(settings::ready)),
    word("health", Merged, Setting(settings::health)),
    word("pprof", Once, Setting(settings::pprof)),
    word("shed", Once, Setting(settings::shed)),
    // Outermost of the plugins that see replies: it counts what the client receives.
    word("prometheus", Once, plugin!(prometheus)),
    // Outside of everything that can fail, cache included: cached failures are reported too.
    word("errors", Once, plugin!(errors)),
    // Outside of rewrite: the log line has the original question.
    word("log", Merged, plugin!(log)),
    // Outside of rewrite, like log.
    word("dnstap", Instances, optional!("dnstap", Dnstap, dnstap)),
    // Outside of every plugin that could answer or forward these names.
    word("local", Merged, plugin!(local)),
    // Outside of every plugin that replies: it sends sub-queries for the addresses that it
    // translates.
    word("dns64", Merged, plugin!(dns64)),
    absent("siit"),
    word("any", First, plugin!(any)),
    word("chaos", First, plugin!(chaos)),
    // Outside of cache: a cached answer is shuffled anew for each client.
    word("loadbalance", Merged, plugin!(loadbalance)),
    // Outside of every plugin that answers from data: unauthorized queries end here.
    word("tsig", Once, plugin!(tsig)),
    // Outside of every plugin that answers: they receive the rewritten question.
    word("rewrite", Merged, plugin!(rewrite)),
    // Outside of acl and of every plugin that answers: each name that it tries is treated as a
    // query of the client.
    word("autopath", Merged, plugin!(autopath)),
    // Outside of cache and of every plugin that answers, inside of those that change the question:
    // rules match the rewritten name.
    word("acl", Merged, plugin!(acl)),
    word("header", Merged, plugin!(header)),
    absent("dnssec"),
    word("tls", Merged, Setting(listening::tls)),
    word("minimal", First, plugin!(minimal)),
    // Before every plugin that answers from data: the Corefile overrides it.
    word(
        "template",
        Merged,
        optional!("template", Template, template),
    ),
    // Before the plugins with zones: they refuse transfers that it does not serve.
    word("transfer", Merged, plugin!(transfer)),
    absent("dynupdate"),
    // Before kubernetes: the administrator's entries override the cluster.
    word("hosts", Once, plugin!(hosts)),
    absent("route53"),
    absent("azure"),
    absent("clouddns"),
    // Before kubernetes: its zones may be below those of the cluster.
    word("k8s_external", Merged, plugin!(k8s_external)),
    // Before forward: names of the cluster are never forwarded.
    word("kubernetes", Once, plugin!(kubernetes)),
    // One plugin for all uses: the longest matching zone is served.
    word("file", Merged, plugin!(file)),
    word("auto", Instances, plugin!(auto)),
    word("secondary", Merged, plugin!(secondary)),
    word("etcd", First, optional!("etcd", Etcd, etcd)),
    // After every plugin with its own data, unlike in CoreDNS: a cached upstream response never
    // hides a name that was added to the cluster. After rewrite: the key is the rewritten name.
    word("cache", Once, plugin!(cache)),
    // Directly before forward: it detects its own probe before that is forwarded again.
    word("loop", Once, plugin!(loop_guard)),
    word("forward", Instances, plugin!(forward)),
    word("grpc", Once, optional!("grpc", Grpc, grpc)),
    word("erratic", Merged, plugin!(erratic)),
    // Answers every query that reaches it.
    word("whoami", First, plugin!(whoami)),
    absent("on"),
    absent("sign"),
    // Selects the block before the chain starts.
    word("view", Once, plugin!(view)),
    absent("nomad"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_is_between_local_data_and_upstreams() {
        let place = |name| {
            let mut words = ORDER.iter();
            words.position(|word| word.name == name).unwrap()
        };
        for outer in [
            "loadbalance",
            "acl",
            "rewrite",
            "autopath",
            "template",
            "hosts",
            "k8s_external",
            "kubernetes",
            "file",
            "auto",
            "secondary",
            "etcd",
        ] {
            assert!(place(outer) < place("cache"), "{outer}");
        }
        for inner in ["loop", "forward", "grpc"] {
            assert!(place("cache") < place(inner), "{inner}");
        }
    }
}
