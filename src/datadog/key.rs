//! The API key, and the file it comes from.

use crate::watched::Watched;
use awc::http::header::HeaderValue;
use std::{fmt, path::Path, sync::Arc};

/// A Datadog API key, ready for its header. Its `Debug` is redacted.
#[derive(Clone)]
pub struct ApiKey {
    value: HeaderValue,
    file: Option<Arc<Watched<HeaderValue>>>,
}

impl ApiKey {
    /// A key from its text, white space around it left out; `None` if it is empty or no header could hold it.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        Some(Self { value: value(text)?, file: None })
    }

    /// The same, until this file holds another one.
    #[must_use]
    pub fn of_file(self, path: &Path) -> Self {
        let parse = |contents: &[Vec<u8>]| {
            let text = contents.first().and_then(|text| std::str::from_utf8(text).ok());
            text.and_then(value).ok_or_else(|| "no usable key".to_owned())
        };
        let watched = Watched::of(self.value.clone(), "the API key", vec![path.to_owned()], parse);
        Self { file: Some(Arc::new(watched)), ..self }
    }

    /// Looks at the file again, if the key is of one: before each request, so that a key that was changed, or mended after a
    /// 403, is used without a restart. While the file cannot be used the key stays as it is.
    pub(super) fn renew(&mut self) {
        if let Some(file) = &self.file {
            self.value = HeaderValue::clone(&file.get());
        }
    }

    /// Whether its file cannot be used as it is now, so that the key is that of before.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.file.as_ref().is_some_and(|file| file.is_stale())
    }

    /// The value of its header.
    pub(super) fn header(&self) -> HeaderValue {
        self.value.clone()
    }

    /// What can be shown of a body: it has the key nowhere, nor the beginning of the key at its end where it `is_cut` there.
    pub(super) fn hidden_in(&self, body: &[u8], is_cut: bool) -> Vec<u8> {
        let key = self.value.as_bytes();
        let (mut shown, mut rest) = (Vec::with_capacity(body.len()), body);
        while let Some((before, found)) =
            rest.windows(key.len()).position(|text| text == key).and_then(|at| rest.split_at_checked(at))
        {
            shown.extend_from_slice(before);
            shown.extend_from_slice(b"(the API key)");
            rest = found.get(key.len()..).unwrap_or_default();
        }
        let parts = (1..key.len()).rev().filter_map(|len| key.get(..len)).filter(|_| is_cut);
        let rest = parts.into_iter().find_map(|part| rest.strip_suffix(part)).unwrap_or(rest);
        shown.extend_from_slice(rest);
        shown
    }
}

fn value(text: &str) -> Option<HeaderValue> {
    let text = text.trim();
    let mut value =
        HeaderValue::from_str(text).ok().filter(|_| !text.is_empty() && !text.contains(char::is_whitespace))?;
    value.set_sensitive(true);
    Some(value)
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_key_is_never_printed_and_must_fit_a_header() {
        assert_eq!(format!("{:?}", ApiKey::new("hush").unwrap()), "ApiKey(redacted)");
        for text in ["", " ", "a\nb", "two words", "nul\0"] {
            assert!(ApiKey::new(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn neither_a_key_nor_the_beginning_of_one_that_is_cut_can_be_read() {
        let key = ApiKey::new("hush").unwrap();
        let shown = |body: &str, is_cut| String::from_utf8(key.hidden_in(body.as_bytes(), is_cut)).unwrap();
        assert_eq!(shown("hushhush, it is hush", false), "(the API key)(the API key), it is (the API key)");
        for cut in ["it is h", "it is hu", "it is hus"] {
            assert_eq!(shown(cut, true), "it is ");
            assert_eq!(shown(cut, false), cut, "all of it is here, and has no key");
        }
        assert_eq!(shown("hu", true), "");
        assert_eq!(
            ApiKey::new("sch\u{fc}ssel").unwrap().hidden_in("ein sch\u{fc}ssel".as_bytes(), false),
            b"ein (the API key)"
        );
    }

    #[test]
    fn a_key_of_a_file_is_the_one_that_the_file_holds_and_stays_while_it_holds_none() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let mut key = ApiKey::new("one").unwrap().of_file(&path);
        let mut renewed = |text: Option<&str>| {
            match text {
                Some(text) => fs::write(&path, text).unwrap(),
                None => fs::remove_file(&path).unwrap(),
            }
            key.renew();
            key.header().to_str().unwrap().to_owned()
        };
        assert_eq!(renewed(Some("two\n")), "two");
        assert_eq!(renewed(None), "two");
        assert_eq!(renewed(Some("")), "two");
        assert_eq!(renewed(Some("three")), "three");
    }
}
