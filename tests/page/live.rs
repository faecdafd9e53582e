//! Queries as they are answered, plots and status.

use crate::{LAPTOP, Scene, running::Lab, url};
use hickory_proto::rr::RecordType;
use serde_json::json;

/// JavaScript: the rows of the list that are shown, newest first.
const ROWS: &str = "[...document.querySelectorAll('#queries > li:not([hidden])')]";

/// JavaScript: whether a row has all of these texts.
fn row(texts: &[&str]) -> String {
    format!(
        "{ROWS}.some((row) => {}.every((text) => row.textContent.includes(text)))",
        json!(texts)
    )
}

#[test]
fn queries_appear_with_their_answers_and_reasons() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    scene.follow();
    let Scene { page, client, .. } = &mut scene;
    client.query("web-service.payroll.svc.cluster.local", RecordType::A);
    page.wait(&row(&[
        "NOERROR",
        "web-service.payroll.svc.cluster.local.",
        "10.96.42.10",
        "127.0.0.1",
        "udp",
    ]));
    client.query("web-service.payrol.svc.cluster.local", RecordType::AAAA);
    page.wait(&row(&[
        "NXDOMAIN",
        "AAAA",
        "namespace \"payrol\" not found; nearest: \"payroll\"",
    ]));
    // Newest first; a denial is marked by a sign and its border, not by colour alone.
    let newest = page.evaluate(&format!("{ROWS}[0].querySelector('.rcode').textContent"));
    assert_eq!(newest, "∅ NXDOMAIN");
    let borders = page.evaluate(&format!(
        "{ROWS}.slice(0, 2).map((row) => getComputedStyle(row.querySelector('.rcode')).borderTopStyle)"
    ));
    assert_eq!(borders, json!(["dashed", "solid"]));

    // A name of the list is explained, as asked by that client.
    page.click(&format!("{ROWS}[0].querySelector('button')"));
    page.wait("document.querySelector('#verdict').textContent.includes('payroll')");
    let from = page.evaluate("document.querySelector('[name=from]').value");
    assert_eq!(from, "default/127.0.0.1");
    page.assert_clean();
}

#[test]
fn queries_are_filtered_and_paused() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    scene.follow();
    let Scene { page, client, .. } = &mut scene;
    let (good, bad) = (
        "storefront.shop.svc.cluster.local",
        "absent.shop.svc.cluster.local",
    );
    client.query(good, RecordType::A);
    client.query(bad, RecordType::A);
    page.wait(&format!("{ROWS}.length === 2"));
    page.fill("#live-text", "STOREfront");
    page.wait(&format!("{ROWS}.length === 1 && {}", row(&[good])));
    page.fill("#live-text", "not found");
    page.wait(&format!("{ROWS}.length === 1 && {}", row(&[bad])));
    // Tab reaches a name that is shown.
    page.wait("document.querySelector('#queries [tabindex=\"0\"]')?.checkVisibility()");
    page.fill("#live-text", "f");
    page.wait(&format!("{ROWS}.length === 2"));

    // The server sends the chosen rcode alone.
    page.evaluate(
        "(() => {
            const rcode = document.querySelector('#live-rcode');
            rcode.value = 'NXDOMAIN';
            document.querySelector('#live-note').textContent = '';
            rcode.dispatchEvent(new Event('change'));
        })()",
    );
    page.wait("document.querySelector('#live-note').textContent === 'Connected.'");
    page.wait(&format!("{ROWS}.length === 1 && {}", row(&[bad])));
    let other = "left-out.shop.svc.cluster.local";
    client.query(good, RecordType::A);
    client.query(other, RecordType::A);
    page.wait(&format!("{ROWS}.length === 2 && {}", row(&[other])));

    page.click("document.querySelector('#live-pause')");
    client.query("while-paused.shop.svc.cluster.local", RecordType::A);
    page.wait("document.querySelector('#live-pause').textContent === 'Resume (1 new)'");
    assert_eq!(page.evaluate(&format!("{ROWS}.length")), json!(2));
    page.click("document.querySelector('#live-pause')");
    page.wait(&row(&["while-paused"]));
    page.assert_clean();
}

#[test]
fn missed_queries_and_failures_are_marked() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    scene.follow();
    let page = &mut scene.page;
    // A stream that the lab does not send: a change of the filter asks for a new one.
    let failure = json!({
        "time": "2026-11-30T20:40:00.123Z", "client": "10.244.0.5", "protocol": "tcp", "name": "example.com.",
        "type": "A", "rcode": "SERVFAIL", "reason": "upstream-timeout", "text": "no reply from 192.0.2.1:53",
        "answer": [], "took_us": 2_000_000,
    });
    let lines = format!("{failure}\n{}\n", json!({"missed": 12}));
    page.evaluate(&format!(
        "(() => {{
            const fetched = window.fetch;
            let lines = {lines:?};
            window.fetch = async (path, options) => {{
                if (!path.startsWith('api/tail')) return fetched(path, options);
                const response = new Response(lines);
                lines = '';
                return response;
            }};
            document.querySelector('#live-rcode').dispatchEvent(new Event('change'));
        }})()"
    ));
    page.wait(&row(&["12 queries missed"]));
    page.wait(&row(&[
        "SERVFAIL",
        "no reply from 192.0.2.1:53",
        "10.244.0.5 by tcp, 2 s, upstream-timeout",
    ]));
    let mark =
        page.evaluate("document.querySelector('#queries .SERVFAIL .rcode').textContent.trim()");
    assert_eq!(mark, "✗ SERVFAIL");
    // The stream has ended.
    page.wait("document.querySelector('#live-note').textContent.startsWith('The stream of queries ended.')");
    page.assert_clean();
}

#[test]
fn list_of_queries_is_bounded() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    scene.follow();
    let Scene { page, client, .. } = &mut scene;
    for at in 0..250 {
        client.query(&format!("q{at:03}.shop.svc.cluster.local"), RecordType::A);
    }
    page.wait(&format!("{ROWS}[0]?.textContent.includes('q249.')"));
    assert_eq!(page.evaluate(&format!("{ROWS}.length")), json!(200));
    let oldest = page.evaluate(&format!("{ROWS}[199].querySelector('button').textContent"));
    assert_eq!(oldest, "q050.shop.svc.cluster.local.");
    // Tab passes the list in one step.
    let stops = page.evaluate("document.querySelectorAll('#queries [tabindex=\"0\"]').length");
    assert_eq!(stops, json!(1));
    page.assert_clean();
}

#[test]
fn plots_and_status_show_the_load() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    let Scene { page, client, .. } = &mut scene;
    let names = [
        "storefront.shop.svc.cluster.local",
        "absent.shop.svc.cluster.local",
    ];
    client.during(&names, || {
        page.wait(
            "(() => {
                const value = (id) => document.querySelector(`#plot-${id} .value`).textContent;
                return parseFloat(value('rate')) > 1
                    && /^median (up to|above) [0-9.]+ (µs|ms|s), p99 (up to|above) [0-9.]+ (µs|ms|s)$/.test(value('latency'))
                    && /NOERROR [1-9].*NXDOMAIN [1-9].*SERVFAIL 0/.test(value('rcodes'));
            })()",
        );
        // And the line is above the bottom of the plot.
        page.wait("document.querySelector('#plot-rate path').getBBox().height > 1");
    });
    let tallest = page.evaluate(
        "['NOERROR', 'NXDOMAIN', 'SERVFAIL', 'other']
            .map((rcode) => document.querySelector(`#plot-rcodes path.${rcode}`).getBBox().height)",
    );
    let height = |at: usize| tallest[at].as_f64().unwrap();
    // Stacked: the second area is behind the first and higher.
    assert!(height(0) > 1.0 && height(1) > height(0), "{tallest}");
    let resolution = page.text("#plot-latency .note");
    assert!(resolution.contains("resolution"), "{resolution}");
    assert!(resolution.contains("2 µs, 4 µs"), "{resolution}");
    // When the load is over the rate falls to none.
    page.wait(
        "document.querySelector('#plot-rate .value').textContent.startsWith('0/s, at most ')",
    );
    let label =
        page.evaluate("document.querySelector('#plot-rate svg').getAttribute('aria-label')");
    assert!(label.as_str().unwrap().starts_with("Queries per second: "));

    let status = page.text("#status");
    let version = concat!("version ", env!("CARGO_PKG_VERSION"));
    for part in [
        version,
        "configuration ",
        "cluster: synced",
        " services",
        "dns://",
    ] {
        assert!(status.contains(part), "{part:?} is not in {status:?}");
    }
    page.assert_clean();
}

#[test]
fn lost_server_is_reported_and_found_again() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    scene.follow();
    let url = url(&scene.lab);
    let port = url.trim_end_matches('/').rsplit(':').next().unwrap();
    drop(scene.lab);
    let page = &mut scene.page;
    page.wait("document.querySelector('#away').textContent.startsWith('No answer from the server since ')");
    page.wait("document.querySelector('#live-note').textContent.startsWith('The stream of queries ended.')");

    let parent = tempfile::tempdir().unwrap();
    let lab = Lab::start_in(parent, &["--port", "0", "--page", port]).unwrap();
    page.wait("document.querySelector('#away').textContent === ''");
    page.wait("document.querySelector('#live-note').textContent === 'Connected.'");
    page.wait(&row(&["Connected again"]));
    crate::Client::of(&lab).query("storefront.shop.svc.cluster.local", RecordType::A);
    page.wait(&row(&["10.96.30.1"]));
}
