//! "Did you mean": the nearest known word.

/// The known word nearest to `given`, if one is near enough to be meant.
#[must_use]
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(&given.to_lowercase(), &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= 1 + word.chars().count().max(given.chars().count()) / 4)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

/// `; did you mean "…"?` or, where none is near, `; known are …`.
#[must_use]
pub fn hint<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match nearest(given, known.iter().copied()) {
        Some(word) => format!("; did you mean {word:?}?"),
        None if known.is_empty() => "; none are known here".to_owned(),
        None => format!("; known here: {}", known.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_suggested_and_far_ones_listed() {
        assert_eq!(nearest("prefech", ["prefetch", "concurrency"]), Some("prefetch"));
        assert_eq!(nearest("colour", ["prefetch"]), None);
        assert_eq!(hint("url", ["urls"]), "; did you mean \"urls\"?");
        assert_eq!(hint("x", ["one", "two"]), "; known here: one, two");
    }
}
