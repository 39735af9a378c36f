//! The key that signs: RSA of 2048 to 4096 bits, from a file in PEM form.

use memchr::memmem;
use ring::signature::RsaKeyPair;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;

/// `id-ecPublicKey` and `id-Ed25519` as a PKCS#8 key names them (RFC 5480 §2.1.1, RFC 8410 §3), and `id-RSASSA-PSS`.
const EC: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01";
const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";
const PSS: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";

/// The first private key of a file in PEM form, PKCS#8 or PKCS#1.
///
/// # Errors
/// What the file holds in its place, to be read behind its name.
pub fn read(pem: &[u8]) -> Result<RsaKeyPair, String> {
    let has = |text: &str| memmem::find(pem, text.as_bytes()).is_some();
    // Of PKCS#8, and of PKCS#1 as older programs write it (RFC 1421 §4.6.1.1).
    if has("-----BEGIN ENCRYPTED PRIVATE KEY") || has("Proc-Type: 4,ENCRYPTED") {
        return Err("holds an encrypted key, and there is no one to type its password".into());
    }
    let key = match PrivateKeyDer::pem_slice_iter(pem).next() {
        Some(Ok(key)) => key,
        Some(Err(err)) => return Err(format!("is damaged: {err}")),
        None => {
            let found = [
                ("-----BEGIN CERTIFICATE", "holds a certificate, and no private key"),
                ("-----BEGIN PUBLIC KEY", "holds the public key, not the private one"),
                ("-----BEGIN OPENSSH PRIVATE KEY", "holds a key of OpenSSH, which is in a form of its own"),
            ];
            let found = found.into_iter().find(|(label, _)| has(label));
            return Err(found.map_or("holds no private key in PEM form", |(_, problem)| problem).into());
        }
    };
    let key = match &key {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => {
            let der = der.secret_pkcs8_der();
            let is = |algorithm| memmem::find(der.get(..40).unwrap_or(der), algorithm).is_some();
            if is(ED25519) {
                return Err("holds an Ed25519 key, which few receivers verify; RSA is needed".into());
            }
            if is(EC) {
                return Err(ELLIPTIC.into());
            }
            if is(PSS) {
                return Err("holds a key for RSA-PSS, which DKIM does not know; plain RSA is needed".into());
            }
            RsaKeyPair::from_pkcs8(der)
        }
        PrivateKeyDer::Sec1(_) => return Err(ELLIPTIC.into()),
        _ => return Err("holds a private key of a kind that is not known here; RSA is needed".into()),
    };
    key.map_err(|err| match err.to_string().as_str() {
        "TooSmall" => "holds an RSA key of less than 2048 bits, or with an exponent below 65537".into(),
        "TooLarge" => "holds an RSA key of more than 4096 bits".into(),
        problem => format!("holds an RSA key that cannot be used ({problem})"),
    })
}

const ELLIPTIC: &str = "holds an elliptic-curve key, which DKIM does not know; RSA is needed";

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn refused(pem: &[u8], word: &str) {
        let problem = read(pem).map(|_| ()).unwrap_err();
        assert!(problem.contains(word), "{word:?} in {problem:?}");
    }

    /// A file of tests/fixtures/dkim.
    macro_rules! file {
        ($name:literal) => {
            include_bytes!(concat!("../../tests/fixtures/dkim/", $name))
        };
    }

    #[test]
    fn rsa_in_both_forms_is_read_and_is_the_same_key() {
        let keys = [&file!("test_key.pem")[..], file!("test_key.pkcs1.pem")].map(|pem| read(pem).unwrap());
        assert_eq!(keys[0].public().as_ref(), keys[1].public().as_ref());
        let beside = [&file!("test_certificate.pem")[..], file!("test_key.pem")].concat();
        assert_eq!(read(&beside).unwrap().public().as_ref(), keys[0].public().as_ref());
        let of_windows = String::from_utf8_lossy(file!("test_key.pem")).replace('\n', "\r\n");
        assert_eq!(read(of_windows.as_bytes()).unwrap().public().as_ref(), keys[0].public().as_ref());
    }

    #[test]
    fn each_other_thing_is_called_by_its_name() {
        refused(file!("test_key.1024.pem"), "an RSA key of less than 2048 bits");
        refused(file!("test_key.5120.pem"), "an RSA key of more than 4096 bits");
        refused(file!("test_key.encrypted.pem"), "an encrypted key");
        refused(file!("test_key.encrypted.pkcs1.pem"), "an encrypted key");
        refused(file!("test_key.ec.pem"), "an elliptic-curve key");
        refused(file!("test_key.ec.sec1.pem"), "an elliptic-curve key");
        refused(file!("test_key.ed25519.pem"), "an Ed25519 key");
        refused(file!("test_key.pss.pem"), "a key for RSA-PSS");
        refused(file!("test_key.public.pem"), "the public key");
        refused(file!("test_certificate.pem"), "a certificate");
        refused(b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "OpenSSH");
        for nothing in [&b""[..], b"hunter2\n", b"\x30\x82\x04\xbe\xff"] {
            refused(nothing, "no private key in PEM form");
        }
        let cut = &file!("test_key.pem")[..900];
        refused(cut, "is damaged");
        let short = b"-----BEGIN RSA PRIVATE KEY-----\nMAA=\n-----END RSA PRIVATE KEY-----\n";
        refused(short, "cannot be used");
    }
}
