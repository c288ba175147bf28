//! Who is asking: a browser that wants a page, or a program that wants JSON.

use http::{HeaderMap, header};

/// Whether the client named `text/html` and prefers it to JSON. `*/*` is what programs send.
pub fn prefers_html(headers: &HeaderMap) -> bool {
    let html = quality(headers, "text/html");
    html > 0.0 && html >= quality(headers, "application/json")
}

/// Whether JSON is an acceptable answer.
pub fn accepts_json(headers: &HeaderMap) -> bool {
    accepts(headers, &["application/json", "application/*", "*/*"])
}

/// Whether a stream of events is an acceptable answer.
pub fn accepts_events(headers: &HeaderMap) -> bool {
    accepts(headers, &["text/event-stream", "text/*", "*/*"])
}

/// Whether what these ranges describe, the narrowest first, is acceptable (RFC 9110 §12.5.1): the narrowest that is named
/// decides, and nothing asked for means anything.
fn accepts(headers: &HeaderMap, ranges: &[&str]) -> bool {
    !headers.contains_key(header::ACCEPT)
        || ranges.iter().find_map(|range| weight(headers, range)).is_some_and(|weight| weight > 0.0)
}

/// The weight given to exactly this media range, 0 where it is not named.
fn quality(headers: &HeaderMap, range: &str) -> f32 {
    weight(headers, range).unwrap_or(0.0)
}

fn weight(headers: &HeaderMap, range: &str) -> Option<f32> {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            if !parts.next()?.eq_ignore_ascii_case(range) {
                return None;
            }
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            Some(weight.map_or(1.0, |weight| weight.parse().unwrap_or(1.0)))
        })
        .reduce(f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accept(value: &str) -> HeaderMap {
        [(header::ACCEPT, value.parse().unwrap())].into_iter().collect()
    }

    #[test]
    fn browsers_get_pages_and_programs_json() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        for (value, html) in [
            (browser, true),
            ("text/html", true),
            ("TEXT/HTML", true),
            ("*/*", false),
            ("application/json", false),
            ("application/json, text/html;q=0.5", false),
            ("application/json;q=0.5, text/html", true),
            ("application/json, text/html", true),
            ("text/html;q=0", false),
            ("text/*", false),
            ("", false),
        ] {
            assert_eq!(prefers_html(&accept(value)), html, "{value}");
        }
        assert!(!prefers_html(&HeaderMap::new()));
    }

    #[test]
    fn json_is_refused_only_where_it_is_excluded() {
        for (value, json) in [
            ("application/json, text/event-stream", true),
            ("application/json", true),
            ("application/json; charset=utf-8", true),
            ("*/*", true),
            ("application/*;q=0.1", true),
            ("text/event-stream", false),
            ("text/html", false),
            ("application/json;q=0", false),
            ("application/json;q=0, */*", false),
        ] {
            assert_eq!(accepts_json(&accept(value)), json, "{value}");
        }
        assert!(accepts_json(&HeaderMap::new()) && accepts_events(&HeaderMap::new()));
        for (value, events) in [
            ("application/json, text/event-stream", true),
            ("text/*", true),
            ("*/*", true),
            ("application/json", false),
            ("*/*, text/event-stream;q=0", false),
        ] {
            assert_eq!(accepts_events(&accept(value)), events, "{value}");
        }
    }
}
