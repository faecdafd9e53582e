//! The page of a running lab, in headless Chromium: what it shows, and how it is used.
//!
//! Without Chromium the tests are skipped with a message. `LODESTONE_SCREENSHOT=FILE` makes one of them write the
//! picture of docs/page.md:
//!
//! ```text
//! LODESTONE_SCREENSHOT=docs/page.png cargo test --locked --test page screenshot
//! ```

#![cfg(feature = "lab")]
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod browser;
mod client;
mod live;
mod look;
mod names;
#[allow(dead_code, reason = "for tests that use parts of it")]
#[path = "../lab/running.rs"]
mod running;

use browser::{Page, Screen};
use client::Client;
use running::Lab;

/// A laptop's screen.
const LAPTOP: Screen = Screen {
    width: 1200,
    height: 800,
    scheme: "light",
};

/// A lab, its page in a browser, and a client.
struct Scene {
    page: Page,
    client: Client,
    lab: Lab,
}

impl Scene {
    /// Starts all of them; `None` without a browser.
    fn start(screen: &Screen) -> Option<Self> {
        let program = browser::program()?;
        Some(Self::show(program, lab(&[]), screen))
    }

    fn show(program: &str, lab: Lab, screen: &Screen) -> Self {
        let page = Page::open(program, &url(&lab), screen);
        let client = Client::of(&lab);
        Self { page, client, lab }
    }

    /// Waits until the page follows the server's queries.
    fn follow(&mut self) {
        self.page
            .wait("document.querySelector('#live-note').textContent === 'Connected.'");
    }
}

/// A lab with further arguments, on free ports.
fn lab(arguments: &[&str]) -> Lab {
    let parent = tempfile::tempdir().unwrap();
    let arguments = [&["--port", "0", "--page", "0"], arguments].concat();
    Lab::start_in(parent, &arguments).unwrap()
}

/// The address of a lab's page, from its guide.
fn url(lab: &Lab) -> String {
    let mut lines = lab.page.lines();
    let line = lines.find_map(|line| line.trim().strip_prefix("page: "));
    line.unwrap_or_else(|| panic!("no page in {}", lab.page))
        .to_owned()
}
