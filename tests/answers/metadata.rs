//! `metadata`: labels of `kubernetes`.

use std::net::IpAddr;

use lodestone::{
    cluster::{Object, PodLabels},
    plugin::{
        Chain,
        metadata::{Published, parse},
    },
    query::{Query, Question},
    wire::{Class, Type},
    zone::{AnswerRules, PodNames},
};

use crate::{
    dialogue::{Setting, name},
    fixture,
    reading::parsed,
};

fn published(line: &str) -> Result<Published, String> {
    let (file, parsed, _) = parsed(line, &["a.example."], "metadata", &[], parse);
    parsed.map_err(|list| file.report(list).to_string())
}

/// The values of the keys, separated by spaces; `-` if unknown.
fn values(line: &str, client: &str, asked: &str, keys: &str) -> String {
    values_with(Setting::default(), line, client, asked, keys)
}

fn values_with(mut setting: Setting, line: &str, client: &str, asked: &str, keys: &str) -> String {
    setting.rules.pods = PodNames::Verified;
    let mut objects = fixture::cluster();
    objects.push(fixture::pod("testns", "host-a", "10.1.1.1", None));
    objects.push(labelled(fixture::pod("testns", "web-1", "10.1.1.2", None)));
    objects.push(fixture::pod("kube-system", "host-b", "10.1.1.1", None));
    let chain = Chain::new(vec![setting.serve(objects).plugin.into()]);
    let mut query = Query::internal(Question::new(name(asked), Type::A, Class::IN));
    query.receive(|it| it.client = (client.parse::<IpAddr>().unwrap(), 4660).into());
    let published = published(line).unwrap();
    let values = keys.split(' ').map(|key| {
        let value = published.value(&chain, &query, None, &format!("kubernetes/{key}"));
        value.unwrap_or_else(|| "-".to_owned())
    });
    values.collect::<Vec<_>>().join("|")
}

#[test]
fn labels_have_the_parts_of_the_name() {
    let keys = "kind namespace service endpoint port-name protocol parse-error";
    for (asked, wanted) in [
        ("Web.Shop.svc.cluster.local", "svc|shop|web||||-"),
        ("w0.web.shop.svc.cluster.local", "svc|shop|web|w0|||-"),
        (
            "_http._tcp.web.shop.svc.cluster.local",
            "svc|shop|web||http|tcp|-",
        ),
        ("shop.svc.cluster.local", "svc|shop|||||-"),
        ("10-0-0-1.shop.pod.cluster.local", "pod|shop|10-0-0-1||||-"),
        ("cluster.local", "||||||-"),
        ("1.0.0.10.in-addr.arpa", "||||||-"),
        ("nonsense.cluster.local", "-|-|-|-|-|-|invalid query name"),
        ("www.example.org", "-|-|-|-|-|-|-"),
    ] {
        assert_eq!(
            values("metadata .", "10.9.9.9", asked, keys),
            wanted,
            "{asked}"
        );
    }
}

#[test]
fn labels_have_the_cluster_and_topology_zone_of_the_name() {
    let values = |zonal, asked| {
        let setting = Setting {
            zones: "cluster.local. clusterset.local.",
            multicluster: &["clusterset.local."],
            rules: AnswerRules {
                zonal,
                ..AnswerRules::default()
            },
            ..Setting::default()
        };
        let keys = "service endpoint cluster zone parse-error";
        values_with(setting, "metadata .", "10.9.9.9", asked, keys)
    };
    for (zonal, asked, wanted) in [
        (
            false,
            "w0.East.web.shop.svc.clusterset.local",
            "web|w0|east|-|-",
        ),
        (false, "web.shop.svc.clusterset.local", "web|||-|-"),
        (false, "clusterset.local", "|||-|-"),
        (false, "web.shop.svc.cluster.local", "web||-|-|-"),
        (true, "web.shop.svc.cluster.local", "web||-||-"),
        (true, "cluster.local", "||-||-"),
        (
            true,
            "West.Two.pin._zone.web.shop.svc.cluster.local",
            "web||-|west.two|-",
        ),
        (
            true,
            "a.prefer._zone.web.shop.svc.cluster.local",
            "web||-|a|-",
        ),
        (
            false,
            "a.prefer._zone.web.shop.svc.cluster.local",
            "-|-|-|-|invalid query name",
        ),
    ] {
        assert_eq!(values(zonal, asked), wanted, "{asked}");
    }
}

/// The pod with a label.
fn labelled(object: Object) -> Object {
    let Object::Pod(mut pod) = object else {
        panic!("only pods are labelled");
    };
    let wanted = ["app".into(), "team".into()];
    pod.labels = PodLabels::pick(&wanted, |name| (name == "app").then_some("web"));
    Object::Pod(pod)
}

#[test]
fn client_labels_are_those_of_its_pod() {
    let keys = "client-namespace client-pod-name client-label/app";
    let team = "client-label/team client-label/ client-label";
    let asked = "www.example.org";
    assert_eq!(values("metadata .", "10.1.1.2", asked, team), "-|-|-");
    for (client, wanted) in [
        ("10.244.0.7", "testns|web-0|-"),
        ("fd00:244::7", "testns|web-0|-"),
        ("10.1.1.2", "testns|web-1|web"),
        ("10.9.9.9", "-|-|-"),
        // An address shared by two pods.
        ("10.1.1.1", "-|-|-"),
    ] {
        assert_eq!(
            values("metadata .", client, "www.example.org", keys),
            wanted
        );
    }
}

#[test]
fn labels_are_unknown_outside_of_the_zones() {
    let values = |line| {
        values(
            line,
            "10.244.0.7",
            "svc1.testns.svc.cluster.local",
            "service",
        )
    };
    assert_eq!(values("metadata Cluster.local"), "svc1");
    assert_eq!(values("metadata example.org 10.0.0.0/8"), "-");
    assert_eq!(values("metadata"), "-", "the block is for another zone");
}

#[test]
fn options_are_parsed_or_refused() {
    assert_eq!(published("metadata").unwrap().zones.label(), "a.example.");
    assert!(published("metadata {\n}").is_ok());
    for (line, expected) in [
        ("metadata a..b", "a..b"),
        ("metadata {\nttl 5\n}", "unknown property 'ttl'"),
    ] {
        let error = published(line).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}
