//! TLS: whom to trust and what to show.

use std::{io, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject},
};
use tokio_rustls::TlsConnector;

use crate::{BoxStream, Error, Options, Stream, Target};

/// Makes the configuration for verified connections. Reads files and the system's roots: some
/// milliseconds, so it belongs on a blocking thread.
pub(crate) fn config(options: &Options, insecure: bool) -> Result<Arc<ClientConfig>, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Options(format!("TLS cannot be set up: {error}")))?;
    let builder = if insecure {
        builder.dangerous().with_custom_certificate_verifier(Arc::new(Anything { provider }))
    } else {
        builder.with_root_certificates(roots(options.ca_file.as_deref())?)
    };
    let mut config = match &options.client_cert {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|error| {
                Error::Options(format!(
                    "the client certificate {} and its key {} cannot be used: {error}",
                    certificate.display(),
                    key.display()
                ))
            })?,
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn roots(ca_file: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    let Some(path) = ca_file else {
        let native = rustls_native_certs::load_native_certs();
        for error in &native.errors {
            tracing::debug!(%error, "a system certificate was not read");
        }
        store.add_parsable_certificates(native.certs);
        if store.is_empty() {
            return Err(Error::Options(
                "no trusted certificates were found on this system; name a file of them with \
                 --client-tls-ca-file"
                    .to_owned(),
            ));
        }
        return Ok(store);
    };
    let (added, _) = store.add_parsable_certificates(certificates(path)?);
    if added == 0 {
        return Err(Error::Options(format!("{} holds no usable CA certificate", path.display())));
    }
    Ok(store)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let wrong = |why: String| Error::Options(format!("certificates in {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let all = all.map_err(|error| wrong(error.to_string()))?;
    if all.is_empty() { Err(wrong("there are none".to_owned())) } else { Ok(all) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Error> {
    let wrong = |why: String| Error::Options(format!("private key in {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(error.to_string()))
}

/// Speaks TLS over `stream`.
pub(crate) async fn wrap<S: Stream + 'static>(
    config: Arc<ClientConfig>,
    target: &Target,
    stream: S,
) -> Result<BoxStream, Error> {
    let name = target.server_name.as_deref().unwrap_or(&target.host);
    let name = ServerName::try_from(name.to_owned()).map_err(|_| Error::Tls {
        host: target.name(),
        why: format!("{name:?} is no name that a certificate could have"),
    })?;
    match TlsConnector::from(config).connect(name, stream).await {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) => Err(explain(target, error)),
    }
}

/// What went wrong, in words that say what to do about it.
fn explain(target: &Target, error: io::Error) -> Error {
    let host = target.name();
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(inner) = inner else {
        let why = if error.kind() == io::ErrorKind::UnexpectedEof {
            "the server closed the connection".to_owned()
        } else {
            error.to_string()
        };
        return Error::Tls { host, why };
    };
    if let rustls::Error::InvalidCertificate(problem) = inner {
        let text = problem.to_string();
        // A signature is bad too when somebody we do not know bears the name of one we know.
        let why = if let CertificateError::UnknownIssuer | CertificateError::BadSignature = problem
        {
            "it is signed by nobody we know (a private CA is named with --client-tls-ca-file)"
                .to_owned()
        } else if text.contains("expired") {
            "it has expired".to_owned()
        } else if text.contains("not valid for") {
            "it is for another name".to_owned()
        } else {
            text
        };
        return Error::Certificate { host, why };
    }
    if let rustls::Error::InvalidMessage(_) = inner {
        let why = "the server does not speak TLS; perhaps its URL begins with http://".to_owned();
        return Error::Tls { host, why };
    }
    Error::Tls { host, why: inner.to_string() }
}

/// Trusts everybody: for relays that are marked as such.
#[derive(Debug)]
struct Anything {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
