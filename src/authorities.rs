//! Which certificate authorities are trusted: the system's, and one that the configuration names.

use std::path::Path;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

use crate::failure::Failure;

/// The system's authorities, and those of `ca_file`, which `key` names, besides.
///
/// # Errors
/// Exit 78: the file holds no certificate that can be used.
pub fn trusted(ca_file: Option<&Path>, key: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let unusable = |path: &Path, why: &str| {
        let what = format!("the certificate file {} cannot be used: {why}", path.display());
        Failure::config(what, format!("set {key} to a PEM file with a CERTIFICATE in it"))
    };
    // One that cannot be read is one authority less; a server that needs it will say so.
    let mut trusted = rustls_native_certs::load_native_certs().certs;
    trusted.retain(|certificate| RootCertStore::empty().add(certificate.clone()).is_ok());
    if let Some(path) = ca_file {
        let pem = std::fs::read(path).map_err(|error| unusable(path, &error.to_string()))?;
        let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let found = found.map_err(|error| unusable(path, &error.to_string()))?;
        if found.is_empty() {
            return Err(unusable(path, "it holds no certificate in PEM form"));
        }
        for certificate in &found {
            RootCertStore::empty().add(certificate.clone()).map_err(|error| unusable(path, &error.to_string()))?;
        }
        trusted.extend(found);
    }
    Ok(trusted)
}
