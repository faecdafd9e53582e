//! "Did you mean": finds the known word closest to a misspelt one.

/// Longer words are not compared: the cost grows with the product of the lengths.
const LONGEST: usize = 64;

/// The candidate closest to `word`, ignoring case, if their distance is at most one edit
/// (insertion, deletion, substitution or transposition) per three characters.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters: Vec<char> = word.to_lowercase().chars().collect();
    if letters.is_empty() || letters.len() > LONGEST {
        return None;
    }
    let allowed = (letters.len() / 3).max(usize::from(letters.len() > 1));
    let close = |candidate: &'a str| {
        let other: Vec<char> = candidate.to_lowercase().chars().collect();
        let fits = other.len() <= LONGEST && letters.len().abs_diff(other.len()) <= allowed;
        let slips = fits.then(|| distance(&letters, &other))?;
        (slips <= allowed).then_some((slips, candidate))
    };
    let best = candidates
        .into_iter()
        .filter_map(close)
        .min_by_key(|(slips, _)| *slips);
    best.map(|(_, candidate)| candidate)
}

/// Damerau-Levenshtein distance (optimal string alignment).
fn distance(one: &[char], other: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=other.len()).collect();
    for (row, letter) in one.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, against) in other.iter().enumerate() {
            let change = above[column] + usize::from(letter != against);
            let mut least = change.min(above[column + 1] + 1).min(current[column] + 1);
            let swapped =
                row > 0 && column > 0 && *letter == other[column - 1] && one[row - 1] == *against;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_similar_words_are_suggested() {
        let known = [
            "log",
            "loop",
            "errors",
            "kubernetes",
            "forward",
            "cache",
            "health",
            "ready",
        ];
        let cases = [
            ("Log", Some("log")),
            ("lgo", Some("log")),
            ("kuberntes", Some("kubernetes")),
            ("kubernets", Some("kubernetes")),
            ("forwrad", Some("forward")),
            ("error", Some("errors")),
            ("chache", Some("cache")),
            ("foo", None),
            ("proxy", None),
            ("x", None),
            ("", None),
            ("pods", None),
        ];
        for (word, expected) in cases {
            assert_eq!(nearest(word, known), expected, "{word}");
        }
        assert_eq!(nearest(&"a".repeat(100_000), known), None);
    }
}
