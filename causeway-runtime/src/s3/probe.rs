//! Response headers that the SDK does not return with an object: what a check of a bucket reads.

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;

use super::client::S3Client;
use super::error::S3Error;

/// Headers of a response with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHeaders {
    /// Version of the object; none in a bucket that has never been versioned, `null` for an object that was stored
    /// while the bucket was not versioned.
    pub version_id: Option<String>,
    /// Time of the service, as in the header `Date`.
    pub date: Option<String>,
}

/// Copies the header `Date` of a response.
#[derive(Clone, Debug, Default)]
struct DateReader(Arc<Mutex<Option<String>>>);

impl Intercept for DateReader {
    fn name(&self) -> &'static str {
        "DateReader"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _settings: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").map(str::to_owned);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

impl S3Client {
    /// Returns the headers of an object.
    ///
    /// # Errors
    ///
    /// [`S3Error`], as for a read of the object.
    pub async fn object_headers(&self, key: &str) -> Result<ObjectHeaders, S3Error> {
        let reader = DateReader::default();
        let request = self.sdk().get_object().bucket(self.bucket()).key(key);
        let request = request.customize().interceptor(reader.clone());
        let object = self.call(request.send()).await?;
        let date = reader.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(ObjectHeaders {
            version_id: object.version_id,
            date: date.clone(),
        })
    }
}
