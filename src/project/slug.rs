//! The slug: the last part of an offer's public URL (spec 02, "slug"). Published URLs depend on it.

use unicode_properties::{GeneralCategory, GeneralCategoryGroup, UnicodeGeneralCategory as _};

/// The kebab case of a title, with its accents. Empty when the title has neither letters nor digits.
#[must_use]
pub(crate) fn slug(title: &str) -> String {
    let mut slug = String::with_capacity(title.len());
    let mut word = String::new();
    let mut characters = title.chars().peekable();
    let mut previous = CharacterKind::Break;
    while let Some(character) = characters.next() {
        let kind = CharacterKind::of(character);
        let mut next_is_lower =
            || characters.peek().is_some_and(|next| CharacterKind::of(*next) == CharacterKind::Lower);
        let breaks_before = match (previous, kind) {
            (CharacterKind::Lower | CharacterKind::Digit, CharacterKind::Upper) => true,
            (CharacterKind::Upper, CharacterKind::Upper) => next_is_lower(),
            _ => false,
        };
        if kind == CharacterKind::Break || breaks_before {
            push_word(&mut slug, &mut word);
        }
        if kind != CharacterKind::Break {
            word.push(character);
        }
        previous = kind;
    }
    push_word(&mut slug, &mut word);
    slug
}

/// Appends one word in lower case. Whole words are converted, because the last letter of a word may have another lower
/// case (the Greek final sigma).
fn push_word(slug: &mut String, word: &mut String) {
    if word.is_empty() {
        return;
    }
    if !slug.is_empty() {
        slug.push('-');
    }
    slug.push_str(&word.to_lowercase());
    word.clear();
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CharacterKind {
    Lower,
    Upper,
    OtherLetter,
    Digit,
    Break,
}

impl CharacterKind {
    fn of(character: char) -> Self {
        match character {
            'a'..='z' => Self::Lower,
            'A'..='Z' => Self::Upper,
            '0'..='9' => Self::Digit,
            '\0'..='\x7f' => Self::Break,
            _ => match character.general_category() {
                GeneralCategory::LowercaseLetter => Self::Lower,
                GeneralCategory::UppercaseLetter => Self::Upper,
                _ if character.general_category_group() == GeneralCategoryGroup::Letter => Self::OtherLetter,
                _ => Self::Break,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::slug;

    #[test]
    fn the_examples_of_the_specification_hold() {
        for (title, expected) in [
            ("Développeur Web (H/F)", "développeur-web-h-f"),
            ("ÉLECTRICIEN", "électricien"),
            ("BTSNdrc2024", "bts-ndrc2024"),
            ("iOSDeveloper", "i-os-developer"),
            ("Manager d'Unité", "manager-d-unité"),
            ("Assistant RH 2.0", "assistant-rh-2-0"),
            ("!!!", ""),
            ("", ""),
            ("2024Bts", "2024-bts"),
            ("e\u{301}te\u{301}", "e-te"),
            ("日本語 データ", "日本語-データ"),
        ] {
            assert_eq!(slug(title), expected, "{title}");
        }
    }

    proptest! {
        #[test]
        fn a_slug_has_no_break_at_its_ends_and_no_double_break(title in "\\PC{0,40}") {
            let slug = slug(&title);
            prop_assert!(!slug.starts_with('-') && !slug.ends_with('-') && !slug.contains("--"));
        }
    }
}
