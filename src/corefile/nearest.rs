//! "Did you mean": the known word nearest to a mistyped one.

/// Words longer than this are not compared; the effort grows with the product of the lengths.
const LONGEST: usize = 64;

/// The candidate closest to `word`, if it is close: the same but for case, or at most one edit (a
/// letter missing, added, changed, or two neighbours swapped) for each three letters.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let length = lower.chars().count();
    if length == 0 || length > LONGEST {
        return None;
    }
    let allowed = (length / 3).max(usize::from(length > 1));
    let close = |candidate: &'a str| {
        let other = candidate.to_lowercase();
        let other_length = other.chars().count();
        let fits = other_length <= LONGEST && length.abs_diff(other_length) <= allowed;
        let edits = fits.then(|| strsim::osa_distance(&lower, &other))?;
        (edits <= allowed).then_some((edits, candidate))
    };
    let best = candidates
        .into_iter()
        .filter_map(close)
        .min_by_key(|(edits, _)| *edits);
    best.map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_words_are_found_and_far_ones_are_not() {
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
