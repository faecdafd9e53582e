use super::common::parse_address;
use super::*;
use crate::cluster::object::{Port, Protocol};
use std::time::SystemTime;

fn object(kind: Kind, text: &str) -> Option<Object> {
    json(kind, text, &[]).unwrap().object
}

fn service(spec: &str) -> Service {
    let text = format!(r#"{{"metadata":{{"name":"s","namespace":"n"}},"spec":{spec}}}"#);
    let Some(Object::Service(service)) = object(Kind::Service, &text) else {
        panic!("{text} is no service")
    };
    service
}

#[test]
fn services_of_every_type_are_decoded() {
    let web = service(
        r#"{"type":"NodePort","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1","fd00::1"],
            "ports":[{"name":"http","port":80,"protocol":"TCP","nodePort":30080}]}"#,
    );
    assert_eq!(web.kind, ServiceKind::ClusterIp);
    assert_eq!(web.cluster_ips.len(), 2);
    let port = Port {
        name: "http".into(),
        number: Some(80),
        protocol: Protocol::Tcp,
    };
    assert_eq!(*web.ports, [port]);

    assert_eq!(service(r#"{"clusterIP":"10.0.0.1"}"#).cluster_ips.len(), 1);
    let headless = service(r#"{"clusterIP":"None","clusterIPs":["None"],"ports":null}"#);
    assert_eq!(headless.kind, ServiceKind::Headless);
    assert!(headless.cluster_ips.is_empty() && headless.ports.is_empty());
    let named = service(r#"{"type":"ExternalName","externalName":"Example.com"}"#);
    assert_eq!(named.kind, ServiceKind::ExternalName);
    assert_eq!(named.external_name.as_deref(), Some("Example.com"));
}

#[test]
fn a_service_has_its_creation_time_and_version() {
    for (metadata, created, version) in [
        (
            r#""creationTimestamp":"2026-01-02T03:04:05Z","resourceVersion":"812""#,
            1_767_323_045,
            Some(812),
        ),
        (r#""creationTimestamp":null"#, 0, None),
        (
            r#""creationTimestamp":"yesterday","resourceVersion":"opaque""#,
            0,
            None,
        ),
        (r#""creationTimestamp":7,"resourceVersion":7"#, 0, None),
    ] {
        let text =
            format!(r#"{{"metadata":{{"name":"s","namespace":"n",{metadata}}},"spec":{{}}}}"#);
        let Some(Object::Service(service)) = object(Kind::Service, &text) else {
            panic!("{text} is no service")
        };
        let revision = service.revision;
        assert_eq!(
            (revision.created, revision.version()),
            (created, version),
            "{text}"
        );
    }
}

#[test]
fn a_pod_in_the_network_of_its_node_is_marked() {
    for (spec, is_marked) in [
        (r#""spec":{"hostNetwork":true},"#, true),
        (r#""spec":{"hostNetwork":false},"#, false),
        (r#""spec":{"nodeName":"n"},"#, false),
        ("", false),
    ] {
        let text = format!(
            r#"{{"metadata":{{"name":"p","namespace":"n"}},{spec}"status":{{"podIP":"10.0.0.1"}}}}"#
        );
        let Some(Object::Pod(pod)) = object(Kind::Pod, &text) else {
            panic!("{text} is no pod")
        };
        assert_eq!(pod.host_network, is_marked, "{text}");
    }
}

#[test]
fn external_ips_and_ingress_points_are_decoded() {
    let text = r#"{"metadata":{"name":"s","namespace":"n"},
        "spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1","externalIPs":["192.0.2.1"]},
        "status":{"loadBalancer":{"ingress":[{"ip":"192.0.2.2"},{"hostname":"lb.example.com"}]}}}"#;
    let Some(Object::Service(service)) = object(Kind::Service, text) else {
        panic!()
    };
    let external = service.external.unwrap();
    assert_eq!(external.addresses.len(), 2);
    assert_eq!(&*external.hostnames[0], "lb.example.com");
}

#[test]
fn slices_keep_unready_endpoints_and_an_absent_condition_means_ready() {
    let text = r#"{"addressType":"IPv4","metadata":{"name":"s-1","namespace":"n","uid":"\u0041",
        "labels":{"app":"x","kubernetes.io/service-name":"s"},
        "annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-02T03:04:05Z"}},
        "endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true},"hostname":"a",
          "targetRef":{"kind":"Pod","name":"p"},"zone":"z","nodeName":"node"},
         {"addresses":["10.0.0.2"],"conditions":{"ready":false}},
         {"addresses":["10.0.0.3"],"conditions":{},"targetRef":{"kind":"Node","name":"x"}}],
        "ports":[{"name":"","port":null}]}"#;
    let Some(Object::EndpointSlice(slice, trigger)) = object(Kind::EndpointSlice, text) else {
        panic!()
    };
    assert_eq!(slice.ready().count(), 2);
    assert_eq!(slice.endpoints.iter().next().unwrap().pod(), Some("p"));
    assert_eq!(slice.endpoints.iter().nth(2).unwrap().pod(), None);
    assert_eq!(slice.ports[0].number, None);
    let trigger = trigger
        .unwrap()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    assert_eq!(trigger.as_secs(), 1_767_323_045);
}

#[test]
fn objects_without_use_for_dns_are_not_kept() {
    let meta = r#""metadata":{"name":"x","namespace":"n","resourceVersion":"7""#;
    for (kind, rest) in [
        (
            Kind::EndpointSlice,
            r#"},"addressType":"IPv4","endpoints":null,"ports":null"#,
        ),
        (
            Kind::EndpointSlice,
            r#","labels":{"kubernetes.io/service-name":"s"}},"addressType":"FQDN""#,
        ),
        (
            Kind::Pod,
            r#"},"status":{"phase":"Succeeded","podIP":"10.0.0.1"}"#,
        ),
        (
            Kind::Pod,
            r#","deletionTimestamp":"2026-01-02T03:04:05Z"},"status":{"podIP":"10.0.0.1"}"#,
        ),
        (Kind::Pod, r#"},"status":{"phase":"Pending"}"#),
    ] {
        let text = format!("{{{meta}{rest}}}");
        let read = json(kind, &text, &[]).unwrap();
        assert!(read.object.is_none(), "{text}");
        assert_eq!((read.key, read.version), (("n", "x").into(), Some(7)));
    }
}

#[test]
fn a_pod_has_one_address_per_family() {
    let text = r#"{"metadata":{"name":"p","namespace":"n"},"status":{"phase":"Running",
        "podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]}}"#;
    let Some(Object::Pod(pod)) = object(Kind::Pod, text) else {
        panic!()
    };
    assert_eq!(pod.addresses().count(), 2);
}

#[test]
fn the_error_of_an_undecodable_object_has_its_key() {
    let meta = r#""metadata":{"name":"x","namespace":"n","resourceVersion":"7"}"#;
    for (kind, rest) in [
        (Kind::Service, r#""status":{}"#),
        (Kind::Service, r#""spec":null"#),
        (Kind::Service, r#""spec":7"#),
        (Kind::ServiceImport, r#""spec":[]"#),
    ] {
        let text = format!("{{{meta},{rest}}}");
        let error = json(kind, &text, &[]).unwrap_err();
        assert_eq!(error.key, Some(("n", "x").into()), "{text}");
        assert_eq!(error.version, Some(7));
    }
    assert!(
        json(Kind::Pod, r#"{"metadata":{}}"#, &[])
            .unwrap_err()
            .key
            .is_none()
    );
    assert!(json(Kind::Pod, "{", &[]).is_err());
    for bad in [r#"{"name":7}"#, r#"{"name":"x","namespace":["n"]}"#] {
        let text = format!(r#"{{"metadata":{bad},"spec":{{}}}}"#);
        assert!(json(Kind::Service, &text, &[]).unwrap_err().key.is_none());
    }
}

/// Decodes an object with invalid fields; returns it and the description of those fields.
fn with_invalid(kind: Kind, text: &str) -> (Object, String) {
    let read = json(kind, text, &[]).unwrap();
    (
        read.object.expect("the object is kept"),
        read.invalid.to_string(),
    )
}

#[test]
fn addresses_are_parsed_as_in_parse_ip_sloppy() {
    for (text, address) in [
        ("203.0.113.010", Some("203.0.113.10")),
        ("203.000.113.009", Some("203.0.113.9")),
        ("000000010.0.0.1", Some("10.0.0.1")),
        ("::ffff:192.0.2.004", Some("192.0.2.4")),
        ("::ffff:10.0.0.1", Some("10.0.0.1")),
        ("64:ff9b::192.0.2.010", Some("64:ff9b::192.0.2.10")),
        ("fd00::1", Some("fd00::1")),
        ("192.0.2.256", None),
        ("192.0.2", None),
        ("192.0.2.1.", None),
        ("192.0.2.1.1", None),
        ("+1.0.2.1", None),
        ("192.0..1", None),
        (" 192.0.2.1", None),
        ("fe80::1%eth0", None),
        ("1.2.3.4:80", None),
    ] {
        let wanted = address.map(|it| it.parse::<IpAddr>().unwrap());
        assert_eq!(parse_address(text), wanted, "{text}");
    }
}

#[test]
fn an_invalid_field_is_skipped_and_the_rest_is_kept() {
    let long = "x".repeat(64);
    let far = format!("{}x", "x.".repeat(130));
    let service = |spec: &str, status: &str| {
        let meta = r#""metadata":{"name":"s","namespace":"n","labels":7}"#;
        let text = format!(r#"{{{meta},"spec":{{{spec}}},"status":{status}}}"#);
        let (Object::Service(service), invalid) = with_invalid(Kind::Service, &text) else {
            panic!("{text} is no service")
        };
        (service, invalid)
    };
    let good = r#""clusterIPs":["10.0.0.1"],"externalIPs":["192.0.2.1"],
        "ports":[{"name":"a","port":80,"protocol":"TCP"}]"#;
    let (reference, none) = service(good, "null");
    assert_eq!(none, "");
    for (spec, status, field) in [
        (
            good.replace(']', r#","ten"]"#),
            "{}".to_owned(),
            "spec.clusterIPs[1] \"ten\", expected an IP",
        ),
        (
            good.replace(']', ",7,null,[],\"x\"]"),
            "{}".into(),
            "spec.externalIPs[1] 7, expected text",
        ),
        (
            format!("{good},\"type\":\"Magic\""),
            "{}".into(),
            "spec.type \"Magic\", expected",
        ),
        (
            format!("{good},\"type\":[]"),
            "{}".into(),
            "spec.type a list, expected text",
        ),
        (
            format!("{good},\"externalName\":5"),
            "{}".into(),
            "spec.externalName 5",
        ),
        (
            good.replace("}]", r#"},{"port":70000},{"port":-1},{"port":"80"}]"#),
            "{}".into(),
            "spec.ports[3].port \"80\", expected a port",
        ),
        (good.to_owned(), "7".into(), "status 7, expected a map"),
        (
            good.to_owned(),
            r#"{"loadBalancer":[]}"#.into(),
            "status.loadBalancer a list",
        ),
        (
            good.to_owned(),
            r#"{"loadBalancer":{"ingress":{}}}"#.into(),
            "ingress a map, expected a list",
        ),
        (
            good.to_owned(),
            r#"{"loadBalancer":{"ingress":[{"ip":"x"},null,3]}}"#.into(),
            "ingress[0].ip \"x\"",
        ),
        (
            good.to_owned(),
            format!(r#"{{"loadBalancer":{{"ingress":[{{"hostname":"{far}"}}]}}}}"#),
            "ingress[0].hostname",
        ),
        (
            good.to_owned(),
            format!(r#"{{"loadBalancer":{{"ingress":[{{"hostname":"{long}.example"}}]}}}}"#),
            "expected a host name",
        ),
    ] {
        let (service, invalid) = service(&spec, &status);
        assert_eq!(service, reference, "{spec} {status}");
        assert!(
            invalid.contains(field),
            "{invalid:?} does not contain {field:?}"
        );
    }
    let (odd, invalid) = service(r#""ports":[{"name":7,"port":80,"protocol":"TPC"}]"#, "{}");
    let port = Port {
        name: "".into(),
        number: Some(80),
        protocol: Protocol::Unstated,
    };
    assert_eq!(*odd.ports, [port]);
    assert!(
        invalid.contains("ports[0].protocol \"TPC\", expected TCP"),
        "{invalid}"
    );
    let (odd, _) = service(r#""clusterIP":"ten","ports":"all""#, "{}");
    assert!(odd.cluster_ips.is_empty() && odd.ports.is_empty());

    let text = format!(
        r#"{{"metadata":{{"name":"s","namespace":"n","annotations":[],
        "labels":{{"kubernetes.io/service-name":"s","x":null,"y":7}}}},"addressType":null,
        "endpoints":[{{"addresses":["192.0.2.1","192.0.2.004","192.0.2.x",null],"hostname":"{long}"}},
        null,"x",{{"addresses":["192.0.2.2"],"hostname":"a","conditions":{{"ready":"no"}},
        "targetRef":"p","zone":{{}}}},{{"addresses":"192.0.2.3"}},{{}}],
        "ports":[{{"port":1e9}},{{"port":"x"}},{{"port":80}}]}}"#
    );
    let (Object::EndpointSlice(slice, _), invalid) = with_invalid(Kind::EndpointSlice, &text)
    else {
        panic!("{text} is no slice")
    };
    let addresses: Vec<_> = slice.ready().map(|it| it.address.to_string()).collect();
    assert_eq!(addresses, ["192.0.2.1", "192.0.2.4", "192.0.2.2"]);
    assert_eq!(slice.ports.len(), 1);
    for field in [
        "endpoints[0].hostname",
        "endpoints[0].addresses[2] \"192.0.2.x\"",
        "endpoints[2] \"x\", expected a map",
        "endpoints[3].conditions.ready \"no\", expected true or false",
        "endpoints[4].addresses \"192.0.2.3\", expected a list",
        "and 1 more",
    ] {
        assert!(
            invalid.contains(field),
            "{invalid:?} does not contain {field:?}"
        );
    }

    let text = r#"{"metadata":{"name":"p","namespace":"n"},"status":{"podIP":"10.0.0.01",
        "podIPs":[{"ip":"x"},{"ip":7},8,{"ip":"fd00::1"}]}}"#;
    let (Object::Pod(pod), invalid) = with_invalid(Kind::Pod, text) else {
        panic!("{text} is no pod")
    };
    assert_eq!(pod.addresses().count(), 2);
    assert!(
        invalid.contains("status.podIPs[1].ip 7, expected text"),
        "{invalid}"
    );

    let text = r#"{"metadata":{"name":"i","namespace":"n"},
        "spec":{"type":7,"ips":["10.0.0.1","x"],"ports":[{"port":99999},{"port":9}]}}"#;
    let (Object::ServiceImport(import), _) = with_invalid(Kind::ServiceImport, text) else {
        panic!("{text} is no import")
    };
    assert_eq!((import.ips.len(), import.ports.len()), (1, 1));
}

#[test]
fn only_the_wanted_labels_of_a_pod_are_kept() {
    let text = r#"{"metadata":{"namespace":"ns","name":"a","labels":{"app":"w\u0065b","tier":"x",
        "app.kubernetes.io/name":""}},"status":{"podIP":"10.0.0.1"}}"#;
    let read = |text: &str, wanted: &[&str]| {
        let wanted: Vec<Box<str>> = wanted.iter().map(|it| (*it).into()).collect();
        match json(Kind::Pod, text, &wanted).unwrap().object {
            Some(Object::Pod(pod)) => pod,
            other => panic!("{other:?}"),
        }
    };
    let pod = read(text, &["app", "app.kubernetes.io/name", "team"]);
    let labels = ["app", "app.kubernetes.io/name", "team", "tier"].map(|name| pod.label(name));
    assert_eq!(labels, [Some("web"), Some(""), None, None]);
    assert_eq!(read(text, &[]).labels, None);
    assert_eq!(read(text, &["team"]).labels, None, "nothing is kept of it");
    for odd in ["null", "{}", r#"{"app":7}"#] {
        let text = text.replace(
            &text[text.find("{\"app\"").unwrap()..=text.find("}}").unwrap()],
            odd,
        );
        assert_eq!(read(&text, &["app"]).labels, None, "{odd}");
    }
}
