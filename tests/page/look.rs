//! Size, colours and the picture of the documentation.

use crate::{
    LAPTOP, Scene,
    browser::{Page, Screen},
};
use hickory_proto::rr::RecordType;
use serde_json::json;
use std::{env, path::PathBuf};

/// A phone's width.
const PHONE: Screen = Screen {
    width: 360,
    height: 740,
    scheme: "light",
};
/// Contrast of text to its background (WCAG 2.2, 1.4.3).
const CONTRAST: f64 = 4.5;
/// Size of the picture, at most.
const PICTURE: u64 = 200_000;

#[test]
fn page_fits_a_phone() {
    let Some(mut scene) = Scene::start(&PHONE) else {
        return;
    };
    fill(&mut scene);
    let page = &mut scene.page;
    // Longer than the screen is wide, without a place to break.
    let long = format!("{0}.{0}.{0}.shop.svc.cluster.local", "x".repeat(63));
    scene.client.query(&long, RecordType::A);
    page.wait("document.querySelector('#queries').textContent.includes('xxx')");
    page.fill("#explain-name", &long);
    page.press("Enter");
    page.wait("document.querySelector('#explained h3')?.textContent.includes('xxx')");
    let width = page.evaluate("document.documentElement.scrollWidth");
    assert!(width.as_u64().unwrap() <= 360, "{width}");
    let wide = page.evaluate(
        "[...document.querySelectorAll('body *')]
            .filter((it) => it.getBoundingClientRect().right > 360)
            .map((it) => it.outerHTML.slice(0, 200))",
    );
    assert_eq!(wide, json!([]));
    // Targets are large enough for a finger (WCAG 2.2, 2.5.8), where they are not part of a text.
    let small = page.evaluate(
        "[...document.querySelectorAll('input, select, form button, summary')]
            .filter((it) => it.offsetParent && it.getBoundingClientRect().height < 24)
            .map((it) => it.outerHTML.slice(0, 200))",
    );
    assert_eq!(small, json!([]));
    page.assert_clean();
}

#[test]
fn text_is_readable_in_the_light_and_in_the_dark() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    fill(&mut scene);
    let page = &mut scene.page;
    let back = "getComputedStyle(document.body).backgroundColor";
    let light = page.evaluate(back);
    assert_readable(page);
    page.set_screen(&Screen {
        scheme: "dark",
        ..LAPTOP
    });
    page.wait(&format!("{back} !== {light}"));
    assert_readable(page);
    page.assert_clean();
}

/// Asserts the contrast of every text to the nearest background behind it.
fn assert_readable(page: &mut Page) {
    let texts = page.evaluate(
        "(() => {
            const channels = (colour) => colour.match(/[0-9.]+/g).map(Number);
            const luminance = (colour) => {
                const [r, g, b] = channels(colour).map((value) => value / 255)
                    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
                return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const background = (element) => {
                const colour = getComputedStyle(element).backgroundColor;
                return channels(colour)[3] === 0 ? background(element.parentElement) : colour;
            };
            const texts = [...document.querySelectorAll('body, body *')].filter((it) =>
                [...it.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.data.trim())
                && it.checkVisibility());
            return [document.body, ...texts].map((it) => {
                const [low, high] = [getComputedStyle(it).color, background(it)].map(luminance).sort((a, b) => a - b);
                return [it.textContent.slice(0, 60), (high + 0.05) / (low + 0.05)];
            });
        })()",
    );
    let texts = texts.as_array().unwrap();
    assert!(texts.len() > 50, "{} texts", texts.len());
    for text in texts {
        assert!(text[1].as_f64().unwrap() >= CONTRAST, "{text}");
    }
}

#[test]
fn elements_have_names_and_landmarks() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    fill(&mut scene);
    let page = &mut scene.page;
    for landmark in ["nav", "header", "main", "h1", "section[aria-labelledby]"] {
        page.text(landmark);
    }
    let nameless = page.evaluate(
        "[...document.querySelectorAll('input, select, button, section, svg')].filter((it) => {
            const by = document.getElementById(it.getAttribute('aria-labelledby'))?.textContent;
            return !(it.labels?.[0]?.textContent || by || it.ariaLabel || it.textContent).trim();
        }).map((it) => it.outerHTML.slice(0, 200))",
    );
    assert_eq!(nameless, json!([]));
    let twice = page.evaluate(
        "[...document.querySelectorAll('[id]')].map((it) => it.id).filter((id, at, all) => all.indexOf(id) !== at)",
    );
    assert_eq!(twice, json!([]));
    // The result of an explanation is read out.
    let live = page.evaluate("document.querySelector('#verdict').ariaLive");
    assert_eq!(live, "polite");
    assert_eq!(page.evaluate("document.documentElement.lang"), "en");
}

#[test]
fn screenshot_is_small_and_complete() {
    let Some(mut scene) = Scene::start(&LAPTOP) else {
        return;
    };
    fill(&mut scene);
    let Scene { page, client, .. } = &mut scene;
    let names = [
        "storefront.shop.svc.cluster.local",
        "db.shop.svc.cluster.local",
        "example.com",
        "gift-wrap.shop.svc.cluster.local",
    ];
    let file = env::var_os("LODESTONE_SCREENSHOT").map(PathBuf::from);
    // Seconds of load: enough for a line in each plot, and to look at.
    let seconds = if file.is_some() { 45 } else { 3 };
    client.during(&names, || {
        page.wait(&format!(
            "document.querySelector('#plot-rate path')?.getBBox().width > {seconds}"
        ));
    });
    client.query("web-service.payrol.svc.cluster.local", RecordType::A);
    client.query("catalogue.shop.svc.cluster.local", RecordType::AAAA);
    page.wait("document.querySelector('#queries > li').textContent.includes('catalogue')");
    // A complete name, as it takes one query.
    page.click("document.querySelector('#queries > li.NXDOMAIN button')");
    page.wait("document.querySelectorAll('#explained > li').length === 1");
    page.evaluate("window.scrollTo(0, 0)");
    let directory = tempfile::tempdir().unwrap();
    let file = file.unwrap_or_else(|| directory.path().join("page.png"));
    page.screenshot(&file);
    let size = file.metadata().unwrap().len();
    assert!((10_000..PICTURE).contains(&size), "{size} bytes");
}

/// Fills all parts of the page: an open namespace, queries and an explanation.
fn fill(scene: &mut Scene) {
    scene.follow();
    let Scene { page, client, .. } = scene;
    page.wait("document.querySelectorAll('#namespaces > details').length > 3");
    page.evaluate(
        "[...document.querySelectorAll('#namespaces summary')]
            .find((it) => it.textContent.startsWith('shop ')).click()",
    );
    page.wait("document.querySelector('.services li')");
    client.query("storefront.shop.svc.cluster.local", RecordType::A);
    client.query("gift-wrap.shop.svc.cluster.local", RecordType::A);
    page.wait("document.querySelectorAll('#queries > li').length >= 2");
    page.fill("#explain-name", "web-service.payrol");
    page.press("Enter");
    page.wait("document.querySelectorAll('#explained > li').length === 4");
    page.wait("document.querySelector('#plot-rate path')");
}
