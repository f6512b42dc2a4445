//! A real Chromium with one page, driven by its DevTools protocol over a pair of pipes. It ends with its value, and
//! with the test process: the pipes close then.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};
use xtask::debian::find_browser;
use xtask::guarded::TemporaryFolder;

/// The browser reads commands from its descriptor 3 and writes answers to 4.
const PIPES: &str = r#"exec "$0" "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1"#;

pub(crate) struct Browser {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: Value,
    last: u64,
    /// What the page complained about: exceptions, and what its Content-Security-Policy refused.
    pub complaints: Vec<String>,
    // Last: the process writes into it.
    _profile: TemporaryFolder,
}

impl Browser {
    /// Starts it and loads a page.
    pub(crate) fn open(url: &str, with_scripts: bool) -> Self {
        let profile = TemporaryFolder::create("stream-processor-browser-").unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", PIPES]).arg(find_browser().unwrap());
        // Root may not run it with its sandbox; it loads nothing but our own page.
        command.args(["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]);
        command.args(["--disable-background-networking", "--disable-component-update", "--no-proxy-server"]);
        command.arg("--remote-debugging-pipe").arg(format!("--user-data-dir={}", profile.path().display()));
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let commands = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let complaints = Vec::new();
        let mut browser =
            Self { process, commands, answers, session: Value::Null, last: 0, complaints, _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))["targetId"].clone();
        let attached = browser.call("Target.attachToTarget", json!({ "targetId": target, "flatten": true }));
        browser.session = attached["sessionId"].clone();
        for domain in ["Page", "Runtime", "Log"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser.call("Emulation.setScriptExecutionDisabled", json!({ "value": !with_scripts }));
        browser.load(url);
        browser
    }

    /// Loads a page and waits until it is there.
    pub(crate) fn load(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        self.until_event("Page.loadEventFired");
    }

    /// The page as it is now, as text.
    pub(crate) fn html(&mut self) -> String {
        let root = self.call("DOM.getDocument", json!({}))["root"]["nodeId"].clone();
        self.call("DOM.getOuterHTML", json!({ "nodeId": root }))["outerHTML"].as_str().unwrap().to_owned()
    }

    /// The value of an expression in the page.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.call("Runtime.evaluate", json!({ "expression": expression, "returnByValue": true }));
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// The value of a promise in the page.
    pub(crate) fn evaluate_promise(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.call("Runtime.evaluate", parameters);
        assert!(answer.get("exceptionDetails").is_none(), "{answer}");
        answer["result"]["value"].clone()
    }

    /// A picture of the whole page, as PNG in Base64.
    pub(crate) fn screenshot(&mut self) -> String {
        let picture = self.call("Page.captureScreenshot", json!({ "format": "png", "captureBeyondViewport": true }));
        picture["data"].as_str().unwrap().to_owned()
    }

    /// Shows the page in so many CSS pixels, bright or dark.
    pub(crate) fn resize(&mut self, width: u32, is_dark: bool) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", metrics);
        let scheme = if is_dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// The value of an expression in the dark or in the light.
    pub(crate) fn resize_and_evaluate(&mut self, is_dark: bool, expression: &str) -> Value {
        self.resize(1200, is_dark);
        self.evaluate(expression)
    }

    /// A command of the protocol, and its result.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let id = self.last;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        write!(self.commands, "{message}\0").unwrap();
        self.commands.flush().unwrap();
        let mut answer = self.until(|message| message["id"] == id);
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    fn until_event(&mut self, method: &str) {
        self.until(|message| message["method"] == method);
    }

    fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let mut message = Vec::new();
            let length = self.answers.read_until(0, &mut message).unwrap();
            assert!(length > 0, "the browser ended");
            message.pop();
            let message: Value = serde_json::from_slice(&message).unwrap();
            if message["method"] == "Runtime.exceptionThrown" || message["params"]["entry"]["level"] == "error" {
                self.complaints.push(message["params"].to_string());
            }
            if wanted(&message) {
                return message;
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Already gone is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
