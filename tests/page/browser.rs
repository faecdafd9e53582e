//! Headless Chromium, driven over a pipe by the DevTools protocol: JSON messages that end in a zero byte, written to
//! its file descriptor 3 and read from 4.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

/// Names under which Chromium is installed.
const PROGRAMS: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];
/// Deadline of a condition in the page. Generous, for busy machines: a condition that is met ends the wait.
const PATIENCE: Duration = Duration::from_mins(1);
/// Time for the browser to end by itself.
const CLOSING: Duration = Duration::from_secs(10);
/// Deadline of a response from the browser.
const RESPONSE: Duration = Duration::from_secs(90);

/// The name of the installed browser; without one, says that the tests are skipped.
pub fn program() -> Option<&'static str> {
    let found = PROGRAMS.into_iter().find(|name| {
        let version = Command::new(name).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        eprintln!(
            "skipped: Chromium is not installed ({})",
            PROGRAMS.join(", ")
        );
    }
    found
}

/// A browser with one page, closed on drop.
pub struct Page {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    last_id: u64,
    /// Events so far.
    events: Vec<Value>,
    /// Address of the page.
    url: String,
    /// Holds the profile and the browser's log.
    _directory: tempfile::TempDir,
}

/// Media and size of a screen.
pub struct Screen {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// Value of `prefers-color-scheme`.
    pub scheme: &'static str,
}

impl Page {
    /// Starts a browser and loads a page.
    pub fn open(program: &str, url: &str, screen: &Screen) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (child, commands, messages) = start(program, directory.path());
        let mut page = Self {
            child,
            commands,
            messages,
            session: None,
            last_id: 0,
            events: Vec::new(),
            url: url.to_owned(),
            _directory: directory,
        };
        let target = page.call("Target.createTarget", &json!({"url": "about:blank"}));
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = page.call("Target.attachToTarget", &attach);
        page.session = Some(attached["sessionId"].as_str().unwrap().to_owned());
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        page.set_screen(screen);
        page.call("Page.navigate", &json!({"url": url}));
        while !page.has_event("Page.loadEventFired") {
            page.receive();
        }
        page
    }

    /// Resizes the window and sets the colour scheme.
    pub fn set_screen(&mut self, screen: &Screen) {
        let (width, height) = (screen.width, screen.height);
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.call("Emulation.setDeviceMetricsOverride", &metrics);
        let feature = json!({"name": "prefers-color-scheme", "value": screen.scheme});
        self.call(
            "Emulation.setEmulatedMedia",
            &json!({"features": [feature]}),
        );
    }

    /// The value of an expression, awaited if it is a promise.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let parameters =
            json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        let mut result = self.call("Runtime.evaluate", &parameters);
        let exception = &result["exceptionDetails"];
        assert!(exception.is_null(), "{expression}: {exception:#}");
        result["result"]["value"].take()
    }

    /// Waits until an expression is true in the page, and returns its value. It is evaluated once a frame.
    pub fn wait(&mut self, expression: &str) -> Value {
        let patience = PATIENCE.as_millis();
        let result = self.evaluate(&format!(
            "new Promise((resolve) => {{
                const end = performance.now() + {patience};
                const check = () => {{
                    const value = {expression};
                    if (value || performance.now() > end) resolve(value || null);
                    else requestAnimationFrame(check);
                }};
                check();
            }})"
        ));
        if result.is_null() {
            let text = self.evaluate("document.body.innerText");
            panic!(
                "not true within {PATIENCE:?}: {expression}\n\nThe page:\n{}",
                text.as_str().unwrap()
            );
        }
        result
    }

    /// Text of the first element that matches a selector.
    pub fn text(&mut self, selector: &str) -> String {
        let text = self.evaluate(&format!("document.querySelector({selector:?}).textContent"));
        text.as_str().unwrap().to_owned()
    }

    /// Clicks at the centre of the element that an expression returns, like a mouse. Tries again if the element was
    /// moved meanwhile by text above it, and the click went elsewhere.
    pub fn click(&mut self, element: &str) {
        let started = Instant::now();
        loop {
            let place = self.wait(&format!(
                "(() => {{
                    const element = {element};
                    if (!element) return null;
                    element.scrollIntoView({{ block: 'center' }});
                    const {{ x, y, width, height }} = element.getBoundingClientRect();
                    window.wasClicked = false;
                    element.addEventListener('click', () => (window.wasClicked = true), {{ once: true }});
                    return width && height ? [x + width / 2, y + height / 2] : null;
                }})()"
            ));
            for kind in ["mousePressed", "mouseReleased"] {
                let event = json!({
                    "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1
                });
                self.call("Input.dispatchMouseEvent", &event);
            }
            if self.evaluate("window.wasClicked") == json!(true) {
                return;
            }
            assert!(started.elapsed() < PATIENCE, "not clicked: {element}");
        }
    }

    /// Presses and releases a key.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Tab" => (9, ""),
            "Enter" => (13, "\r"),
            "End" => (35, ""),
            "Home" => (36, ""),
            "ArrowDown" => (40, ""),
            other => panic!("the code of the key {other} is not known here"),
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({
                "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code
            });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = text.into();
            }
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Types a text into the focused element, key by key.
    pub fn write(&mut self, text: &str) {
        for letter in text.chars() {
            let event = json!({"type": "char", "text": letter.to_string()});
            self.call("Input.dispatchKeyEvent", &event);
        }
    }

    /// Replaces the text of a field, like a user does.
    pub fn fill(&mut self, selector: &str, text: &str) {
        self.evaluate(&format!(
            "(() => {{ const field = document.querySelector({selector:?}); field.focus(); field.select(); }})()"
        ));
        self.call("Input.insertText", &json!({"text": text}));
    }

    /// Writes what is visible to a PNG file.
    pub fn screenshot(&mut self, file: &Path) {
        let image = self.call("Page.captureScreenshot", &json!({"format": "png"}));
        let bytes = BASE64_STANDARD.decode(image["data"].as_str().unwrap());
        fs::write(file, bytes.unwrap()).unwrap();
    }

    /// Asserts that the page has used its own server only, and has neither printed nor caused an error; a violation of
    /// the content security policy is one.
    pub fn assert_clean(&mut self) {
        // All earlier events are read by then.
        self.evaluate("1");
        let mut requests = 0;
        for event in &self.events {
            let of = &event["params"];
            match event["method"].as_str() {
                Some("Runtime.exceptionThrown") => panic!("{event:#}"),
                Some("Runtime.consoleAPICalled") => {
                    let kind = of["type"].as_str().unwrap();
                    assert!(!["error", "warning", "assert"].contains(&kind), "{event:#}");
                }
                Some("Log.entryAdded") => {
                    let level = of["entry"]["level"].as_str().unwrap();
                    assert!(!["error", "warning"].contains(&level), "{event:#}");
                }
                Some("Network.requestWillBeSent") => {
                    requests += 1;
                    let url = of["request"]["url"].as_str().unwrap();
                    let is_own = url.starts_with(&self.url) || url.starts_with("data:");
                    assert!(is_own, "request to {url}");
                }
                _ => (),
            }
        }
        // The page, its style and script, and the API.
        assert!(requests > 3, "{requests} requests");
    }

    /// The result of a command.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.last_id += 1;
        let mut command = json!({"id": self.last_id, "method": method, "params": parameters});
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        let mut bytes = command.to_string().into_bytes();
        bytes.push(0);
        self.commands.write_all(&bytes).unwrap();
        let sent = Instant::now();
        loop {
            let mut message = self.receive();
            if message["id"] == self.last_id {
                assert!(message["error"].is_null(), "{method}: {message:#}");
                return message["result"].take();
            }
            assert!(sent.elapsed() < RESPONSE, "no response to {method}");
        }
    }

    /// The next message, which is kept if it is an event.
    fn receive(&mut self) -> Value {
        let message = self.messages.recv_timeout(RESPONSE);
        let message = message.expect("no message from the browser");
        if message["id"].is_null() {
            self.events.push(message.clone());
        }
        message
    }

    fn has_event(&self, method: &str) -> bool {
        self.events.iter().any(|event| event["method"] == method)
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // Its own end removes its temporary files; its output ends with it.
        let _ = self
            .commands
            .write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let end = Instant::now() + CLOSING;
        while self
            .messages
            .recv_timeout(end.saturating_duration_since(Instant::now()))
            .is_ok()
        {}
        // The process may have exited already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts the browser with its profile in a directory. Its messages are read by a thread.
fn start(program: &str, directory: &Path) -> (Child, ChildStdin, Receiver<Value>) {
    // The shell moves the pipes, as a child of Rust has file descriptors 0 to 2 alone.
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "exec \"$0\" \"$@\" 3<&0 4>&1 1>&2 0</dev/null",
            program,
        ])
        .args(["--headless=new", "--remote-debugging-pipe"])
        .args(["--disable-gpu", "--no-first-run", "--disable-extensions"])
        .args(["--disable-background-networking", "--disable-sync"])
        .args(["--disable-component-update", "--disable-default-apps"])
        // Grey text is the same on every machine, and a smaller picture.
        .arg("--disable-lcd-text")
        // Containers have a small /dev/shm.
        .arg("--disable-dev-shm-usage")
        .arg(format!(
            "--user-data-dir={}",
            directory.join("profile").display()
        ));
    if is_root() {
        // Chromium refuses to run as root with its sandbox.
        command.arg("--no-sandbox");
    }
    command.env("TMPDIR", directory);
    let log = File::create(directory.join("log")).unwrap();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .unwrap();
    let commands = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let (sender, messages) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        while output.read_until(0, &mut bytes).is_ok_and(|read| read > 0) {
            bytes.pop();
            // Incomplete if the browser was killed.
            let Ok(message) = serde_json::from_slice(&bytes) else {
                return;
            };
            bytes.clear();
            if sender.send(message).is_err() {
                return;
            }
        }
    });
    (child, commands, messages)
}

fn is_root() -> bool {
    let output = Command::new("id").arg("-u").output().unwrap();
    output.stdout.starts_with(b"0\n") || output.stdout == b"0"
}
