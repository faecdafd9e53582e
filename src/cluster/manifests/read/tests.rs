use super::*;

#[test]
fn documents_are_split_where_a_line_begins_with_three_dashes() {
    let text = "# a\n---\na: 1\n--- # b\nb: |\n  ---\n  x---\n---\n";
    let lines: Vec<_> = split(text).map(|(line, _)| line).collect();
    assert_eq!(lines, [0, 1, 3, 7]);
    let empty = "\n---\n# only words\n---\n---\n";
    let contents = read(empty, Format::Yaml);
    assert!(contents.documents.is_empty() && contents.faults.is_empty());
}

#[test]
fn a_fault_says_where_and_what_and_costs_itself() {
    let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n";
    let after = "\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n";
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n";
    let pod = "apiVersion: v1\nkind: Pod\n";
    // A document, the line of its fault, what is said, and how many documents there are.
    for (bad, line, says, documents) in [
        ("kind: [".to_owned(), 5, "no YAML; look for", 2),
        ("kind: a: b\n".into(), 5, "no YAML", 2),
        ("kind: a\n\tb: c\n".into(), 6, "a tab in the indentation", 2),
        (
            "kind: a\nb: {{ include \"c\" . }}-d\n".into(),
            6,
            "a template",
            2,
        ),
        (
            "a: 1\na: 2\n".into(),
            6,
            "the key \"a\" for a second time",
            2,
        ),
        ("a: *b\n".into(), 5, "an alias", 2),
        (
            "a: b\n".into(),
            5,
            "no manifest: expected text for apiVersion",
            2,
        ),
        ("- a\n".into(), 5, "a list, expected a map", 2),
        ("words\n".into(), 5, "\"words\", expected a map", 2),
        (
            format!("{service}  ports: [{{port: 99999}}]\n"),
            9,
            "Service a: spec.ports[0].port 99999",
            3,
        ),
        (
            format!("{service}  ports:\n  - port: 1\n    protocol: TPC\n"),
            11,
            "\"TPC\", expected TCP, UDP",
            3,
        ),
        (
            format!("{service}  ports: [{{port: 1, targetPort: 70000}}]\n"),
            9,
            "targetPort 70000",
            3,
        ),
        (
            format!("{service}  clusterIP: ten\n"),
            9,
            "\"ten\", expected an IP address",
            3,
        ),
        (
            format!("{service}  selector: {{a: [b]}}\n"),
            9,
            "spec.selector.a a list",
            3,
        ),
        (
            service.replace("{name: a}", "{name: a, labels: {x.y/z: [1]}}") + "  {}\n",
            7,
            "metadata.labels.x.y/z a list",
            3,
        ),
        (
            service.replace("spec:", "spec: 7"),
            5,
            "Service a: it has no spec",
            2,
        ),
        (
            format!("{pod}metadata: {{name: A_B}}\n"),
            7,
            "\"A_B\", expected lower-case",
            2,
        ),
        (
            format!("{pod}metadata: {{}}\n"),
            7,
            "metadata.name is missing",
            2,
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- {}\n".into(),
            8,
            "items[0]: no manifest",
            2,
        ),
        (
            format!("{pod}metadata: {{name: p}}\nstatus: {{podIP: x}}\n"),
            8,
            "status.podIP \"x\"",
            3,
        ),
    ] {
        let contents = read(&format!("{good}{bad}{after}"), Format::Yaml);
        let faults: Vec<_> = contents
            .faults
            .iter()
            .map(|it| (it.line, &*it.what))
            .collect();
        let [(at, what)] = faults[..] else {
            panic!("{bad}: {faults:?}")
        };
        assert!(what.contains(says), "{what:?} does not say {says:?}");
        assert_eq!(at, line, "{bad}: {what}");
        assert_eq!(contents.documents.len(), documents, "{bad}");
    }
    let contents = read("{\"kind\": \"a\"}\n{\"kind\": 7}\n{", Format::Json);
    let lines: Vec<_> = contents.faults.iter().map(|it| it.line).collect();
    assert_eq!(lines, [1, 2, 3], "{:?}", contents.faults);
}

#[test]
fn null_is_as_absent() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: a, namespace: null, labels: {x: null, y: 1, z: true}}
spec: {selector: {app: web, other: null}, ports: [{name: null, port: 80}], clusterIP: null}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: ~, labels: null}
spec: {containers: [{ports: [{name: null, containerPort: 80}, null]}, null], hostname: null}
status: {podIP: 10.0.0.1, conditions: null}
---
apiVersion: v1
kind: List
items: null
";
    let contents = read(text, Format::Yaml);
    assert!(contents.faults.is_empty(), "{:?}", contents.faults);
    let [Document::Service(service), Document::Pod(pod)] = &contents.documents[..] else {
        panic!()
    };
    let labels = |labels: &[(&str, &str)]| -> Labels {
        let labels = labels.iter();
        labels
            .map(|(name, value)| ((*name).into(), (*value).into()))
            .collect()
    };
    assert_eq!(service.labels, labels(&[("y", "1"), ("z", "true")]));
    assert_eq!(service.selector, labels(&[("app", "web")]));
    assert_eq!(service.ports.len(), 1);
    assert!(pod.ready && pod.pod.is_some() && pod.labels.is_empty());
}
