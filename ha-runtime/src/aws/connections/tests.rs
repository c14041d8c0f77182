//! Whom connections trust, and what a file of CA certificates has to be.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::thread;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509Name, X509NameBuilder};

use super::*;

#[tokio::test]
async fn only_the_ca_of_the_settings_is_believed() {
    let (ours, other) = (Ca::new("ours"), Ca::new("other"));
    let directory = tempfile::tempdir().unwrap();
    let port = ours.serve();
    let connections = Connections::default();

    let ca = read(&ours.write(directory.path())).unwrap();
    let answered = ask(&connections, port, Some(&ca)).await;
    assert_eq!(answered.unwrap(), 404, "S3 answers over TLS");

    let ca = read(&other.write(directory.path())).unwrap();
    let refused = ask(&connections, port, Some(&ca)).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    // The host's certificates vouch for nobody here, or there are none.
    let refused = ask(&connections, port, None).await.unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
}

#[test]
fn a_file_that_holds_no_certificate_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let good = Ca::new("ours").certificate.to_pem().unwrap();
    let key = Ca::new("ours").key.private_key_to_pem_pkcs8().unwrap();
    let broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_vec();
    for (text, says) in [
        (Vec::new(), "there is none"),
        (b"nothing of the kind".to_vec(), "there is none"),
        (key, "there is none"),
        (broken.clone(), "holds no CA certificate"),
        ([good.clone(), broken].concat(), "holds no CA certificate"),
    ] {
        std::fs::write(&path, text).unwrap();
        let said = read(&path).unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    let missing = read(&directory.path().join("missing")).unwrap_err();
    assert!(missing.to_string().starts_with("could not read"));

    std::fs::write(&path, [good.clone(), good].concat()).unwrap();
    assert!(read(&path).is_ok(), "a bundle may repeat one");
}

#[test]
fn who_trusts_the_same_shares_connections() {
    let directory = tempfile::tempdir().unwrap();
    let ca = read(&Ca::new("ours").write(directory.path())).unwrap();
    let connections = Connections::default();

    for trusted in [None, Some(&ca), Some(&ca), None] {
        drop(connections.trusting(trusted));
    }

    assert_eq!(connections.by_trust.lock().unwrap().len(), 2);
}

fn read(path: &Path) -> Result<CaCertificates, UnusableCaCertificates> {
    path.to_owned().try_into()
}

/// Returns the status with which S3 at `port` answers, or why there is no answer.
async fn ask(
    connections: &Connections,
    port: u16,
    ca: Option<&CaCertificates>,
) -> Result<u16, String> {
    let settings = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-west-1"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .endpoint_url(format!("https://localhost:{port}"))
        .force_path_style(true)
        .retry_config(RetryConfig::disabled())
        .http_client(connections.trusting(ca))
        .build();
    let client = aws_sdk_s3::Client::from_conf(settings);
    let error = client.get_object().bucket("bucket").key("key").send().await;
    let error = error.unwrap_err();
    match error.raw_response() {
        Some(answer) => Ok(answer.status().as_u16()),
        None => Err(crate::telemetry::chain(&error)),
    }
}

/// A CA, and the certificate and key of `localhost` that it vouches for.
struct Ca {
    name: &'static str,
    certificate: X509,
    key: PKey<Private>,
}

impl Ca {
    fn new(name: &'static str) -> Self {
        let key = key();
        let certificate = certificate(name, &key, None);
        Self {
            name,
            certificate,
            key,
        }
    }

    fn write(&self, directory: &Path) -> PathBuf {
        let path = directory.join(format!("{}.pem", self.name));
        std::fs::write(&path, self.certificate.to_pem().unwrap()).unwrap();
        path
    }

    /// Answers 404 over TLS, on a port of its own, until the test ends.
    fn serve(&self) -> u16 {
        let leaf_key = key();
        let leaf = certificate("localhost", &leaf_key, Some(self));
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
        acceptor.set_private_key(&leaf_key).unwrap();
        acceptor.set_certificate(&leaf).unwrap();
        let acceptor = acceptor.build();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that does not believe the certificate is gone by now.
                if let Ok(mut stream) = acceptor.accept(stream.unwrap())
                    && stream.read(&mut [0; 4096]).is_ok_and(|it| it > 0)
                {
                    let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer).unwrap();
                }
            }
        });
        port
    }
}

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

fn certificate(name: &str, key: &PKey<Private>, by: Option<&Ca>) -> X509 {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&named(name)).unwrap();
    builder
        .set_issuer_name(&named(by.map_or(name, |it| it.name)))
        .unwrap();
    builder
        .set_not_before(&Asn1Time::days_from_now(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(1).unwrap())
        .unwrap();
    builder.set_pubkey(key).unwrap();
    let mut constraints = BasicConstraints::new();
    if by.is_none() {
        constraints.ca();
    }
    builder
        .append_extension(constraints.build().unwrap())
        .unwrap();
    let mut also = SubjectAlternativeName::new();
    let also = also.dns(name).build(&builder.x509v3_context(None, None));
    builder.append_extension(also.unwrap()).unwrap();
    builder
        .sign(by.map_or(key, |it| &it.key), MessageDigest::sha256())
        .unwrap();
    builder.build()
}

fn named(name: &str) -> X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}
