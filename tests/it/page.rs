//! The status page in a real browser: what it shows, and that nothing from outside can do anything in it.

mod browser;
mod example;
mod live;

use browser::{Browser, DESK, Look, PHONE};
use runhound::admin::Facts;
use serde_json::Value;
use std::{env, fs, path::PathBuf};

/// Every width in both colours.
const LOOKS: [Look; 4] = [DESK, DESK.dark(), PHONE, PHONE.dark()];

/// Texts with less contrast to what is behind them than WCAG 2.2 wants at level AA.
const FAINT: &str = r"(() => {
    const context = new OffscreenCanvas(1, 1).getContext('2d', { willReadFrequently: true });
    const parsed = (color) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    };
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = parsed(getComputedStyle(at).backgroundColor);
            if (color[3] === 255) return color;
        }
        return [255, 255, 255, 255];
    };
    const light = ([red, green, blue]) => {
        const [r, g, b] = [red, green, blue].map((part) => {
            const share = part / 255;
            return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const faint = [];
    for (const element of document.querySelectorAll('body *')) {
        const text = [...element.childNodes].filter((node) => node.nodeType === 3).map((node) => node.data).join('').trim();
        const style = getComputedStyle(element);
        if (!text || !element.getClientRects().length || ['SCRIPT', 'TITLE', 'title', 'desc'].includes(element.tagName)) continue;
        const color = parsed(element.closest('svg') ? style.fill : style.color);
        const [low, high] = [light(color), light(behind(element))].sort((a, b) => a - b);
        const size = parseFloat(style.fontSize);
        const isLarge = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
        const ratio = (high + 0.05) / (low + 0.05);
        if (ratio < (isLarge ? 3 : 4.5)) faint.push(`${element.tagName}.${element.className}: ${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
    }
    return [...new Set(faint)];
})()";

/// Elements that reach out of the window.
const OVERFLOWING: &str = r"(() => {
    const width = document.documentElement.clientWidth;
    const reaches = (element) => element.getBoundingClientRect().right > width + 1 || element.getBoundingClientRect().left < -1;
    return [...document.querySelectorAll('body *')].filter((element) => reaches(element) && !(element.closest('svg') && element.tagName !== 'text') && !element.closest('.dry-run'))
        .map((element) => `${element.tagName}.${element.className}`);
})()";

impl Browser {
    async fn text(&mut self, selector: &str) -> String {
        let text = self.eval(&format!("document.querySelector({selector:?})?.innerText ?? ''")).await;
        text.as_str().unwrap().trim().to_owned()
    }

    async fn number(&mut self, expression: &str) -> i64 {
        self.eval(expression).await.as_i64().unwrap()
    }

    /// Whatever is shown: no foreign script has run, none was tried, nothing was asked of anyone else, nothing went wrong,
    /// and all of it fits and can be read.
    async fn assert_sound(&mut self, url: &str, look: Look) {
        let empty = Value::Array(Vec::new());
        let title = self.eval("document.title").await;
        assert!(title.as_str().unwrap().ends_with(" - runhound"), "{title}");
        if look.runs_scripts {
            assert_eq!(self.eval("window.stopped").await, empty);
        }
        for method in
            ["Page.javascriptDialogOpening", "Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"]
        {
            assert_eq!(self.events(method), Vec::<&Value>::new(), "{look:?}");
        }
        let requests = self.events("Network.requestWillBeSent");
        assert!(!requests.is_empty());
        for request in requests {
            assert_eq!(request["request"]["url"], url);
        }
        let root = "document.documentElement";
        let width = self.number(&format!("{root}.scrollWidth - {root}.clientWidth")).await;
        assert!(width <= 0, "{look:?}: {width} too wide: {}", self.eval(OVERFLOWING).await);
        assert_eq!(self.number(&format!("{root}.clientWidth")).await, i64::from(look.width));
        assert_eq!(self.eval(OVERFLOWING).await, empty, "{look:?}");
        assert_eq!(self.eval(FAINT).await, empty, "{look:?}");
    }
}

fn examples() -> [(&'static str, Facts); 5] {
    [
        ("well", example::well()),
        ("degraded", example::degraded()),
        ("not-ready", example::not_ready()),
        ("dry-run", example::dry_run()),
        ("empty", example::empty()),
    ]
}

#[actix_web::test]
async fn the_page_fits_and_can_be_read_in_every_state_at_every_width_and_in_both_colours() {
    let Some(mut browser) = Browser::start().await else { return };
    for (name, facts) in examples() {
        let url = example::serve(&facts);
        for look in LOOKS {
            println!("{name}, {look:?}");
            browser.open(&url, look).await;
            browser.assert_sound(&url, look).await;
        }
        let rows = browser.number("document.querySelectorAll('tbody tr').length").await;
        assert_eq!(rows, i64::try_from(facts.recent.len()).unwrap());
    }
}

#[actix_web::test]
async fn the_charts_are_sensible_with_0_1_and_96_spans() {
    let Some(mut browser) = Browser::start().await else { return };
    for spans in [0, 1, 96] {
        let url = example::serve(&Facts { history: example::history(spans), ..example::well() });
        for look in [DESK, PHONE.dark()] {
            browser.open(&url, look).await;
            browser.assert_sound(&url, look).await;
            let notes = browser.number("document.querySelectorAll('#chart-runs-title ~ rect.note').length").await;
            assert_eq!(notes, i64::try_from(spans).unwrap());
            let outside = "[...document.querySelectorAll('svg[role=img] :is(rect, circle)')].filter((shape) => {
                const plane = shape.closest('svg').getBoundingClientRect();
                const place = shape.getBoundingClientRect();
                return place.left < plane.left - 3 || place.right > plane.right + 3 || place.top < plane.top - 3;
            }).length";
            assert_eq!(browser.number(outside).await, 0);
        }
    }
}

/// Not a test but for its name: the pictures in the documents, made anew where a folder for them is given.
#[actix_web::test]
async fn pictures_of_the_page_are_made_where_they_are_wanted() {
    let Some(folder) = env::var_os("RUNHOUND_SCREENSHOTS").map(PathBuf::from) else { return };
    let Some(mut browser) = Browser::start().await else { return };
    let desk = Look { height: 880, ..DESK };
    let wanted = [("light", "well", desk), ("dark", "well", desk.dark()), ("phone", "degraded", PHONE)];
    let all = env::var_os("RUNHOUND_SCREENSHOTS_ALL").is_some();
    for (name, facts) in examples() {
        let url = example::serve(&facts);
        let looks = [("light", DESK), ("dark", DESK.dark()), ("phone", PHONE), ("phone-dark", PHONE.dark())];
        let rest = looks.map(|(look, size)| (format!("{name}-{look}"), size)).into_iter().filter(|_| all);
        let kept = wanted.iter().filter(|(_, state, _)| *state == name);
        for (file, look) in rest.chain(kept.map(|(file, _, look)| ((*file).to_owned(), *look))) {
            browser.open(&url, look).await;
            let picture = browser.picture().await;
            assert!(picture.len() <= 200_000 || all, "{file}: {} bytes", picture.len());
            fs::write(folder.join(format!("status-{file}.png")), picture).unwrap();
            if all {
                browser.eval("document.querySelector('.columns').scrollIntoView()").await;
                fs::write(folder.join(format!("status-{file}-2.png")), browser.picture().await).unwrap();
                browser.eval("document.querySelector('.deliveries').scrollIntoView()").await;
                fs::write(folder.join(format!("status-{file}-3.png")), browser.picture().await).unwrap();
            }
        }
    }
}
