//! Trust of connections, and checks of CA certificate files.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::thread;

use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use native_tls::{Identity, TlsAcceptor};
use tempfile::TempDir;

use super::*;

#[tokio::test]
async fn ca_in_the_settings_then_no_other_is_trusted() {
    let (ours, other) = (Ca::new("ours"), Ca::new("other"));
    let port = ours.serve();
    let connections = AwsConnections::default();

    let ca = read(&ours.path("ca.pem")).unwrap();
    let answered = ask(&connections, port, Some(&ca)).await;
    assert_eq!(answered.unwrap(), 404, "S3 answers over TLS");

    let ca = read(&other.path("ca.pem")).unwrap();
    let refused = ask(&connections, port, Some(&ca)).await.unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
    // The host has no CA certificate for this server, or none at all.
    let refused = ask(&connections, port, None).await.unwrap_err();
    assert!(refused.contains("invalid peer certificate"), "{refused}");
}

#[test]
fn file_without_valid_certificates_then_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    let ca = Ca::new("ours");
    let good = std::fs::read(ca.path("ca.pem")).unwrap();
    let key = std::fs::read(ca.path("ca.key")).unwrap();
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
fn same_ca_certificates_then_connections_shared() {
    let ca = read(&Ca::new("ours").path("ca.pem")).unwrap();
    let connections = AwsConnections::default();

    for trusted in [None, Some(&ca), Some(&ca), None] {
        drop(connections.trusting(trusted));
    }

    assert_eq!(connections.by_trust.lock().unwrap().len(), 2);
}

fn read(path: &Path) -> Result<CaCertificates, CaCertificatesError> {
    path.to_owned().try_into()
}

/// Returns the HTTP status from S3 at `port`, or the error.
async fn ask(
    connections: &AwsConnections,
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

/// Configuration of `openssl` for both kinds of certificate.
const EXTENSIONS: &str = "[req]\ndistinguished_name=name\n[name]\n\
    [ca]\nbasicConstraints=critical,CA:TRUE\n\
    [leaf]\nbasicConstraints=CA:FALSE\nsubjectAltName=DNS:localhost\n";

/// A CA and a certificate of `localhost` that it signed, each with its key.
struct Ca(TempDir);

impl Ca {
    fn new(name: &str) -> Self {
        let ca = Self(tempfile::tempdir().unwrap());
        std::fs::write(ca.path("extensions"), EXTENSIONS).unwrap();
        ca.sign("ca", name, &[]);
        ca.sign("leaf", "localhost", &["-CA", "ca.pem", "-CAkey", "ca.key"]);
        ca
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sign(&self, kind: &str, name: &str, by: &[&str]) {
        let made = Command::new("openssl")
            .current_dir(&self.0)
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-config", "extensions", "-extensions", kind])
            .args(["-subj", &format!("/CN={name}")])
            .args(["-out", &format!("{kind}.pem")])
            .args(["-keyout", &format!("{kind}.key")])
            .args(by)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
    }

    /// Starts a server that responds 404 over TLS until the test ends, and returns its port.
    fn serve(&self) -> u16 {
        let [leaf, key] =
            ["leaf.pem", "leaf.key"].map(|name| std::fs::read(self.path(name)).unwrap());
        let identity = Identity::from_pkcs8(&leaf, &key).unwrap();
        let acceptor = TlsAcceptor::new(identity).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                // A client that does not trust the certificate has disconnected.
                if let Ok(mut stream) = acceptor.accept(stream.unwrap())
                    && stream.read(&mut [0; 4096]).is_ok_and(|bytes| bytes > 0)
                {
                    let answer = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
                    stream.write_all(answer).unwrap();
                }
            }
        });
        port
    }
}
