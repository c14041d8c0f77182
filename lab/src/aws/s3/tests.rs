//! S3 as its clients receive it, with and without each fault.

use aws_sdk_s3::Client;
use aws_sdk_s3::error::ProvideErrorMetadata as _;
use aws_sdk_s3::primitives::ByteStream;
use causeway_core::lease::WritePrecondition;
use causeway_runtime::aws::{AwsConnections, AwsService};
use causeway_runtime::s3::{ListRequest, S3Client, S3ErrorKind, S3Usage, StaticCredentials};
use futures_util::future::join_all;

use super::*;
use crate::aws::s3_faults::FaultProfile;

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_conditional_writes_then_one_succeeds() {
    let s3_fixture = s3_fixture().await;
    let mut etag = None;
    for round in 0..20 {
        let tries = (0..8).map(|writer| {
            let body = format!("round {round}, writer {writer}");
            let put = put(&s3_fixture.client, &body);
            match &etag {
                None => put.if_none_match("*").send(),
                Some(etag) => put.if_match(etag).send(),
            }
        });
        let results = join_all(tries).await;

        let won: Vec<_> = results
            .iter()
            .filter_map(|result| result.as_ref().ok())
            .collect();
        assert_eq!(won.len(), 1, "{results:?}");
        for lost in results.iter().filter_map(|result| result.as_ref().err()) {
            assert_eq!(lost.code(), Some("PreconditionFailed"));
        }
        let now = get(&s3_fixture.client).send().await.unwrap();
        assert_eq!(now.e_tag(), won[0].e_tag());
        etag = won[0].e_tag().map(str::to_owned);
    }
    s3_fixture.store.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_writes_then_body_and_etag_match() {
    let s3_fixture = s3_fixture().await;
    let bodies = ["one", "two"];
    let mut etags = Vec::new();
    for body in bodies {
        let written = put(&s3_fixture.client, body).send().await.unwrap();
        etags.push(written.e_tag().unwrap().to_owned());
    }

    let write = async {
        for round in 0..40 {
            put(&s3_fixture.client, bodies[round % 2])
                .send()
                .await
                .unwrap();
        }
    };
    let read = async {
        for _ in 0..80 {
            let seen = get(&s3_fixture.client).send().await.unwrap();
            let etag = seen.e_tag().unwrap().to_owned();
            let body = seen.body.collect().await.unwrap().into_bytes();
            let which = bodies
                .iter()
                .position(|expected| expected.as_bytes() == body)
                .unwrap();
            assert_eq!(etag, etags[which]);
        }
    };
    tokio::join!(write, read);
    s3_fixture.store.stop().await;
}

#[tokio::test]
async fn stopped_then_objects_kept() {
    let s3_fixture = s3_fixture().await;
    put(&s3_fixture.client, "here to stay")
        .send()
        .await
        .unwrap();

    s3_fixture.store.stop().await;
    assert!(get(&s3_fixture.client).send().await.is_err());

    s3_fixture.store.start().await.unwrap();
    let seen = get(&s3_fixture.client).send().await.unwrap();
    let body = seen.body.collect().await.unwrap().into_bytes();
    assert_eq!(&body[..], b"here to stay");
    s3_fixture.store.stop().await;
}

#[tokio::test]
async fn throttled_mode_then_two_of_three_rejected() {
    let s3_fixture = s3_fixture().await;
    s3_fixture.store.set_mode(ServiceMode::Throttled);
    let (mut refused, mut carried_out) = (0, 0);
    for _request in 0..6 {
        match once(put(&s3_fixture.client, "x")).await {
            Ok(_) => carried_out += 1,
            Err(error) => {
                assert_eq!(error.code(), Some("SlowDown"));
                refused += 1;
            }
        }
    }
    assert_eq!((refused, carried_out), (4, 2));
    s3_fixture.store.stop().await;
}

#[tokio::test]
async fn late_mode_then_effect_before_response() {
    let s3_fixture = s3_fixture().await;
    put(&s3_fixture.client, "before").send().await.unwrap();
    // Every second request is late: this one, and the one after the next.
    s3_fixture
        .store
        .set_mode(ServiceMode::Late(Duration::from_mins(10)));
    let late = put(&s3_fixture.client, "late");
    let given_up = time::timeout(Duration::from_millis(500), late.send()).await;
    assert!(given_up.is_err(), "{given_up:?}");

    s3_fixture.store.set_mode(ServiceMode::Normal);
    let seen = get(&s3_fixture.client).send().await.unwrap();
    let body = seen.body.collect().await.unwrap().into_bytes();
    assert_eq!(&body[..], b"late");
    s3_fixture.store.stop().await;
}

#[tokio::test]
async fn each_fault_then_response_and_effect() {
    for (fault, answered, stored) in [
        (S3Fault::SlowDown, Some("SlowDown"), false),
        (S3Fault::InternalError, Some("InternalError"), false),
        (S3Fault::RequestTimeout, Some("RequestTimeout"), false),
        (S3Fault::ExpiredToken, Some("ExpiredToken"), false),
        (S3Fault::ClockSkew, Some("RequestTimeTooSkewed"), false),
        (S3Fault::Refused, None, false),
        (S3Fault::LostAnswer, None, true),
    ] {
        let (s3_fixture, faults) = failing_s3_fixture().await;
        faults.fail(FaultProfile::always(fault), None);
        let seen = once(put(&s3_fixture.client, "x")).await.unwrap_err();
        assert_eq!(seen.code(), answered, "{fault:?}");
        faults.heal();
        let there = get(&s3_fixture.client).send().await.is_ok();
        assert_eq!(there, stored, "{fault:?}");
        s3_fixture.store.stop().await;
    }
}

#[tokio::test]
async fn body_truncated_then_shorter_than_content_length() {
    let (s3_fixture, faults) = failing_s3_fixture().await;
    put(&s3_fixture.client, &"x".repeat(100_000))
        .send()
        .await
        .unwrap();
    faults.fail(FaultProfile::always(S3Fault::CutBody(40)), None);
    let seen = get(&s3_fixture.client).send().await.unwrap();
    assert_eq!(seen.content_length(), Some(100_000));
    assert!(seen.body.collect().await.is_err());

    faults.fail(FaultProfile::always(S3Fault::SlowBody(1_000_000)), None);
    let seen = get(&s3_fixture.client).send().await.unwrap();
    let body = seen.body.collect().await.unwrap().into_bytes();
    assert_eq!(body.len(), 100_000);
    s3_fixture.store.stop().await;
}

#[tokio::test]
async fn stale_list_then_object_readable_but_not_listed() {
    let (s3_fixture, faults) = failing_s3_fixture().await;
    put(&s3_fixture.client, "x").send().await.unwrap();
    let list = || s3_fixture.client.list_objects_v2().bucket("bucket").send();
    let stale = S3Fault::StaleList(Duration::from_mins(10));
    faults.fail(FaultProfile::always(stale), None);
    assert_eq!(list().await.unwrap().contents().len(), 0);
    assert!(get(&s3_fixture.client).send().await.is_ok());
    faults.heal();
    assert_eq!(list().await.unwrap().contents().len(), 1);
    s3_fixture.store.stop().await;
}

#[tokio::test]
async fn upload_completed_then_error_in_200_with_or_without_effect() {
    for (fault, stored) in [
        (S3Fault::ErrorIn200, false),
        (S3Fault::ErrorIn200AfterEffect, true),
    ] {
        let (s3_fixture, faults) = failing_s3_fixture().await;
        let client = &s3_fixture.client;
        let begun = client
            .create_multipart_upload()
            .bucket("bucket")
            .key("lease");
        let begun = begun.send().await.unwrap();
        let id = begun.upload_id().unwrap();
        let part = client.upload_part().bucket("bucket").key("lease");
        let part = part.upload_id(id).part_number(1);
        let part = part
            .body(ByteStream::from_static(b"x"))
            .send()
            .await
            .unwrap();
        let part = aws_sdk_s3::types::CompletedPart::builder()
            .part_number(1)
            .set_e_tag(part.e_tag)
            .build();
        let parts = aws_sdk_s3::types::CompletedMultipartUpload::builder()
            .parts(part)
            .build();
        faults.fail(FaultProfile::always(fault), None);
        let complete = client.complete_multipart_upload().bucket("bucket");
        let complete = complete.key("lease").upload_id(id).multipart_upload(parts);
        let retries_off = aws_sdk_s3::config::retry::RetryConfig::disabled();
        let retries_off = aws_sdk_s3::config::Builder::default().retry_config(retries_off);
        let seen = complete
            .customize()
            .config_override(retries_off)
            .send()
            .await;
        assert_eq!(seen.unwrap_err().code(), Some("InternalError"), "{fault:?}");
        faults.heal();
        assert_eq!(get(client).send().await.is_ok(), stored, "{fault:?}");
        s3_fixture.store.stop().await;
    }
}

#[tokio::test]
async fn credentials_of_another_lab_then_rejected() {
    let s3_fixture = s3_fixture().await;
    let stranger =
        Credentials::generate().s3(&"eu-north-1".parse().unwrap(), s3_fixture.store.address);

    assert!(get(&stranger).send().await.is_err());
    s3_fixture.store.stop().await;
}

#[tokio::test]
async fn client_of_the_programs_then_conditions_hold() {
    let s3_fixture = s3_fixture().await;
    let s3 = s3_fixture.s3_client().await;
    let absent = WritePrecondition::Missing;
    let put = |key, body: &'static str, condition| s3.put(key, body.into(), condition);

    let first = put("lease", "one", &absent).await.unwrap();
    let read = s3.get_whole("lease").await.unwrap();
    assert_eq!(
        (read.etag, read.body.as_slice()),
        (first.clone(), &b"one"[..])
    );
    let first = WritePrecondition::Match(first);
    put("lease", "two", &first).await.unwrap();
    for (key, condition) in [("lease", &absent), ("lease", &first), ("other", &first)] {
        let error = put(key, "three", condition).await.unwrap_err();
        assert_eq!(
            error.kind(),
            S3ErrorKind::PreconditionFailed,
            "{key}: {error}"
        );
    }
    let absent_key = s3.get_whole("other").await.unwrap_err();
    assert_eq!(absent_key.kind(), S3ErrorKind::NoSuchKey, "{absent_key}");
    s3_fixture.store.stop().await;
}

#[tokio::test]
async fn client_of_the_programs_then_parts_become_one_listed_object() {
    let s3_fixture = s3_fixture().await;
    let s3 = s3_fixture.s3_client().await;
    for stored in [true, false] {
        let upload = s3.begin_upload("folder/object").await.unwrap();
        let part = s3.put_part(&upload, 1, "content".into()).await.unwrap();
        let completed = s3.complete_upload(&upload, &[part]).await;
        assert_eq!(completed.is_ok(), stored, "{completed:?}");
    }
    let upload = s3.begin_upload("aborted").await.unwrap();
    s3.abort_upload(&upload).await.unwrap();

    let all = ListRequest {
        prefix: "",
        after: "",
        token: None,
    };
    let objects = s3.list_objects(all).await.unwrap().entries;
    let listed: Vec<_> = objects
        .iter()
        .map(|object| (object.key.as_str(), object.size))
        .collect();
    assert_eq!(listed, [("folder/object", 7)]);
    let folders = s3.list_folders(all).await.unwrap().entries;
    assert_eq!(folders, ["folder"]);
    s3_fixture.store.stop().await;
}

struct S3Fixture {
    store: S3Server,
    credentials: Credentials,
    client: Client,
    _directory: tempfile::TempDir,
}

impl S3Fixture {
    async fn s3_client(&self) -> S3Client {
        let service = AwsService {
            region: "eu-north-1".to_owned(),
            endpoint: Some(format!("http://{}", self.store.address)),
            ca_certificate: None,
        };
        let usage = S3Usage::Records {
            timeout: Duration::from_secs(20),
        };
        let client = S3Client::new("bucket", &service, &AwsConnections::default(), usage).await;
        client.with_credentials(StaticCredentials {
            access_key: &self.credentials.access_key,
            secret_key: self.credentials.secret_key.reveal(),
        })
    }
}

async fn once(
    put: aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder,
) -> Result<
    aws_sdk_s3::operation::put_object::PutObjectOutput,
    aws_sdk_s3::error::SdkError<aws_sdk_s3::operation::put_object::PutObjectError>,
> {
    let once = aws_sdk_s3::config::retry::RetryConfig::disabled();
    let once = aws_sdk_s3::config::Builder::default().retry_config(once);
    put.customize().config_override(once).send().await
}

async fn failing_s3_fixture() -> (S3Fixture, Arc<FaultInjector>) {
    let faults = Arc::new(FaultInjector::new(1));
    let s3_fixture = s3_fixture_with(Some(Arc::clone(&faults))).await;
    (s3_fixture, faults)
}

async fn s3_fixture() -> S3Fixture {
    s3_fixture_with(None).await
}

async fn s3_fixture_with(faults: Option<Arc<FaultInjector>>) -> S3Fixture {
    let directory = tempfile::tempdir().unwrap();
    let credentials = Credentials::generate();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut store = S3Server::new(directory.path(), &["bucket"], address, &credentials).unwrap();
    if let Some(faults) = faults {
        store = store.with_faults(faults);
    }
    store.start().await.unwrap();
    S3Fixture {
        client: credentials.s3(&"eu-north-1".parse().unwrap(), address),
        credentials,
        store,
        _directory: directory,
    }
}

fn put(
    client: &Client,
    body: &str,
) -> aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder {
    let body = ByteStream::from(body.as_bytes().to_vec());
    client.put_object().bucket("bucket").key("lease").body(body)
}

fn get(client: &Client) -> aws_sdk_s3::operation::get_object::builders::GetObjectFluentBuilder {
    client.get_object().bucket("bucket").key("lease")
}
