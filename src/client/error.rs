//! Why a request came to nothing. No behaviour besides the way into a [`Cause`].

use crate::cause::{Cause, Class};
use crate::smp::RequestId;
use crate::smp::errors::{DeviceError, ResponseError};
use crate::smp::exchange::ExchangeError;
use crate::smp::message::EncodeError;
use crate::smp::upload::UploadError;
use crate::transport::LinkError;

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The device said no.
    #[error("expected success of {request}, the device answered with {error}")]
    Device {
        /// What was asked.
        request: RequestId,
        /// Its no.
        error: DeviceError,
    },
    /// The device answered, but not with what the specification says.
    #[error(transparent)]
    Malformed(ResponseError),
    /// No answer, as often as the request may be sent.
    #[error(transparent)]
    Unanswered(ExchangeError),
    /// The link is in trouble.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The upload ended without success.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The request could not be put into a message.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The request is longer than what the device takes; it would be dropped without a word, and was not sent.
    #[error("expected a request of at most {most} bytes, which the device takes, got {length}")]
    TooLong {
        /// Length of the message, in bytes.
        length: usize,
        /// Most that the device takes, in bytes.
        most: usize,
    },
}

impl From<ResponseError> for ClientError {
    fn from(error: ResponseError) -> Self {
        match error.device() {
            Some(device) => Self::Device { request: error.request, error: device.clone() },
            None => Self::Malformed(error),
        }
    }
}

impl From<ClientError> for Cause {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Device { request, error } => error.to_cause(request),
            ClientError::Malformed(error) => error.into(),
            ClientError::Unanswered(error) => error.into(),
            ClientError::Link(error) => error.into(),
            ClientError::Upload(error) => error.into(),
            ClientError::TooLong { .. } => Self::new(
                Class::Plan,
                "smp.request_too_long",
                error.to_string(),
                "send less, or say the server's buffer (`buffer`) where it is larger",
            ),
            ClientError::Encode(error) => Self::new(
                Class::Internal,
                "internal.encode",
                error.to_string(),
                "this is a defect of flashfleet: please report it with the journal",
            ),
        }
    }
}
