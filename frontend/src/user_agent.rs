//! What a `User-Agent` header says in words: "Firefox on Linux". A hint for whoever recognises their own devices, and
//! nothing else: anybody can send any.

/// Each browser by the first of these that its header holds; most of them claim to be the ones below them.
const BROWSERS: [(&str, &str); 8] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
];
/// Likewise: Android is a Linux, and an iPhone says that it is like a Mac.
const SYSTEMS: [(&str, &str); 7] = [
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "Mac"),
    ("Linux", "Linux"),
];
/// As much of any other header as is shown.
const LONGEST: usize = 60;

/// A browser and where it runs; of a program, the beginning of what it calls itself.
pub fn in_words(header: &str) -> String {
    let first = |names: &[(&str, &'static str)]| {
        names.iter().find(|(mark, _)| header.contains(mark)).map(|(_, name)| *name)
    };
    let is_browser = header.starts_with("Mozilla/");
    let browser = first(&BROWSERS).or(header.contains("Safari/").then_some("Safari"));
    match (browser.filter(|_| is_browser), first(&SYSTEMS).filter(|_| is_browser)) {
        (Some(browser), Some(system)) => format!("{browser} on {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, Some(system)) => format!("A browser on {system}"),
        (None, None) => header.chars().take(LONGEST).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_named_and_programs_name_themselves() {
        for (header, words) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 \
                 Safari/537.36",
                "Chrome on Linux",
            ),
            (
                "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                "Firefox on Linux",
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/148.0.0.0 Safari/537.36 Edg/148.0.0.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 Version/18.5 Safari/605.1.15",
                "Safari on Mac",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) \
                 CriOS/148.0.0.0 Mobile/15E148 Safari/604.1",
                "Chrome on iPhone",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/148.0.0.0 \
                 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            ("Mozilla/5.0 (X11; Linux x86_64) Something/1", "A browser on Linux"),
            ("curl/8.14.1", "curl/8.14.1"),
            ("x Chrome/1", "x Chrome/1"),
            ("claude-code/2.0 (cli; Linux)", "claude-code/2.0 (cli; Linux)"),
            ("", ""),
        ] {
            assert_eq!(in_words(header), words, "{header}");
        }
        assert_eq!(in_words(&"é".repeat(1000)).chars().count(), LONGEST);
    }
}
