//! What TLS needs: the authorities that are trusted, and the name that a certificate must have.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

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
        // One that cannot be read is one authority less; a server that needs it will say so.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = ca_file {
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(|error| unusable(path, &error.to_string()))?;
            }
        }
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

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = std::fs::read(path).map_err(|error| unusable(path, &error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| unusable(path, &error.to_string()))?;
    match found.is_empty() {
        true => Err(unusable(path, "it holds no certificate in PEM form")),
        false => Ok(found),
    }
}

fn unusable(path: &Path, why: &str) -> Failure {
    let what = format!("the certificate file {} cannot be used: {why}", path.display());
    Failure::config(what, "set mail.smtp.ca_file to a PEM file with a CERTIFICATE in it")
}
