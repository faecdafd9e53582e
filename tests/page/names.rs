//! The tree of names, and explanations.

use crate::{LAPTOP, Scene, browser, lab};
use serde_json::{Value, json};
use std::fs;

/// JavaScript: the `<details>` of a namespace.
fn namespace(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#namespaces > details')]
            .find((it) => it.querySelector('summary').textContent.startsWith('{name} '))"
    )
}

/// JavaScript: the button of a Service in an open namespace.
fn service(namespace_name: &str, name: &str) -> String {
    let namespace = namespace(namespace_name);
    format!(
        "[...({namespace})?.querySelectorAll('.services > li > button') ?? []].find((it) => it.textContent === '{name}')"
    )
}

#[test]
fn tree_shows_the_namespaces_and_an_open_one_its_services_with_addresses() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    let page = &mut scene.page;
    for name in ["default", "kube-system", "payroll", "shop"] {
        page.wait(&namespace(name));
    }
    let count = page.wait(&format!(
        "({}).querySelector('summary .note').textContent",
        namespace("shop")
    ));
    let services = count.as_str().unwrap();
    let number: u32 = services.split(' ').next().unwrap().parse().unwrap();
    assert!(number >= 5, "{services}");
    // Nothing is read before it is opened.
    let rows = "document.querySelectorAll('.services li').length";
    assert_eq!(page.evaluate(rows), json!(0));

    page.click(&format!(
        "({})?.querySelector('summary')",
        namespace("shop")
    ));
    for (name, data) in [
        ("storefront", "10.96.30.1"),
        ("catalogue", "fd00:10:96::1e06"),
        // Headless, and an ExternalName.
        ("db", "10.244.2.21"),
        ("suppliers", "example.com."),
    ] {
        let button = service("shop", name);
        page.wait(&format!(
            "({button})?.parentElement.textContent.includes('{data}')"
        ));
    }
    let stops =
        "[...document.querySelectorAll('.services *')].filter((it) => it.tabIndex === 0).length";
    page.wait(&format!("{stops} === 1"));
    // The endpoint's own name is among the further records.
    let db = service("shop", "db");
    page.click(&format!("({db}).parentElement.querySelector('summary')"));
    page.wait(&format!(
        "({db}).parentElement.textContent.includes('db-0.db.shop.svc.cluster.local.')"
    ));

    // A name that is chosen is explained.
    page.click(&service("shop", "storefront"));
    page.wait("document.querySelector('#verdict').textContent.includes('10.96.30.1')");
    let object =
        "document.querySelector('#explained').textContent.includes('Service shop/storefront')";
    page.wait(object);
    page.assert_clean();
}

#[test]
fn tree_follows_changes_of_the_cluster() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    let page = &mut scene.page;
    page.click(&format!(
        "({})?.querySelector('summary')",
        namespace("payroll")
    ));
    page.click(&service("payroll", "web-service"));
    let manifest = "apiVersion: v1\nkind: Service\nmetadata: {name: late, namespace: payroll}\n\
         spec: {clusterIP: 10.96.60.1, ports: [{port: 80}]}\n";
    fs::write(scene.lab.directory().join("60-late.yaml"), manifest).unwrap();
    page.wait(&format!(
        "({})?.parentElement.textContent.includes('10.96.60.1')",
        service("payroll", "late")
    ));
    // The name that was chosen is still the one that has the focus.
    assert_eq!(focused(page), "web-service");
    page.assert_clean();
}

#[test]
fn mistyped_name_is_explained_by_keyboard_alone() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    let page = &mut scene.page;
    page.wait("document.querySelector('#namespaces details')");
    // The first stop is a link to the field.
    page.press("Tab");
    assert_eq!(focused(page), "Explain a name");
    let outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle");
    assert_eq!(outline, "solid");
    page.press("Enter");
    page.wait("document.activeElement.id === 'explain-name'");
    page.write("web-service.payrol");
    // Type, and the asking namespace.
    page.press("Tab");
    page.press("Tab");
    page.write("shop");
    page.press("Enter");

    page.wait("document.querySelector('#verdict').textContent.includes('has no answer')");
    let verdict = page.text("#verdict");
    assert!(verdict.contains("nearest"), "{verdict}");
    let queries = page.evaluate(
        "[...document.querySelectorAll('#explained > li')].map((it) => ({
            name: it.querySelector('h3').textContent,
            rcode: it.querySelector('.rcode').textContent,
            reason: it.querySelector('.reason')?.textContent,
            steps: it.querySelector('.steps').textContent,
            text: it.textContent,
        }))",
    );
    let queries = queries.as_array().unwrap();
    let names: Vec<&str> = queries.iter().map(|it| text(it, "name")).collect();
    assert_eq!(
        names,
        [
            "web-service.payrol.shop.svc.cluster.local.",
            "web-service.payrol.svc.cluster.local.",
            "web-service.payrol.cluster.local.",
            "web-service.payrol.",
        ]
    );
    let near = &queries[1];
    assert!(text(near, "rcode").ends_with("NXDOMAIN"), "{near}");
    assert!(
        text(near, "reason").contains("nearest: \"payroll\""),
        "{near}"
    );
    assert!(text(near, "steps").contains("kubernetes"), "{near}");
    assert!(text(near, "text").contains("Object: none"), "{near}");

    // The tree: a namespace is opened, and a name reached by the arrow keys and explained.
    page.evaluate(&format!(
        "({}).querySelector('summary').focus()",
        namespace("shop")
    ));
    page.press("Enter");
    page.wait(&service("shop", "storefront"));
    page.press("ArrowDown");
    let first = focused(page);
    page.press("ArrowDown");
    assert_ne!(focused(page), first);
    page.press("Home");
    page.press("ArrowDown");
    page.evaluate(&format!("({}).focus()", service("shop", "storefront")));
    page.press("Enter");
    page.wait("document.querySelector('#verdict').textContent.includes('10.96.30.1')");
    page.assert_clean();
}

#[test]
fn invalid_name_is_refused_with_the_servers_text() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    let page = &mut scene.page;
    page.fill("#explain-name", "web..shop");
    page.press("Enter");
    page.wait("document.querySelector('#verdict').textContent.startsWith('Cannot be explained: ')");
    let verdict = page.text("#verdict");
    assert!(verdict.contains("web..shop"), "{verdict}");
    // A name that is valid and HTML is shown as it is.
    page.fill("#explain-name", "<img/src=x>.shop");
    page.press("Enter");
    page.wait("document.querySelector('#explained h3')?.textContent.startsWith('<img/src=x>')");
    assert_eq!(page.evaluate("document.images.length"), json!(0));
}

#[test]
fn namespace_of_ten_thousand_services_opens_and_is_filtered() {
    let Some(program) = browser::program() else {
        return;
    };
    let manifests = tempfile::tempdir().unwrap();
    fs::write(manifests.path().join("many.json"), many().to_string()).unwrap();
    let directory = manifests.path().to_str().unwrap();
    let mut scene = Scene::show(program, lab(&[directory]), &LAPTOP);
    let page = &mut scene.page;

    let many = namespace("many");
    page.click(&format!("({many})?.querySelector('summary')"));
    page.wait(&service("many", "web-00000"));
    let nodes = "(() => {
        const walker = document.createTreeWalker(document, NodeFilter.SHOW_ALL);
        let nodes = 0;
        while (walker.nextNode()) nodes++;
        return nodes;
    })()";
    let before = page.evaluate(nodes).as_u64().unwrap();
    assert!(before < 5000, "{before} nodes");
    let note = format!("({many}).querySelector('summary .note').textContent");
    assert_eq!(page.evaluate(&note), "10,000 Services");
    let more = format!("({many}).querySelector(':scope > button')");
    let label = page.evaluate(&format!("({more}).textContent"));
    assert_eq!(label, "9,900 more: show 100");

    page.click(&more);
    page.wait(&service("many", "web-00150"));
    // A new name has the focus, so that the keyboard goes on from there.
    assert_eq!(focused(page), "web-00100");

    page.evaluate("window.typed = performance.now()");
    page.fill("#tree-filter", "web-09999");
    page.wait(&service("many", "web-09999"));
    let took = page.evaluate("performance.now() - window.typed");
    let took = took.as_f64().unwrap();
    assert!(took < 2000.0, "{took} ms");
    let rows = page.evaluate("document.querySelectorAll('.services > li').length");
    assert_eq!(rows, json!(1));
    page.wait("document.querySelector('#tree-note').textContent === '1 Service found'");
    let after = page.evaluate(nodes).as_u64().unwrap();
    assert!(after < 5000, "{after} nodes");
    // Addresses too; then all again.
    page.fill("#tree-filter", "10.97.39.15");
    page.wait(&service("many", "web-09999"));
    page.fill("#tree-filter", "absent");
    page.wait("document.querySelector('#tree-note').textContent === '0 Services found'");
    page.evaluate("document.querySelector('#tree-filter').select()");
    page.fill("#tree-filter", "web-");
    page.wait(&service("many", "web-00000"));
    page.assert_clean();
}

/// A manifest of 10,000 Services, `web-00000` to `web-09999`.
fn many() -> Value {
    let services = (0..10_000).map(|at| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": format!("web-{at:05}"), "namespace": "many"},
            "spec": {
                "clusterIP": format!("10.97.{}.{}", at / 256, at % 256),
                "ports": [{"name": "http", "port": 80}],
            },
        })
    });
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "many"}});
    let items: Vec<Value> = [namespace].into_iter().chain(services).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

/// Text of the focused element.
fn focused(page: &mut browser::Page) -> String {
    let text = page.evaluate("document.activeElement.textContent");
    text.as_str().unwrap().to_owned()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap()
}
