use super::*;
use crate::cluster::object::Protocol;

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
fn services_of_every_type() {
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
fn where_a_service_is_reached_from_outside() {
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
fn slices_keep_what_is_not_ready_and_take_silence_for_readiness() {
    let text = r#"{"addressType":"IPv4","metadata":{"name":"s-1","namespace":"n","uid":"\u0041",
        "labels":{"app":"x","kubernetes.io/service-name":"s"},
        "annotations":{"endpoints.kubernetes.io/last-change-trigger-time":"2026-01-02T03:04:05Z"}},
        "endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true},"hostname":"a",
          "targetRef":{"kind":"Pod","name":"p"},"zone":"z","nodeName":"node"},
         {"addresses":["10.0.0.2"],"conditions":{"ready":false}},
         {"addresses":["10.0.0.3"],"conditions":{},"targetRef":{"kind":"Node","name":"x"}}],
        "ports":[{"name":"","port":null}]}"#;
    let Some(Object::Slice(slice, trigger)) = object(Kind::Slice, text) else {
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
fn what_names_have_no_use_for_is_not_kept() {
    let meta = r#""metadata":{"name":"x","namespace":"n","resourceVersion":"7""#;
    for (kind, rest) in [
        (
            Kind::Slice,
            r#"},"addressType":"IPv4","endpoints":null,"ports":null"#,
        ),
        (
            Kind::Slice,
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
fn pods_have_an_address_of_each_family() {
    let text = r#"{"metadata":{"name":"p","namespace":"n"},"status":{"phase":"Running",
        "podIP":"10.0.0.1","podIPs":[{"ip":"10.0.0.1"},{"ip":"fd00::1"}]}}"#;
    let Some(Object::Pod(pod)) = object(Kind::Pod, text) else {
        panic!()
    };
    assert_eq!(pod.addresses().count(), 2);
}

#[test]
fn a_bad_object_is_an_error_that_tells_which_it_is() {
    let meta = r#""metadata":{"name":"x","namespace":"n","resourceVersion":"7"}"#;
    for (kind, rest) in [
        (Kind::Service, r#""spec":{"clusterIP":"ten"}"#),
        (Kind::Service, r#""spec":{"ports":[{"port":70000}]}"#),
        (
            Kind::Service,
            r#""spec":{"ports":[{"port":7,"protocol":"TPC"}]}"#,
        ),
        (Kind::Service, r#""spec":{"type":"Magic"}"#),
        (Kind::Service, r#""status":{}"#),
        (Kind::Pod, r#""status":{"podIP":7}"#),
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
}

#[test]
fn of_a_pods_labels_those_are_kept_that_are_wanted() {
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
