//! Certificates for the tests' own servers.

use rcgen::{BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// A certificate, its key, and the PEM of the authority that signed it.
pub struct Certified {
    pub authority: String,
    pub certificate: Certificate,
    pub key: KeyPair,
}

/// A certificate for `names`, signed by an authority of its own.
pub fn certified(names: &[String]) -> Certified {
    let mut authority = CertificateParams::new(Vec::new()).expect("parameters of an authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(authority, authority_key).expect("an authority");
    let key = KeyPair::generate().expect("a key");
    let leaf = CertificateParams::new(names.to_vec()).expect("parameters of a certificate");
    let certificate = leaf.signed_by(&key, &authority).expect("a certificate");
    Certified { authority: authority.pem(), certificate, key }
}
