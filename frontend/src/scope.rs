//! Scopes (RFC 6749 §3.3): names separated by spaces.

/// The scope every session has, and the only one a client needs to begin with.
pub const BASE: &str = "mcp";
const LONGEST: usize = 1024;
/// As the extension has it.
const LONGEST_NAME: usize = 256;
const MOST: usize = 100;

/// The scopes that are asked for, in their order and each once; `None` where the text is no list of scopes.
pub fn parse(text: &str) -> Option<Vec<String>> {
    let valid = |byte: u8| matches!(byte, 0x20 | 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if text.len() > LONGEST || !text.bytes().all(valid) {
        return None;
    }
    let mut scopes: Vec<String> = Vec::new();
    for scope in text.split(' ').filter(|scope| !scope.is_empty()) {
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
    }
    (scopes.len() <= MOST && scopes.iter().all(|scope| scope.len() <= LONGEST_NAME)).then_some(scopes)
}

/// The same with [`BASE`] among them.
pub fn with_base(mut scopes: Vec<String>) -> Vec<String> {
    scopes.retain(|scope| scope != BASE);
    scopes.insert(0, BASE.to_owned());
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_follow_the_grammar() {
        assert_eq!(parse("").unwrap(), Vec::<String>::new());
        assert_eq!(with_base(parse("").unwrap()), ["mcp"]);
        assert_eq!(with_base(parse("notes:write  mcp notes:write").unwrap()), ["mcp", "notes:write"]);
        assert_eq!(parse("! # [ ] ~").unwrap(), ["!", "#", "[", "]", "~"]);
        for bad in ["a\"b", "a\\b", "a\nb", "a\tb", "é", "\u{7f}", &"a".repeat(LONGEST_NAME + 1)] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        let many = (0..=MOST).map(|number| number.to_string()).collect::<Vec<_>>();
        assert_eq!(parse(&many.join(" ")), None);
        assert_eq!(parse(&many[1..].join(" ")).unwrap().len(), MOST);
        assert_eq!(parse(&"a".repeat(LONGEST_NAME)).unwrap().len(), 1);
        let longest = "a ".repeat(LONGEST / 2);
        assert_eq!(parse(&longest).unwrap(), ["a"]);
        assert_eq!(parse(&format!("{longest}a")), None);
    }
}
