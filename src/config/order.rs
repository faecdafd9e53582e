//! The table of the words that a server block knows, in the order in which queries meet their plugins.
//!
//! The order is CoreDNS's, whatever the order in the file. Where a position matters, the reason stands
//! beside it. Settings, which never see a query, stand where CoreDNS has them.
//!
//! A new word is a line here and a module: of [`crate::plugin`], with its `parse`, or a function of
//! [`settings`] or [`listening`].

use self::{
    Kind::Setting,
    Repeat::{First, Instances, Merged, Once},
};
use super::{Settings, listening, settings};
use crate::{
    corefile::Directive,
    features::Feature,
    plugin::{self, ParseErrors, Parsing, Setup},
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
    /// A plugin: one for each use where [`Repeat::Instances`], else one for all that count.
    Plugin(ParsePlugin),
    /// A setting of the server block.
    Setting(ParseSetting),
    /// CoreDNS has it, Lodestone does not; what to do instead, where
    /// [`elsewhere`](super::elsewhere) knows nothing better.
    Absent(&'static str),
    /// This build leaves it out.
    NotBuilt(Feature),
}

/// Parses uses of a word, never none, into the configuration of a plugin. Each plugin has one of this
/// form, with a type of its own in the box.
pub type ParsePlugin = fn(&[&Directive], &mut Parsing<'_>) -> Result<Box<dyn Setup>, ParseErrors>;
/// Parses all uses of a word, never none, into the settings of their block.
pub type ParseSetting =
    fn(&[&Directive], &mut Parsing<'_>, &mut Settings) -> Result<(), ParseErrors>;

/// The [`Kind::Plugin`] of the module of this name in [`crate::plugin`].
macro_rules! plugin {
    ($module:ident) => {
        Kind::Plugin(|uses, parsing| Ok(Box::new(plugin::$module::parse(uses, parsing)?)))
    };
}

/// The same for a plugin that a build can leave out.
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

/// A setting of listeners that a build can leave out.
const fn setting_of(feature: Feature, parse: ParseSetting) -> Kind {
    if feature.is_built() {
        Setting(parse)
    } else {
        Kind::NotBuilt(feature)
    }
}

const fn word(name: &'static str, repeat: Repeat, kind: Kind) -> Word {
    Word { name, repeat, kind }
}

const fn absent(name: &'static str) -> Word {
    word(
        name,
        Instances,
        Kind::Absent("remove the line, or keep CoreDNS for this block"),
    )
}

/// The list, outermost first.
pub const ORDER: &[Word] = &[
    // Read where a file is named: `Parsing::path`.
    word("root", Merged, Setting(settings::root)),
    // Has no hook: other plugins read what it publishes.
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
    // Outside of every plugin that looks at the client's limit on the reply's size.
    word("bufsize", First, plugin!(bufsize)),
    word("bind", Merged, Setting(settings::bind)),
    word("debug", Merged, Setting(settings::debug)),
    // Outside of every plugin that replies: its spans cover them.
    word("trace", Merged, optional!("trace", Trace, trace)),
    word("ready", Once, Setting(settings::ready)),
    word("health", Merged, Setting(settings::health)),
    word("pprof", Once, Setting(settings::pprof)),
    word("shed", Once, Setting(settings::shed)),
    // Outermost of those that see a reply: it counts what the client received.
    word("prometheus", Once, plugin!(prometheus)),
    // Outside of everything that can fail, cache included: a cached failure is one.
    word("errors", Once, plugin!(errors)),
    // Outside of rewrite: the line shows the original question.
    word("log", Merged, plugin!(log)),
    // Outside of rewrite, as log is.
    word("dnstap", Instances, optional!("dnstap", Dnstap, dnstap)),
    // Outside of every plugin that could answer or forward these names.
    word("local", Merged, plugin!(local)),
    // Outside of every plugin that replies: it sends sub-queries for the addresses that it translates.
    word("dns64", Merged, plugin!(dns64)),
    absent("siit"),
    word("any", First, plugin!(any)),
    word("chaos", First, plugin!(chaos)),
    // Outside of cache: a cached answer is shuffled anew for each client.
    word("loadbalance", Merged, plugin!(loadbalance)),
    // Outside of every plugin that answers from data: unauthorized queries end here.
    word("tsig", Once, plugin!(tsig)),
    // Outside of every plugin that answers: they see the rewritten question.
    word("rewrite", Merged, plugin!(rewrite)),
    // Outside of acl and of every plugin that answers: each name that it tries is a query of the client's.
    word("autopath", Merged, plugin!(autopath)),
    // Outside of cache and of every plugin that answers, inside of those that change the question:
    // rules match the name that is looked up.
    word("acl", Merged, plugin!(acl)),
    word("header", Merged, plugin!(header)),
    absent("dnssec"),
    word("tls", Merged, Setting(listening::tls)),
    word("minimal", First, plugin!(minimal)),
    // Before every look-up of names: the Corefile overrides data.
    word(
        "template",
        Merged,
        optional!("template", Template, template),
    ),
    // Before the plugins that have zones: they refuse the transfers that it does not serve.
    word("transfer", Merged, plugin!(transfer)),
    absent("dynupdate"),
    // Before kubernetes: an administrator's line overrides the cluster.
    word("hosts", Once, plugin!(hosts)),
    absent("route53"),
    absent("azure"),
    absent("clouddns"),
    // Before kubernetes: its zones may lie in those of the cluster.
    word("k8s_external", Merged, plugin!(k8s_external)),
    // Before forward: the cluster's names never leave the cluster.
    word("kubernetes", Once, plugin!(kubernetes)),
    // One plugin for all uses: the longest zone of all of them is served.
    word("file", Merged, plugin!(file)),
    word("auto", Instances, plugin!(auto)),
    word("secondary", Merged, plugin!(secondary)),
    word("etcd", First, optional!("etcd", Etcd, etcd)),
    // Behind every plugin with data of its own, unlike CoreDNS's: a cached reply of an upstream never
    // hides a name that the cluster has gained since. Behind rewrite: the key is the name that was
    // looked up.
    word("cache", Once, plugin!(cache)),
    // Directly before forward: it recognises its own probe where that would be forwarded again.
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
    fn cache_stands_between_own_data_and_upstreams() {
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
