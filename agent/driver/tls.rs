//! What an encrypted line to a broker is held to, and in plain words why none comes about.
//!
//! Certificates are read once, with the configuration, and shared by all tries: those that a
//! system trusts are many, and boards small. A board that has no clock yet finds those of
//! brokers not valid yet, says so, and tries again.
//!
//! Left out: certificates by which a board shows who it is. The seal does that.

use std::{io, path::Path, sync::Arc};

use rumqttc::{TlsConfiguration, TlsError};
use rustls::{
    CertificateError, ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// What there is of a connection that the other end has ended.
const ENDED: [io::ErrorKind; 4] = [
    io::ErrorKind::UnexpectedEof,
    io::ErrorKind::ConnectionReset,
    io::ErrorKind::ConnectionAborted,
    io::ErrorKind::BrokenPipe,
];

/// Who vouches for a broker.
#[derive(Clone, Debug)]
pub struct Authorities(Arc<ClientConfig>);

impl Authorities {
    /// Those of a PEM file.
    ///
    /// # Errors
    /// When it cannot be read, or has no certificate that can be used.
    pub fn read(file: &Path) -> Result<Self, String> {
        let pem = std::fs::read(file).map_err(|error| error.to_string())?;
        let mut roots = RootCertStore::empty();
        let certificates = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok);
        let (used, _) = roots.add_parsable_certificates(certificates);
        if used == 0 {
            return Err(String::from("there is no certificate in it (PEM) that can be used"));
        }
        // Another part of the program may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    pub(super) fn configuration(&self) -> TlsConfiguration {
        TlsConfiguration::Rustls(Arc::clone(&self.0))
    }
}

/// The same when it was read at the same time.
impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Authorities {}

/// Why no encrypted line comes about, for whoever set it up.
pub(super) fn words(error: &TlsError) -> String {
    let TlsError::Io(error) = error else {
        return format!("no encrypted line comes about: {error}");
    };
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(rustls::Error::InvalidCertificate(reason)) => of_certificate(reason),
        Some(rustls::Error::InvalidMessage(_)) => {
            String::from("what answers there speaks no TLS: that port may be for mqtt://")
        }
        _ if ENDED.contains(&error.kind()) => String::from(
            "it ends the connection before that is encrypted: that port may be for mqtt://",
        ),
        _ => format!("no encrypted line comes about: {error}"),
    }
}

fn of_certificate(reason: &CertificateError) -> String {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext,
        NotValidYet, NotValidYetContext, UnknownIssuer,
    };
    // Of somebody of the same name, the latter.
    if let UnknownIssuer | BadSignature = reason {
        return String::from(
            "nobody this board trusts vouches for its certificate: `ca` of [[broker]] names the \
             file with the certificate of whoever signed it",
        );
    }
    if let Expired | ExpiredContext { .. } = reason {
        return String::from(
            "its certificate has expired, if this board's clock is right: it needs a new one",
        );
    }
    if let NotValidYet | NotValidYetContext { .. } = reason {
        return String::from("its certificate is not valid yet, if this board's clock is set");
    }
    if let NotValidForNameContext { presented, .. } = reason {
        let names = presented.join(", ");
        let names = if names.is_empty() { "nobody" } else { &names };
        return format!(
            "its certificate is for other hosts than `url` of [[broker]] names: for {names}"
        );
    }
    if let NotValidForName = reason {
        return String::from("its certificate is for other hosts than `url` of [[broker]] names");
    }
    let reason = format!("{reason:?}");
    if reason.contains("CaUsedAsEndEntity") {
        return String::from(
            "its certificate is one for signing others (CA:TRUE): it needs one of its own, signed \
             by that",
        );
    }
    format!("its certificate cannot be used: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_certificates_vouches_for_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ca.pem");
        for text in
            ["", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
        {
            std::fs::write(&file, text).unwrap();
            let error = Authorities::read(&file).unwrap_err();
            assert!(error.contains("no certificate in it"), "{text}: {error}");
        }
    }
}
