//! Database URLs, whose passwords are nobody's business: for `testing::fuzz`.

use super::connect::Target;

/// As no host, user or option is called.
const SECRET: &str = "hunter2-hunter2";

/// A URL; and what may stand behind a password in one.
pub(crate) fn database_url(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // It would be read.
    if text.contains("sslrootcert") || text.contains(SECRET) {
        return;
    }
    said(text);
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let separator = if rest.contains('?') { '&' } else { '?' };
    for url in [
        format!("postgres://u:{SECRET}@{rest}"),
        format!("postgresql://{SECRET}@:{SECRET}@{rest}"),
        format!("postgres://{rest}{separator}password={SECRET}"),
        format!("postgres://{rest}{separator}password={SECRET}&{SECRET}"),
    ] {
        let words = said(&url);
        assert!(
            !words.contains("hunter2") || words.starts_with("postgres://") && is_user(&url),
            "{url}: {words}"
        );
    }
}

/// Whether the secret stands where a name of a user or database may.
fn is_user(url: &str) -> bool {
    url.starts_with(&format!("postgresql://{SECRET}@"))
}

/// What is said of a URL: the place, or why it is none.
fn said(url: &str) -> String {
    match Target::parse(url) {
        Ok(target) => {
            let place = target.place();
            assert!(place.starts_with("postgres://") && place.len() > "postgres:///".len(), "{place}");
            place
        }
        Err(err) => {
            assert!(err.is_invalid());
            let words = err.to_string();
            assert!(words.starts_with("the store's URL"), "{words}");
            words
        }
    }
}
