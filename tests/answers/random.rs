//! Random names.

use std::sync::LazyLock;

use lodestone::{
    reply::{Section, Why},
    wire::{Name, Rcode, Type},
    zone::{AnswerRules, PodNames},
};
use proptest::prelude::*;

use crate::{
    dialogue::{Server, Setting},
    fixture,
};

/// Labels with a meaning in cluster names, and arbitrary ones.
fn label() -> impl Strategy<Value = Vec<u8>> {
    const KNOWN: &[&str] = &[
        "svc",
        "pod",
        "dns",
        "ns",
        "dns-version",
        "testns",
        "svc1",
        "hdls1",
        "down",
        "outside",
        "alias",
        "ping",
        "_tcp",
        "tcp",
        "_http",
        "http",
        "_",
        "172-0-0-2",
        "dup-name",
        "fd00-3--0",
        "10",
        "0",
        "1",
        "172",
        "in-addr",
        "arpa",
        "ip6",
        "f",
        "d",
        "cluster",
        "local",
    ];
    prop_oneof![
        9 => prop::sample::select(KNOWN).prop_map(|label| label.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 1..=63),
    ]
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let rules = AnswerRules {
        pods: PodNames::Insecure,
        ..AnswerRules::default()
    };
    let setting = Setting {
        rules,
        ..Setting::default()
    };
    setting.serve(fixture::cluster())
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(5000))]

    #[test]
    fn every_name_is_answered_and_denials_carry_the_zone(
        labels in prop::collection::vec(label(), 0..8),
        zone in prop::sample::select(&["cluster.LOCAL", "0.10.in-addr.arpa", "ip6.arpa"][..]),
        rtype in prop::sample::select(&[1_u16, 2, 5, 6, 12, 15, 16, 28, 33, 65, 255][..]),
        upper in any::<bool>(),
    ) {
        let server = &*SERVER;
        let zone = Name::parse(zone).unwrap();
        let spelled = labels.iter().map(|label| {
            if upper { label.to_ascii_uppercase() } else { label.clone() }
        });
        let spelled: Vec<_> = spelled.collect();
        let labels = spelled.iter().map(Vec::as_slice);
        let Ok(name) = Name::from_labels(labels, zone.as_ref()) else {
            return Ok(());
        };
        let (_, reply) = server.ask(&name.to_string(), &Type(rtype).to_string());
        let reply = reply.unwrap();
        let is_negative = reply.section(Section::Answer).is_empty();
        let authority = reply.section(Section::Authority);
        // A CNAME may also end in a denial, or leave the zones.
        let is_open = !is_negative && !reply.answers(Type(rtype));
        prop_assert!(is_open || authority.len() == usize::from(is_negative));
        prop_assert!(authority.len() <= 1);
        prop_assert!(authority.iter().all(|record| record.rtype == Type::SOA));
        prop_assert!(reply.authoritative);
        prop_assert!(reply.rcode == Rcode::NOERROR || is_negative);
        prop_assert_eq!(reply.why == Why::ClusterRecord, !is_negative);

        // Existence does not depend on case.
        let (_, lower) = server.ask(&name.to_lower().to_string(), &Type(rtype).to_string());
        let lower = lower.unwrap();
        prop_assert_eq!(lower.rcode, reply.rcode);
        prop_assert_eq!(lower.section(Section::Answer).len(), reply.section(Section::Answer).len());

        // A name with names below it exists (RFC 8020).
        if reply.rcode == Rcode::NOERROR
            && let Some(parent) = name.as_ref().parent().filter(|it| it.is_under(zone.as_ref()))
        {
            let (_, above) = server.ask(&parent.to_string(), "A");
            prop_assert_eq!(above.unwrap().rcode, Rcode::NOERROR, "{} above {}", parent, name);
        }
    }
}
