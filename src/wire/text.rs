//! Words that strangers chose, made fit for a terminal, a log or a status document.

/// `text` as one printable line of at most `chars_max` characters.
#[must_use]
pub fn one_line(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    for (n, c) in text.chars().enumerate() {
        if n == chars_max {
            out.push('…');
            break;
        }
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that reorder or hide text on a terminal (Unicode bidirectional controls and
/// zero-width characters).
fn is_invisible(c: char) -> bool {
    let reorders = matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}');
    reorders || matches!(c, '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_words_cannot_leave_their_line() {
        assert_eq!(one_line("a\nb\x1b[2J", 100), "a\\nb\\u{1b}[2J");
        assert_eq!(one_line("abc", 2), "ab…");
    }
}
