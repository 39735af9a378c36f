//! Calls to a monitoring service: it misses them when runs do not take place.

use std::sync::Arc;
use std::time::Duration;

use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::authorities;

/// For the whole of a call: a run must not wait for a service that is down.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls an address, and asks for nothing back.
///
/// # Errors
/// Why it did not answer with a success; without the address, which is a secret.
pub fn call(url: &str) -> Result<(), String> {
    let trusted = match url.starts_with("https:") {
        true => authorities::trusted(None, "").map_err(|failure| failure.what)?,
        false => Vec::new(),
    };
    let roots = trusted.iter().map(|root| Certificate::from_der(root).to_owned()).collect();
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::Specific(Arc::new(roots)))
        .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .build();
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).tls_config(tls).build().into();
    agent.get(url).call().map(|_| ()).map_err(|err| match err {
        ureq::Error::StatusCode(code) => format!("it answered {code}"),
        ureq::Error::Timeout(_) => "it did not answer in time".to_owned(),
        ureq::Error::HostNotFound => "its host was not found".to_owned(),
        ureq::Error::Io(err) => err.to_string(),
        ureq::Error::Rustls(err) => err.to_string(),
        _ => "it could not be called".to_owned(),
    })
}
