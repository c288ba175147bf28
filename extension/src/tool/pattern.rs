//! Regular expressions that mean the same to PostgreSQL and to ECMA-262, which JSON Schema has them from.
//!
//! Only what is surely the same passes, written the way both read it. What depends on the locale (`\w`, `[[:alpha:]]`),
//! what one of the two does not have, and what they read differently does not.

/// An expression of PostgreSQL's `~` for JSON Schema. `ascii_digits`: whether `\d` is 0 to 9 to PostgreSQL.
pub(super) fn from_regex(regex: &str, ascii_digits: bool) -> Option<String> {
    let mut reader = Reader { rest: regex.chars().peekable(), out: String::new(), ascii_digits };
    // `***` and embedded options change what all that follows means; neither passes.
    let (depth, out) = reader.read()?;
    (depth == 0).then_some(out)
}

/// A pattern of LIKE for JSON Schema.
pub(super) fn from_like(like: &str) -> Option<String> {
    let mut out = String::from("^");
    let mut rest = like.chars();
    while let Some(char) = rest.next() {
        match char {
            '%' => out.push_str(r"[\s\S]*"),
            '_' => out.push_str(r"[\s\S]"),
            '\\' => literal(rest.next()?, &mut out),
            char => literal(char, &mut out),
        }
    }
    out.push('$');
    Some(out)
}

struct Reader<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    out: String,
    ascii_digits: bool,
}

impl Reader<'_> {
    fn read(&mut self) -> Option<(usize, String)> {
        let mut depth = 0_usize;
        // Whether a quantifier may follow: PostgreSQL takes none behind another, an anchor, or nothing.
        let mut repeatable = false;
        while let Some(char) = self.rest.next() {
            repeatable = match char {
                '^' | '$' => {
                    self.out.push(char);
                    false
                }
                '|' => {
                    // An empty branch is nothing both read alike.
                    if matches!(self.rest.peek(), None | Some('|' | ')'))
                        || self.out.is_empty()
                        || self.out.ends_with(['|', '('])
                    {
                        return None;
                    }
                    self.out.push('|');
                    false
                }
                '(' => {
                    self.out.push('(');
                    if self.rest.next_if_eq(&'?').is_some() {
                        self.rest.next_if_eq(&':')?;
                        self.out.push_str("?:");
                    }
                    if matches!(self.rest.peek(), None | Some(')')) {
                        return None;
                    }
                    depth += 1;
                    false
                }
                ')' => {
                    depth = depth.checked_sub(1)?;
                    self.out.push(')');
                    true
                }
                '*' | '+' | '?' if repeatable => {
                    self.out.push(char);
                    self.lazy()?
                }
                '{' if repeatable => {
                    self.repetition()?;
                    self.lazy()?
                }
                '*' | '+' | '?' | '{' => return None,
                // A newline is any character to PostgreSQL.
                '.' => {
                    self.out.push_str(r"[\s\S]");
                    true
                }
                '[' => {
                    self.bracket()?;
                    true
                }
                '\\' => {
                    self.escape(false)?;
                    true
                }
                char => {
                    literal(char, &mut self.out);
                    true
                }
            };
        }
        Some((depth, std::mem::take(&mut self.out)))
    }

    /// Nothing may follow a quantifier but what makes it lazy, which changes no verdict and is left out.
    fn lazy(&mut self) -> Option<bool> {
        self.rest.next_if_eq(&'?');
        if matches!(self.rest.peek(), Some('*' | '+' | '?' | '{')) { None } else { Some(false) }
    }

    /// `{m}`, `{m,}` and `{m,n}`.
    fn repetition(&mut self) -> Option<()> {
        let least = self.number()?;
        let mut text = format!("{{{least}");
        if self.rest.next_if_eq(&',').is_some() {
            text.push(',');
            if self.rest.peek() != Some(&'}') {
                let most = self.number()?;
                if most < least {
                    return None;
                }
                text.push_str(&most.to_string());
            }
        }
        self.rest.next_if_eq(&'}')?;
        text.push('}');
        self.out.push_str(&text);
        Some(())
    }

    fn number(&mut self) -> Option<u8> {
        let mut digits = String::new();
        while let Some(digit) = self.rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        // PostgreSQL's limit.
        digits.parse().ok()
    }

    /// A bracket expression; its `[` has been read.
    fn bracket(&mut self) -> Option<()> {
        self.out.push('[');
        if self.rest.next_if_eq(&'^').is_some() {
            self.out.push('^');
        }
        let mut first = true;
        let mut before = None;
        loop {
            let char = self.rest.next()?;
            // Some readers have set operations: `&&`, `~~`.
            if before.replace(char) == Some(char) && char.is_ascii_punctuation() {
                return None;
            }
            match char {
                ']' if !first => break,
                // Classes, collating elements, and the word boundaries [[:<:]].
                '[' if matches!(self.rest.peek(), Some(':' | '.' | '=')) => return None,
                '\\' => self.escape(true)?,
                char => {
                    let from = char;
                    if self.rest.peek() == Some(&'-') {
                        self.rest.next();
                        match self.rest.next()? {
                            // A hyphen that stands last is one.
                            ']' => {
                                in_bracket(from, &mut self.out);
                                in_bracket('-', &mut self.out);
                                break;
                            }
                            '[' | '\\' => return None,
                            to if from <= to => {
                                in_bracket(from, &mut self.out);
                                self.out.push('-');
                                in_bracket(to, &mut self.out);
                            }
                            _ => return None,
                        }
                    } else {
                        in_bracket(from, &mut self.out);
                    }
                }
            }
            first = false;
        }
        self.out.push(']');
        Some(())
    }

    fn escape(&mut self, bracket: bool) -> Option<()> {
        match self.rest.next()? {
            'd' if self.ascii_digits => self.out.push_str(if bracket { "0-9" } else { "[0-9]" }),
            'n' => self.out.push_str(r"\n"),
            'r' => self.out.push_str(r"\r"),
            't' => self.out.push_str(r"\t"),
            char if char.is_ascii_punctuation() => {
                // `[\.-z]` is a range to both, but not one to keep apart from `[\w-z]`.
                if bracket && self.rest.peek() == Some(&'-') {
                    return None;
                }
                if bracket { in_bracket(char, &mut self.out) } else { literal(char, &mut self.out) }
            }
            _ => return None,
        }
        // The same of `\d-z`.
        (!bracket || self.rest.peek() != Some(&'-')).then_some(())
    }
}

/// A character that stands for itself. Others than these must not be escaped where ECMA-262 reads Unicode.
fn literal(char: char, out: &mut String) {
    if r"^$\.*+?()[]{}|/".contains(char) {
        out.push('\\');
    }
    out.push(char);
}

fn in_bracket(char: char, out: &mut String) {
    if r"\]^-[".contains(char) {
        out.push('\\');
    }
    out.push(char);
}

#[cfg(test)]
mod unit {
    use super::*;

    #[test]
    fn expressions_both_read_alike() {
        for (regex, expected) in [
            ("^[a-z]+$", "^[a-z]+$"),
            (r"^\d{5}(-\d{4})?$", "^[0-9]{5}(-[0-9]{4})?$"),
            (r"^[^@]+@[^@]+\.[a-z]{2,}$", r"^[^@]+@[^@]+\.[a-z]{2,}$"),
            ("^a.b$", r"^a[\s\S]b$"),
            ("^(?:a|b)*?$", "^(?:a|b)*$"),
            ("[]a-]", r"[\]a\-]"),
            (r"\@\-", "@-"),
            (r"[\d.]", "[0-9.]"),
            ("a/b", r"a\/b"),
            ("a*?b+?c??d{2}?", "a*b+c?d{2}"),
            (r"a{2,}b{2,2}\n\r\t[\n]", r"a{2,}b{2,2}\n\r\t[\n]"),
            ("[ab][-a][^a-]", r"[ab][\-a][^a\-]"),
            ("", ""),
        ] {
            assert_eq!(from_regex(regex, true).as_deref(), Some(expected), "{regex}");
            let both = regex_lite::Regex::new(expected);
            assert!(both.is_ok(), "{expected}");
        }
    }

    #[test]
    fn expressions_that_one_reads_otherwise() {
        for regex in [
            "(?i)a",
            "***=a",
            r"\w",
            r"\s",
            r"\m",
            r"(a)\1",
            "[[:alpha:]]",
            "[[.a.]]",
            "[[=a=]]",
            "a**",
            "a+*",
            "a*+",
            "a{2}{3}",
            "a*??",
            "a*?*",
            "a*?+",
            "a*?{2}",
            "a{2,1}",
            "a{2,3x",
            "^*",
            "a{,3}",
            "a{x",
            "(?=a)",
            "a||b",
            "(|a)",
            "()",
            "a|",
            "(a|)",
            "|a",
            "(",
            "(a(",
            "(a",
            "a)",
            "[z-a]",
            "[a",
            r"\u0041",
            "[a-\\d]",
            "[A-\\d]",
            r"[\d-z]",
            "[a&&b]",
            "a{300}",
        ] {
            assert_eq!(from_regex(regex, true), None, "{regex}");
        }
        assert_eq!(from_regex(r"\d", false), None);
    }

    #[test]
    fn like_is_a_pattern() {
        assert_eq!(from_like(r"a_%\%.").as_deref(), Some(r"^a[\s\S][\s\S]*%\.$"));
        assert_eq!(from_like(r"a\"), None);
    }
}
