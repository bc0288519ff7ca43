//! The URL of a PostgreSQL database, which may hold a password: it is shown without.

use std::fmt;

/// Such a URL, as libpq takes it: with several hosts, or none.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct DatabaseUrl(String);

impl DatabaseUrl {
    /// If it is one.
    pub(crate) fn given(text: &str) -> Option<Self> {
        rest(text).map(|_| Self(text.to_owned()))
    }

    /// The whole URL; a password that it does not hold is taken from `password`.
    pub(crate) fn with_password(&self, password: Option<&str>) -> String {
        let Some(password) = password.filter(|_| !self.has_password()) else { return self.0.clone() };
        let password: String = url::form_urlencoded::byte_serialize(password.as_bytes()).collect();
        let separator = if self.0.contains('?') { '&' } else { '?' };
        // A blank is %20 in a URL of a database, and a plus is a plus.
        format!("{}{separator}password={}", self.0, password.replace('+', "%20"))
    }

    fn has_password(&self) -> bool {
        let rest = rest(&self.0).unwrap_or_default();
        let user = rest.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'));
        user || rest.split_once('?').is_some_and(|(_, query)| query.split('&').any(is_secret))
    }
}

/// What follows the scheme.
fn rest(text: &str) -> Option<&str> {
    ["postgres://", "postgresql://"].into_iter().find_map(|scheme| text.strip_prefix(scheme))
}

/// Whether a parameter holds a password, or has a name that is written so that nobody can tell.
fn is_secret(parameter: &str) -> bool {
    let name = parameter.split('=').next().unwrap_or_default();
    name.contains("password") || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = rest(&self.0).unwrap_or_default();
        f.write_str(&self.0[..self.0.len() - rest.len()])?;
        let place = match rest.rsplit_once('@') {
            // An @ among the parameters: nobody can tell what is a name there and what a password.
            Some((user, _)) if user.contains(['?', '&']) => return f.write_str("…"),
            Some((user, place)) => {
                let (name, secret) = user.split_once(':').unwrap_or((user, ""));
                write!(f, "{name}{}@", if secret.is_empty() { "" } else { ":…" })?;
                place
            }
            None => rest,
        };
        let (place, query) = place.split_once(['?', '&']).unwrap_or((place, ""));
        f.write_str(place)?;
        for (number, parameter) in
            query.split(['?', '&']).filter(|parameter| !parameter.is_empty()).enumerate()
        {
            let shown = if is_secret(parameter) { "password=…" } else { parameter };
            write!(f, "{}{shown}", if number == 0 { '?' } else { '&' })?;
        }
        Ok(())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> DatabaseUrl {
        DatabaseUrl::given(text).unwrap()
    }

    #[test]
    fn no_password_is_shown() {
        for (given, shown) in [
            ("postgres://u:secret@h/db", "postgres://u:…@h/db"),
            ("postgres://u:secret@a:1,b:2/db?sslmode=require", "postgres://u:…@a:1,b:2/db?sslmode=require"),
            ("postgresql://u:sec@ret@h/db?application_name=x", "postgresql://u:…@h/db?application_name=x"),
            ("postgresql:///db?password=secret&user=u", "postgresql:///db?password=…&user=u"),
            ("postgres://h?p%61ssword=secret", "postgres://h?password=…"),
            ("postgres://u@h/db", "postgres://u@h/db"),
            ("postgres://h/db?password=secret&user=a@b", "postgres://…"),
            ("postgres://h/db?password=a@secret", "postgres://…"),
            ("postgres://u:p@h/db?application_name=a@b&password=secret", "postgres://…"),
            ("postgres://u@h&password=secret", "postgres://u@h?password=…"),
        ] {
            assert_eq!(url(given).to_string(), shown);
            assert_eq!(format!("{:?}", url(given)), shown);
        }
        assert_eq!(DatabaseUrl::given("/srv/postgres://x"), None);
    }

    #[test]
    fn a_password_beside_the_url_is_taken_if_the_url_has_none() {
        let with = |text: &str| url(text).with_password(Some("a b&+"));
        assert_eq!(with("postgres://u@h/db"), "postgres://u@h/db?password=a%20b%26%2B");
        assert_eq!(with("postgres://h/db?user=u"), "postgres://h/db?user=u&password=a%20b%26%2B");
        for has in ["postgres://u:p@h/db", "postgres://h/db?password=p"] {
            assert_eq!(with(has), has);
        }
        assert_eq!(url("postgres://h").with_password(None), "postgres://h");
    }
}
