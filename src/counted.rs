//! Writes a number with its noun, for people: `1 dead letter`, `2 dead letters`. Pure.

use std::fmt::Display;

/// The number and the noun: `one` for exactly one, `many` for any other number.
#[must_use]
pub(crate) fn counted<N: Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let noun = if number == N::from(1) { one } else { many };
    format!("{number} {noun}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_has_the_noun_of_one() {
        let told = [0_u64, 1, 2].map(|number| counted(number, "entry", "entries"));
        assert_eq!(told, ["0 entries", "1 entry", "2 entries"]);
    }
}
