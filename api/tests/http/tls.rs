//! Verification of the database server, by `sslmode` and CA certificates.

use std::fs;
use std::path::Path;
use std::thread;

use crate::postgres::{OWNER, PASSWORD, Server, sign_certificate};
use crate::program::{Program, borrowed, way_to};

/// Settings with the same meaning.
#[derive(Clone, Copy, Debug)]
enum Said {
    Variables,
    /// With the CA certificates inline, without a file.
    Text,
    Url,
}

/// Migrates with the server under this name, and returns the exit code and the log.
fn migrate(
    server: &Server,
    said: Said,
    host: &str,
    mode: &str,
    authorities: Option<&Path>,
    patience: &str,
) -> (Option<i32>, String) {
    let authorities = authorities.map_or("", |path| path.to_str().unwrap());
    let mut settings = match said {
        Said::Variables | Said::Text => {
            let authorities = match said {
                Said::Text if !authorities.is_empty() => fs::read_to_string(authorities).unwrap(),
                Said::Text | Said::Variables | Said::Url => authorities.to_owned(),
            };
            let mut way = way_to(&[server], OWNER).to_vec();
            way.push(("PGHOST", host.to_owned()));
            way.push(("PGSSLMODE", mode.to_owned()));
            way.push(("PGSSLROOTCERT", authorities));
            way
        }
        Said::Url => {
            let (port, password) = (server.address.port(), PASSWORD.replace(' ', "%20"));
            let place = format!("postgresql://{OWNER}:{password}@{host}:{port}/postgres");
            let url = match authorities {
                "" => format!("{place}?sslmode={mode}"),
                file => format!("{place}?sslmode={mode}&sslrootcert={file}"),
            };
            vec![("DATABASE_URL", url)]
        }
    };
    settings.push(("DB_STARTUP_TIMEOUT", patience.to_owned()));
    let mut program = Program::run(&["migrate"], &borrowed(&settings));
    (program.wait().code(), program.log())
}

#[test]
fn server_certificate_then_verified_as_sslmode_says() {
    let mut server = Server::primary();
    let its_own = server.serve_tls();
    let elsewhere = tempfile::tempdir().unwrap();
    let (strangers, _key) = sign_certificate(elsewhere.path());
    let (its_own, strangers) = (Some(its_own.as_path()), Some(strangers.as_path()));

    let believed = [
        ("localhost", "verify-full", its_own),
        ("127.0.0.1", "verify-ca", its_own),
        ("127.0.0.1", "require", its_own),
        ("127.0.0.1", "require", None),
        ("127.0.0.1", "prefer", None),
    ];
    let refused = [
        ("127.0.0.1", "verify-full", its_own),
        ("localhost", "verify-full", strangers),
        ("localhost", "verify-full", None),
        ("localhost", "verify-ca", strangers),
        ("localhost", "verify-ca", None),
        // CA certificates imply verification, as with libpq.
        ("localhost", "require", strangers),
    ];
    for said in [Said::Variables, Said::Text, Said::Url] {
        for (host, mode, authorities) in believed {
            let (code, log) = migrate(&server, said, host, mode, authorities, "20");
            assert_eq!(
                code,
                Some(0),
                "{said:?} {host} {mode} {authorities:?}: {log}"
            );
        }
        // In parallel, since each tries until its timeout, which includes the handshakes.
        thread::scope(|scope| {
            for (host, mode, authorities) in refused {
                let server = &server;
                scope.spawn(move || {
                    let (code, log) = migrate(server, said, host, mode, authorities, "4");
                    let case = format!("{said:?} {host} {mode} {authorities:?}: {log}");
                    assert_eq!(code, Some(1), "{case}");
                    assert!(log.contains("certificate verify failed"), "{case}");
                    assert!(!log.contains(PASSWORD), "{case}");
                });
            }
            let (code, _log) = migrate(&server, said, "127.0.0.1", "disable", None, "4");
            assert_eq!(code, Some(1), "the server is reached over TLS only");
        });
    }
}

#[test]
fn ca_file_without_certificates_then_rejected_at_start() {
    let server = Server::primary();
    let directory = tempfile::tempdir().unwrap();
    let nothing = directory.path().join("nothing.pem");
    fs::write(&nothing, "nothing\n").unwrap();
    let missing = directory.path().join("missing.pem");
    let damaged = directory.path().join("damaged.pem");
    let begun = "-----BEGIN CERTIFICATE-----";
    fs::write(
        &damaged,
        format!("{begun}\nnope\n-----END CERTIFICATE-----\n"),
    )
    .unwrap();
    let cut = directory.path().join("cut.pem");
    fs::write(&cut, begun).unwrap();

    for (said, file, expected, why) in [
        (Said::Variables, &nothing, 1, "holds no certificate"),
        (Said::Variables, &missing, 2, "PGSSLROOTCERT"),
        (Said::Variables, &damaged, 1, "damaged.pem"),
        (Said::Variables, &cut, 1, "give whole certificates"),
        (Said::Text, &nothing, 2, "PGSSLROOTCERT"),
        (Said::Text, &damaged, 1, "give whole certificates"),
        (Said::Text, &cut, 1, "give whole certificates"),
    ] {
        let (code, log) = migrate(&server, said, "localhost", "verify-full", Some(file), "20");
        assert_eq!(code, Some(expected), "{log}");
        assert!(log.contains(why), "{log}");
    }
}
