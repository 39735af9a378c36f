//! What TLS needs: the authorities that are trusted, and the name that a certificate must have.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};

use crate::authorities;
use crate::failure::Failure;

/// TLS to one server.
pub(super) struct TlsClient {
    pub config: Arc<ClientConfig>,
    pub host: ServerName<'static>,
}

impl TlsClient {
    /// Trusts the system's authorities, and those of `ca_file` besides.
    ///
    /// # Errors
    /// The file holds no certificate that can be used, or the host is no name that a certificate can have.
    pub fn new(host: &str, ca_file: Option<&Path>) -> Result<TlsClient, Failure> {
        let cannot = |why: String| {
            Failure::config(format!("TLS cannot be set up: {why}"), "check mail.smtp.ca_file and mail.smtp.host")
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(authorities::trusted(ca_file, "mail.smtp.ca_file")?);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| cannot(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let host = ServerName::try_from(host.to_owned()).map_err(|error| cannot(error.to_string()))?;
        Ok(TlsClient { config: Arc::new(config), host })
    }
}
