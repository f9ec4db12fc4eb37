//! Requests to others: a client for any address, and which addresses a secret may be sent to.

use awc::{Connector, http::Uri};
use std::{sync::Arc, time::Duration};

/// How long a request may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// For the connection, and once more for TLS on it.
    pub(crate) connect: Duration,
    /// For the answer to begin, and for all of it to be here.
    pub(crate) whole: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), whole: Duration::from_secs(20) }
    }
}

/// The client cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("TLS cannot be set up")]
pub struct ClientError(#[from] rustls::Error);

/// A base URL without slashes at its end; `None` unless it is an `http` or `https` URL with a host, perhaps a port and a path, and
/// without query, fragment, user or password.
pub(crate) fn plain_url(url: &str) -> Option<&str> {
    let url = url.trim_end_matches('/');
    let uri: Uri = url.parse().ok()?;
    let authority = uri.authority()?;
    // What is parsed has lost its fragment.
    let is_plain = uri.query().is_none() && !url.contains('#') && !authority.as_str().contains('@');
    let after_host = authority.as_str().strip_prefix(authority.host())?;
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    let has_port = after_host.is_empty() || after_host.strip_prefix(':').is_some_and(is_port);
    let is_web = matches!(uri.scheme_str(), Some("http" | "https")) && !uri.host()?.is_empty();
    (is_plain && has_port && is_web).then_some(url)
}

/// What can be shown of any URL: neither user nor password, nor what comes after the path.
pub(crate) fn shown_url(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(authority, path)| (authority, Some(path)));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{}", path.map(|path| format!("/{path}")).unwrap_or_default())
}

/// A client for any address, with TLS, that follows no redirect.
pub(crate) fn http_client(timeouts: Timeouts) -> Result<awc::Client, ClientError> {
    let Timeouts { connect, whole } = timeouts;
    let connector = Connector::new().rustls_0_23(Arc::new(tls(roots())?)).timeout(connect).handshake_timeout(connect);
    let agent = ("User-Agent", concat!("runhound/", env!("CARGO_PKG_VERSION")));
    Ok(awc::Client::builder()
        .connector(connector)
        .timeout(whole)
        .disable_redirects()
        .add_default_header(agent)
        .finish())
}

/// The system's roots, which know a company's own authority; where there are none, the bundled ones.
pub(crate) fn roots() -> rustls::RootCertStore {
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    }
    roots
}

/// TLS to whom these roots vouch for.
pub(crate) fn tls(roots: rustls::RootCertStore) -> Result<rustls::ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// The second of a date as HTTP writes it. Source: RFC 9110, 5.6.7.
pub(crate) fn http_date(text: &str) -> Option<i64> {
    let date = jiff::fmt::rfc2822::parse(text.trim()).ok()?;
    Some(date.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_url_is_shown_that_could_be_a_secret() {
        for (url, shown) in [
            ("https://r.example/webhook", "https://r.example/webhook"),
            ("https://user:hush@r.example:8443/a/b?token=hush#hush", "https://r.example:8443/a/b"),
            ("http://r.example?token=hush", "http://r.example"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(shown_url(url), shown);
        }
    }

    #[test]
    fn tls_can_be_set_up() {
        assert!(tls(roots()).is_ok());
    }
}
