//! The bounds that a service has to meet, under one name.

use std::convert::Infallible;
use std::error::Error;

use hyper::body::{Body, Incoming};
use hyper::service::Service;
use hyper::{Request, Response};

/// An error of a service's body, as hyper takes it.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// Every service that [`serve`](crate::serve) takes.
pub(crate) trait AnyService:
    Service<Request<Incoming>, Response = Response<Self::ResBody>, Error = Infallible> + 'static
{
    type ResBody: Body<Error: Into<BoxError>> + 'static;
}

impl<S, B> AnyService for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
    B: Body<Error: Into<BoxError>> + 'static,
{
    type ResBody = B;
}
