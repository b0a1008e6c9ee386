//! The gRPC service between JobManager and TaskManagers, carrying FlatBuffers.
//!
//! Owns: [`Message`] (bytes that passed the verifier), the codec, and both ends of the one method
//! `/ringflow.JobManager/Connect`: a stream of messages in either direction that lives as long as the TaskManager is
//! registered. HTTP/2 brings framing, flow control, deadlines and, later, TLS; FlatBuffers saves a second IDL.
//! Invariant: a `Message` that exists has been verified, so [`Message::get`] reads it without checks.
//! Left out: what the messages mean, reconnecting, heartbeats.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes};
use flatbuffers::{FlatBufferBuilder, Follow, InvalidFlatbuffer, Verifiable, WIPOffset};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::{Body, StdError, http};
use tonic::{Request, Response, Status, Streaming};

use crate::{control, graph};

/// The largest control message either side accepts: a deployment of some ten thousand subtasks fits.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

const PATH: &str = "/ringflow.JobManager/Connect";

/// A root table that travels as a [`Message`].
pub trait Root: Send + Sync + 'static {
    /// The generated view over the bytes.
    type View<'a>: Follow<'a, Inner = Self::View<'a>> + Verifiable + Copy + 'a;
}

macro_rules! root {
    ($(#[$doc:meta])* $name:ident, $table:path) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy)]
        pub enum $name {}
        impl Root for $name {
            type View<'a> = $table;
        }
    };
}
root!(
    /// What a TaskManager says.
    FromTaskManager, control::TaskManagerMessage<'a>
);
root!(
    /// What the JobManager says.
    FromJobManager, control::JobManagerMessage<'a>
);
root!(
    /// What a client submits.
    SubmittedGraph, graph::StreamGraph<'a>
);

/// A FlatBuffer that passed the verifier once, when it came into being here.
///
/// Cost: clones share the bytes.
pub struct Message<R> {
    bytes: Bytes,
    root: PhantomData<fn() -> R>,
}

impl<R: Root> Message<R> {
    /// Verifies `bytes`.
    ///
    /// # Errors
    /// The bytes are no such FlatBuffer: refuse them and name the sender.
    pub fn parse(bytes: impl Into<Bytes>) -> Result<Self, InvalidFlatbuffer> {
        let bytes = bytes.into();
        flatbuffers::root::<R::View<'_>>(&bytes)?;
        Ok(Self {
            bytes,
            root: PhantomData,
        })
    }

    /// Builds a message in a fresh builder.
    #[must_use]
    pub fn build<'b, T>(write: impl FnOnce(&mut FlatBufferBuilder<'b>) -> WIPOffset<T>) -> Self {
        let mut builder = FlatBufferBuilder::with_capacity(1024);
        let root = write(&mut builder);
        builder.finish(root, None);
        let (bytes, start) = builder.collapse();
        let message = Self {
            bytes: Bytes::from(bytes).slice(start..),
            root: PhantomData,
        };
        debug_assert!(flatbuffers::root::<R::View<'_>>(&message.bytes).is_ok());
        message
    }

    /// The view over the bytes.
    #[must_use]
    pub fn get(&self) -> R::View<'_> {
        // SAFETY: `parse` verified these bytes as this root and nothing writes them after; `build` got them from the
        // generated builder, whose output passes the verifier (asserted there in debug builds).
        unsafe { flatbuffers::root_unchecked::<R::View<'_>>(&self.bytes) }
    }

    /// The encoded bytes.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl<R> Clone for Message<R> {
    fn clone(&self) -> Self {
        Self {
            bytes: self.bytes.clone(),
            root: PhantomData,
        }
    }
}

impl<R> fmt::Debug for Message<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Sends `E`, receives `D`.
struct FlatBuffersCodec<E, D>(PhantomData<fn() -> (E, D)>);

struct FlatBuffersCoder<R>(PhantomData<fn() -> R>);

impl<E: Root, D: Root> Codec for FlatBuffersCodec<E, D> {
    type Encode = Message<E>;
    type Decode = Message<D>;
    type Encoder = FlatBuffersCoder<E>;
    type Decoder = FlatBuffersCoder<D>;
    fn encoder(&mut self) -> Self::Encoder {
        FlatBuffersCoder(PhantomData)
    }
    fn decoder(&mut self) -> Self::Decoder {
        FlatBuffersCoder(PhantomData)
    }
}

impl<R: Root> Encoder for FlatBuffersCoder<R> {
    type Item = Message<R>;
    type Error = Status;
    fn encode(&mut self, item: Self::Item, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item.bytes);
        Ok(())
    }
}

impl<R: Root> Decoder for FlatBuffersCoder<R> {
    type Item = Message<R>;
    type Error = Status;
    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let bytes = buffer.copy_to_bytes(buffer.remaining());
        Message::parse(bytes)
            .map(Some)
            .map_err(|error| Status::invalid_argument(format!("not a control message: {error}")))
    }
}

/// The JobManager's end: one call per TaskManager connection.
pub trait JobManagerService: Send + Sync + 'static {
    /// Messages to the TaskManager, until the JobManager ends the connection.
    type Outbound: tonic::codegen::tokio_stream::Stream<Item = Result<Message<FromJobManager>, Status>>
        + Send
        + 'static;

    /// A TaskManager connected; `inbound` yields what it says, and ends when it is gone.
    ///
    /// # Errors
    /// The status goes to the TaskManager as the answer to its call.
    fn connect(
        &self,
        inbound: Request<Streaming<Message<FromTaskManager>>>,
    ) -> impl Future<Output = Result<Response<Self::Outbound>, Status>> + Send;
}

/// Serves a [`JobManagerService`] as a tonic service.
pub struct JobManagerServer<S>(Arc<S>);

impl<S> JobManagerServer<S> {
    /// Serves `service`.
    #[must_use]
    pub fn new(service: S) -> Self {
        Self(Arc::new(service))
    }
}

impl<S> Clone for JobManagerServer<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for JobManagerServer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JobManagerServer").finish_non_exhaustive()
    }
}

impl<S> tonic::server::NamedService for JobManagerServer<S> {
    const NAME: &'static str = "ringflow.JobManager";
}

struct Connect<S>(Arc<S>);

impl<S: JobManagerService> tonic::server::StreamingService<Message<FromTaskManager>>
    for Connect<S>
{
    type Response = Message<FromJobManager>;
    type ResponseStream = S::Outbound;
    type Future = BoxFuture<Result<Response<S::Outbound>, Status>>;

    fn call(&mut self, request: Request<Streaming<Message<FromTaskManager>>>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move { service.connect(request).await })
    }
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

impl<S, B> tonic::codegen::Service<http::Request<B>> for JobManagerServer<S>
where
    S: JobManagerService,
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = BoxFuture<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = Arc::clone(&self.0);
        Box::pin(async move {
            if request.uri().path() != PATH {
                let path = request.uri().path().to_owned();
                return Ok(Status::unimplemented(format!("no method {path}")).into_http());
            }
            let codec = FlatBuffersCodec::<FromJobManager, FromTaskManager>(PhantomData);
            let mut grpc = tonic::server::Grpc::new(codec)
                .max_decoding_message_size(MESSAGE_BYTES_MAX)
                .max_encoding_message_size(MESSAGE_BYTES_MAX);
            Ok(grpc.streaming(Connect(service), request).await)
        })
    }
}

/// The TaskManager's end: opens the stream to the JobManager over `channel`.
///
/// # Errors
/// The JobManager refused the call or is not reachable; the status says which.
pub async fn connect(
    channel: tonic::transport::Channel,
    outbound: impl tonic::codegen::tokio_stream::Stream<Item = Message<FromTaskManager>>
    + Send
    + 'static,
) -> Result<Streaming<Message<FromJobManager>>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = FlatBuffersCodec::<FromTaskManager, FromJobManager>(PhantomData);
    let path = http::uri::PathAndQuery::from_static(PATH);
    grpc.streaming(Request::new(outbound), path, codec)
        .await
        .map(Response::into_inner)
}
