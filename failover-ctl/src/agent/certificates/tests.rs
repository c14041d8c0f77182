//! Certificates of a running server, and files that cannot be read.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use openssl::asn1::Asn1Integer;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use prometheus::Opts;
use prometheus::core::Collector as _;
use prometheus::proto::MetricFamily;

use super::*;
use crate::test_server::Nodes;

const YEAR_2100: i64 = 4_102_444_800;

fn key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

/// Returns a self-signed certificate in PEM format.
fn certificate(key: &PKey<Private>, expires_at: i64) -> String {
    let mut builder = X509::builder().unwrap();
    let serial = BigNum::from_u32(1).unwrap();
    let serial = Asn1Integer::from_bn(&serial).unwrap();
    let (begin, end) = (Asn1Time::from_unix(0), Asn1Time::from_unix(expires_at));
    builder.set_serial_number(&serial).unwrap();
    builder.set_not_before(&begin.unwrap()).unwrap();
    builder.set_not_after(&end.unwrap()).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.sign(key, MessageDigest::sha256()).unwrap();
    String::from_utf8(builder.build().to_pem().unwrap()).unwrap()
}

fn check_of(postgres: PostgresSettings) -> CertificateCheck {
    let expiry = Opts::new("expiry", "Expiry");
    CertificateCheck {
        postgres,
        expiry: IntGaugeVec::new(expiry, &["certificate"]).unwrap(),
        trusted: IntGauge::new("trusted", "Number").unwrap(),
        tasks: Tasks::new(),
    }
}

impl CertificateCheck {
    /// Returns the exported series.
    fn series(&self) -> Vec<(String, i64)> {
        let families = self.expiry.collect();
        let metrics = families.iter().flat_map(MetricFamily::get_metric);
        let mut series: Vec<_> = metrics
            .map(|metric| {
                let label = metric.get_label()[0].value().to_owned();
                let value = self.expiry.with_label_values(&[&label]).get();
                (label, value)
            })
            .collect();
        series.sort();
        series
    }
}

#[tokio::test]
async fn server_with_tls_then_first_expiry_of_each_file() {
    let nodes = Nodes::new();
    let primary = nodes.primary("a");
    let key = key();
    let data = primary.data();
    let ca = format!(
        "{}{}",
        certificate(&key, YEAR_2100 + 20),
        certificate(&key, YEAR_2100 + 10)
    );
    fs::write(data.join("tls.crt"), certificate(&key, YEAR_2100)).unwrap();
    fs::write(
        data.join("tls.key"),
        key.private_key_to_pem_pkcs8().unwrap(),
    )
    .unwrap();
    fs::set_permissions(data.join("tls.key"), Permissions::from_mode(0o600)).unwrap();
    fs::write(data.join("ca.crt"), &ca).unwrap();
    fs::write(primary.root.join("trusted.crt"), &ca).unwrap();
    primary.configure(
        "ssl = on\nssl_cert_file = 'tls.crt'\nssl_key_file = 'tls.key'\nssl_ca_file = 'ca.crt'",
    );
    primary.shut_down();
    primary.start();
    let mut postgres = primary.host().postgres;
    postgres.sslrootcert = Some(primary.root.join("trusted.crt"));
    let check = check_of(postgres);
    let mut files = None;

    check.check(&mut files).await;
    let expected = |server, client_ca, server_ca| {
        [
            ("client-ca", client_ca),
            ("server", server),
            ("server-ca", server_ca),
        ]
        .map(|(name, expiry)| (name.to_owned(), expiry))
    };
    assert_eq!(
        check.series(),
        expected(YEAR_2100, YEAR_2100 + 10, YEAR_2100 + 10)
    );
    assert_eq!(check.trusted.get(), 2);

    // Neither a damaged file nor a silent server hides the others.
    fs::write(data.join("ca.crt"), "-----BEGIN CERTIFICATE-----\nx\n").unwrap();
    fs::write(primary.root.join("trusted.crt"), "").unwrap();
    primary.shut_down();
    check.check(&mut files).await;
    assert_eq!(check.series(), expected(YEAR_2100, 0, 0));
    assert_eq!(check.trusted.get(), 0);
}

#[tokio::test]
async fn server_without_tls_then_series_only_of_configured_files() {
    let nodes = Nodes::new();
    let primary = nodes.primary("a");
    let mut postgres = primary.host().postgres;
    postgres.sslrootcert = Some(primary.root.join("missing.crt"));
    let check = check_of(postgres);
    check.expiry.with_label_values(&["server"]).set(YEAR_2100);
    let mut files = None;

    check.check(&mut files).await;

    assert_eq!(files, Some(ServerFiles::default()));
    assert_eq!(check.series(), [("server-ca".to_owned(), 0)]);
}
