//! The requests that write. They go to the registry itself, never to a mirror.

use futures_util::stream::BoxStream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use reqwest::{Body, Method, Response, Url};

use super::client::Repository;
use super::error::RegistryError;
use super::transport::{Access, Call, shown};
use crate::digest::Digest;

/// Opens the bytes of a blob from its start; called once per attempt.
pub type OpenBlob<'a> = &'a (dyn Fn() -> BoxStream<'static, std::io::Result<bytes::Bytes>> + Send + Sync);

impl Repository {
    /// Whether the repository has the blob.
    pub async fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let origin = self.origin();
        let url = origin.url(&format!("blobs/{digest}"))?;
        let mut attempt = 0;
        loop {
            let call = Call::new(Method::HEAD, url.clone(), origin, Access::Push);
            match self.transport.send(&call).await {
                Ok(_) => return Ok(true),
                Err(RegistryError::Status { status: 404, .. }) => return Ok(false),
                Err(error) => {
                    self.transport
                        .after(self.transport.policy, &mut attempt, error)
                        .await?;
                }
            }
        }
    }

    /// Uploads a blob in one piece (distribution-spec "POST then PUT"). The registry checks the
    /// digest; a broken upload starts again from the beginning.
    pub async fn put_blob(
        &self,
        digest: &Digest,
        size: u64,
        open: OpenBlob<'_>,
    ) -> Result<(), RegistryError> {
        let mut attempt = 0;
        loop {
            match self.upload(digest, size, open).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.transport
                        .after(self.transport.policy, &mut attempt, error)
                        .await?;
                }
            }
        }
    }

    async fn upload(&self, digest: &Digest, size: u64, open: OpenBlob<'_>) -> Result<(), RegistryError> {
        let origin = self.origin();
        let start = origin.url("blobs/uploads/")?;
        let call = Call::new(Method::POST, start.clone(), origin, Access::Push)
            .header(CONTENT_LENGTH, HeaderValue::from_static("0"));
        let session = self.transport.send(&call).await?;
        let mut url = location(&start, &session)?;
        url.query_pairs_mut().append_pair("digest", &digest.to_string());
        let body = || Body::wrap_stream(open());
        let mut call = Call::new(Method::PUT, url, origin, Access::Push)
            .header(CONTENT_LENGTH, HeaderValue::from(size))
            .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        call.body = Some(&body);
        self.transport.send(&call).await?;
        Ok(())
    }

    /// Stores manifest bytes under a tag or their digest.
    pub async fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<(), RegistryError> {
        let origin = self.origin();
        let url = origin.url(&format!("manifests/{name}"))?;
        let content_type = HeaderValue::from_str(media_type).map_err(|_| RegistryError::Protocol {
            url: shown(&url),
            reason: "media type is no header".to_owned(),
        })?;
        let owned = bytes::Bytes::copy_from_slice(bytes);
        let body = || Body::from(owned.clone());
        let mut attempt = 0;
        loop {
            let mut call = Call::new(Method::PUT, url.clone(), origin, Access::Push)
                .header(CONTENT_TYPE, content_type.clone());
            call.body = Some(&body);
            match self.transport.send(&call).await {
                Ok(_) => return Ok(()),
                Err(error) => {
                    self.transport
                        .after(self.transport.policy, &mut attempt, error)
                        .await?;
                }
            }
        }
    }
}

/// Where an upload goes on; relative or absolute.
fn location(from: &Url, response: &Response) -> Result<Url, RegistryError> {
    let value = response
        .headers()
        .get(LOCATION)
        .and_then(|value| value.to_str().ok());
    let target = value.and_then(|value| from.join(value).ok());
    target
        .filter(|target| matches!(target.scheme(), "http" | "https"))
        .ok_or_else(|| RegistryError::Protocol {
            url: shown(from),
            reason: "an upload session without a usable Location".to_owned(),
        })
}
