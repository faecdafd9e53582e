//! Aliases without an end: ExternalName Services that lead to each other.

use super::Diagnosis;
use crate::{
    query::Question,
    reply::{Reply, Section},
    wire::NameRef,
    zone::{name::SplitName, name_kind::NameKind},
};

impl Diagnosis<'_, '_> {
    /// `ExternalName loop: web.shop -> pool.shop -> web.shop`. Names only what the reply's records name.
    pub(super) fn endless_alias(&mut self, question: &Question, reply: &Reply) {
        let records = reply.section(Section::Answer).iter();
        let targets: Vec<_> = records
            .filter_map(|record| reply.data_name(record))
            .collect();
        let (Some(last), count) = (targets.last(), targets.len()) else {
            return;
        };
        let names = std::iter::once(question.lower.as_ref()).chain(targets.iter().copied());
        let is_loop = names
            .clone()
            .take(count)
            .any(|name| name.eq_ignore_case(*last));
        self.text.push(if is_loop {
            "ExternalName loop: "
        } else {
            "chain of ExternalName Services too long: "
        });
        for (at, name) in names.enumerate() {
            self.text.push(if at == 0 { "" } else { " -> " });
            self.short_name(name);
        }
    }

    /// `SERVICE.NAMESPACE` of a Service's name, the complete one of any other.
    fn short_name(&mut self, name: NameRef<'_>) {
        let (spelled, lower) = (name.to_name(), name.to_name().to_lower());
        let labels = SplitName::new(&spelled, &lower);
        let kind = self.view.zones.find(&labels).map(|matched| matched.kind());
        let Some(NameKind::Service {
            namespace, service, ..
        }) = kind
        else {
            return self.text.push(&name.to_string());
        };
        self.text.name(service);
        self.text.push(".");
        self.text.name(namespace);
    }
}
