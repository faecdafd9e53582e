//! Rust source as tokens, as far as imports need it: no comments, no literals, no code of tests.

/// A token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// A name, keyword or number.
    Word(&'a str),
    /// `::`
    Path,
    /// Any other character.
    Mark(char),
}

/// The tokens of `source`, and the modules that are declared for tests alone.
pub(crate) fn without_tests(source: &str) -> (Vec<Token<'_>>, Vec<&str>) {
    use Token::{Mark, Word};
    const TEST: [Token<'_>; 7] = [
        Mark('#'),
        Mark('['),
        Word("cfg"),
        Mark('('),
        Word("test"),
        Mark(')'),
        Mark(']'),
    ];
    let all = tokens(source);
    let (mut kept, mut test_modules) = (Vec::new(), Vec::new());
    let mut rest = all.as_slice();
    while let Some((first, behind)) = rest.split_first() {
        let Some(item) = rest.strip_prefix(&TEST) else {
            kept.push(*first);
            rest = behind;
            continue;
        };
        let (item, after) = item.split_at(item_length(item));
        if let [.., Word("mod"), Word(name), Mark(';')] = item {
            test_modules.push(*name);
        }
        rest = after;
    }
    (kept, test_modules)
}

/// Tokens up to the end of an item: a semicolon, or the brace that closes its body.
fn item_length(tokens: &[Token<'_>]) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Mark('(' | '[' | '{') => depth += 1,
            Token::Mark(')' | ']') => depth = depth.saturating_sub(1),
            Token::Mark('}') if depth <= 1 => return at + 1,
            Token::Mark('}') => depth -= 1,
            Token::Mark(';') if depth == 0 => return at + 1,
            _ => {}
        }
    }
    tokens.len()
}

fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = source;
    while let Some(first) = rest.chars().next() {
        let length = if first.is_whitespace() {
            first.len_utf8()
        } else if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else if is_word(first) {
            let end = rest.find(|one| !is_word(one)).unwrap_or(rest.len());
            tokens.push(Token::Word(&rest[..end]));
            end
        } else if rest.starts_with("::") {
            tokens.push(Token::Path);
            2
        } else {
            tokens.push(Token::Mark(first));
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

fn is_word(one: char) -> bool {
    one.is_alphanumeric() || one == '_'
}

/// The length of the text, byte or character that `rest` begins with, if it does.
fn literal(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "b", "c", "r"];
    let prefix = prefix.iter().find(|prefix| {
        let behind = rest.strip_prefix(**prefix);
        behind.is_some_and(|behind| behind.starts_with(['"', '#', '\'']))
    });
    let prefix = prefix.map_or("", |prefix| *prefix);
    let body = &rest[prefix.len()..];
    if prefix.ends_with('r') {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let text = body[hashes..].strip_prefix('"')?; // or a raw identifier
        let end = format!("\"{}", "#".repeat(hashes));
        let length = text.find(&end)? + end.len();
        return Some(prefix.len() + hashes + 1 + length);
    }
    let quote = body
        .chars()
        .next()
        .filter(|first| matches!(first, '"' | '\''))?;
    let mut characters = body.char_indices().skip(1);
    if quote == '\'' {
        // A lifetime has no quote behind its first letter.
        let mut ahead = body.chars().skip(1);
        let (first, second) = (ahead.next()?, ahead.next()?);
        if first != '\\' && second != '\'' {
            return None;
        }
    }
    while let Some((at, one)) = characters.next() {
        if one == '\\' {
            characters.next();
        } else if one == quote {
            return Some(prefix.len() + at + 1);
        }
    }
    None
}
