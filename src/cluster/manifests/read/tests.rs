use super::*;

#[test]
fn documents_are_split_at_lines_starting_with_three_dashes() {
    let text = "# a\n---\na: 1\n--- # b\nb: |\n  ---\n  x---\n---\n";
    let lines: Vec<_> = split(text).map(|(line, _)| line).collect();
    assert_eq!(lines, [0, 1, 3, 7]);
    let empty = "\n---\n# only words\n---\n---\n";
    let contents = read(empty, ManifestFormat::Yaml);
    assert!(contents.documents.is_empty() && contents.errors.is_empty());
}

#[test]
fn an_error_has_line_and_message_and_skips_only_its_part() {
    let good = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n";
    let after = "\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n";
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n";
    let pod = "apiVersion: v1\nkind: Pod\n";
    // A document, the line and message of its error, and the number of documents parsed.
    for (bad, line, says, documents) in [
        ("kind: [".to_owned(), 5, "invalid YAML; check", 2),
        ("kind: a: b\n".into(), 5, "invalid YAML", 2),
        ("kind: a\n\tb: c\n".into(), 6, "a tab in the indentation", 2),
        (
            "kind: a\nb: {{ include \"c\" . }}-d\n".into(),
            6,
            "a template",
            2,
        ),
        ("a: 1\na: 2\n".into(), 6, "duplicate key \"a\"", 2),
        ("a: *b\n".into(), 5, "an alias", 2),
        ("a: b\n".into(), 5, "not a manifest: apiVersion", 2),
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
            "items[0]: not a manifest",
            2,
        ),
        (
            format!("{pod}metadata: {{name: p}}\nstatus: {{podIP: x}}\n"),
            8,
            "status.podIP \"x\"",
            3,
        ),
    ] {
        let contents = read(&format!("{good}{bad}{after}"), ManifestFormat::Yaml);
        let errors: Vec<_> = contents
            .errors
            .iter()
            .map(|it| (it.line, &*it.message))
            .collect();
        let [(at, what)] = errors[..] else {
            panic!("{bad}: {errors:?}")
        };
        assert!(what.contains(says), "{what:?} does not contain {says:?}");
        assert_eq!(at, line, "{bad}: {what}");
        assert_eq!(contents.documents.len(), documents, "{bad}");
    }
    let contents = read("{\"kind\": \"a\"}\n{\"kind\": 7}\n{", ManifestFormat::Json);
    let lines: Vec<_> = contents.errors.iter().map(|it| it.line).collect();
    assert_eq!(lines, [1, 2, 3], "{:?}", contents.errors);
}

#[test]
fn null_is_treated_as_absent() {
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
    let contents = read(text, ManifestFormat::Yaml);
    assert!(contents.errors.is_empty(), "{:?}", contents.errors);
    let [Document::Service(service), Document::Pod(pod)] = &contents.documents[..] else {
        panic!()
    };
    let labels = |labels: &[(&str, &str)]| -> LabelSet {
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
