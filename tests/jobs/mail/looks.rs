//! What the e-mails look like in a real browser: on a telephone and on a desk, in the light and in the dark.

use std::process::Command;

use serde_json::json;
use xtask::guarded::TemporaryFolder;

use crate::support::browser::Browser;

/// The lowest contrast between a text of the page and what is behind it (WCAG 2.1, 1.4.3, defines the contrast).
const CONTRAST: &str = r#"(() => {
    const channels = color => color.match(/[\d.]+/g).map(Number);
    const light = color => {
        const [r, g, b] = channels(color).map(value => value / 255)
            .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = element => {
        for (let one = element; one; one = one.parentElement) {
            const color = getComputedStyle(one).backgroundColor, parts = channels(color);
            if (parts.length === 3 || parts[3] > 0) return color;
        }
        return "rgb(255, 255, 255)";
    };
    const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let lowest = [21, ""];
    while (texts.nextNode()) {
        const text = texts.currentNode, box = text.parentElement.getBoundingClientRect();
        if (!text.data.trim() || box.width === 0 || box.height < 5) continue;
        const pair = [getComputedStyle(text.parentElement).color, behind(text.parentElement)].map(light);
        const contrast = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
        if (contrast < lowest[0]) lowest = [contrast, text.data.trim()];
    }
    return lowest;
})()"#;

#[test]
fn every_message_can_be_read_on_a_telephone_and_on_a_desk_in_the_light_and_in_the_dark() {
    let folder = TemporaryFolder::create("stream-processor-mail-").unwrap();
    let page = |name: &str| folder.path().join(format!("{name}.html"));
    let names = ["remind-J7", "remind-J1", "introduction"];
    for name in names {
        let mut command = Command::new(env!("CARGO_BIN_EXE_stream-processor"));
        command.args(["emails", "preview", name, "--out"]).arg(page(name)).env_clear();
        assert!(command.status().unwrap().success());
    }
    let mut browser = Browser::open("about:blank", true);
    for name in names {
        for (width, is_dark) in [(360, false), (360, true), (1200, false), (1200, true)] {
            browser.resize(width, is_dark);
            browser.load(&format!("file://{}", page(name).display()));
            let wide = browser.evaluate("document.documentElement.scrollWidth");
            assert!(wide.as_u64().unwrap() <= u64::from(width), "{name} at {width} is {wide} wide");
            let lowest = browser.evaluate(CONTRAST);
            assert!(lowest[0].as_f64().unwrap() >= 4.5, "{name}, dark: {is_dark}: {lowest}");
            let shown = browser.evaluate("getComputedStyle(document.body).backgroundColor");
            let expected = if is_dark { "rgb(22, 22, 22)" } else { "rgb(246, 246, 246)" };
            assert_eq!(shown, expected, "{name}");
            let parameters = json!({ "format": "png", "captureBeyondViewport": true });
            let picture = browser.call("Page.captureScreenshot", parameters)["data"].as_str().unwrap().to_owned();
            let file = format!("{}/{name}-{width}-{is_dark}.png.base64", env!("CARGO_TARGET_TMPDIR"));
            std::fs::write(file, picture).unwrap();
        }
    }
}
