//! A macro for structs whose fields borrow values from one BSON document, decoded in one pass.
//! The macro does not interpret values. The projection does that.

/// Declares `struct Name<'a>` with one `Option<RawBsonRef<'a>>` per listed key. `None` means null or missing
/// ("nullish", spec 02). Of two equal keys the last one counts, as in the server.
macro_rules! borrowed_fields {
    ($(#[$meta:meta])* $vis:vis struct $name:ident { $( $(#[$field_meta:meta])* $field:ident : $key:literal ),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Default, Clone, Copy)]
        $vis struct $name<'a> {
            $( $(#[$field_meta])* pub $field: Option<bson::RawBsonRef<'a>>, )*
        }

        impl<'a> $name<'a> {
            /// Reads the listed keys of `document` in one pass.
            ///
            /// # Errors
            /// When the bytes are not valid BSON (for instance a string that is not UTF-8).
            pub(crate) fn read(document: &'a bson::RawDocument) -> Result<Self, bson::error::Error> {
                let mut fields = Self::default();
                for element in document.iter_elements() {
                    let element = element?;
                    match element.key().as_str() {
                        $( $key => fields.$field = $crate::model::value::present(element.value()?), )*
                        _ => {}
                    }
                }
                Ok(fields)
            }

            /// The values with their keys, in the order of the struct.
            #[allow(dead_code, reason = "only the documents that the unprojection edits are listed again")]
            pub(crate) fn named(&self) -> impl Iterator<Item = (&'static bson::raw::CStr, Option<bson::RawBsonRef<'a>>)> {
                [$( (bson::raw::cstr!($key), self.$field) ),*].into_iter()
            }
        }
    };
}

pub(super) use borrowed_fields;
