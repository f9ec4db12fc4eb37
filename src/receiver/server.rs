//! The server under the public listener: HTTP/1.1, plain or in TLS, with limits on connections and on time.
//!
//! Invariant: a connection lives on after an answer only if that answer is one to a verified delivery, and what was sent on
//! behind any other answer is not looked at. So a stranger has one head, one body and one answer, each with a limit on its
//! time, and cannot make answers pile up that it does not read.

use super::Receiver;
use crate::tls::Tls;
use actix_http::{
    HttpService, Request, Response,
    h1::{ExpectHandler, H1Service, UpgradeHandler},
};
use actix_server::{GracefulShutdownSignal, Server, ServerBuilder};
use actix_service::{IntoServiceFactory, ServiceFactory, ServiceFactoryExt, map_config};
use actix_tls::accept::{TlsError, max_concurrent_tls_connect, rustls_0_23 as acceptor};
use actix_web::{
    App, Error, HttpRequest, HttpResponse,
    body::{BodySize, BoxBody, MessageBody},
    dev::{AppConfig, ServiceRequest, ServiceResponse},
    http::{ConnectionType, StatusCode},
    middleware::{Next, from_fn},
    rt::net::TcpStream,
    web::{self, Bytes},
};
use std::{
    cell::Cell,
    fmt, io,
    net::TcpListener,
    num::NonZeroUsize,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// More workers than that are not of use to any machine, nor allowed.
const WORKERS_MAX: usize = 512;

/// How long a connection is closed gently: what still comes in is read and dropped, so that the answer arrives.
const LINGER: Duration = Duration::from_secs(1);

/// Of a connection: whether it ends with the answer that is given or being made.
#[derive(Debug, Default)]
struct IsOver(Cell<bool>);

/// Lets the connection of this request live on after its answer.
pub(super) fn keep_connection(request: &HttpRequest) {
    if let Some(is_over) = request.conn_data::<IsOver>() {
        is_over.0.set(false);
    }
}

/// Serves on a bound listener until stopped through the server's handle.
pub(super) fn serve(receiver: Arc<Receiver>, tls: Option<&Tls>, listener: TcpListener) -> io::Result<Server> {
    let limits = receiver.limits;
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let workers = processors.min(WORKERS_MAX).min(limits.max_connections);
    let connections = limits.max_connections / workers;
    let builder = ServerBuilder::new().workers(workers).max_concurrent_connections(connections);
    let builder = builder.disable_signals().shutdown_timeout(whole_seconds(limits.stop_timeout));
    let stopping = builder.graceful_shutdown_signal();
    let builder = match tls {
        None => builder.listen("webhook", listener, move || http(&receiver, &stopping).tcp())?,
        Some(tls) => {
            let config = tls.server().map_err(io::Error::other)?;
            // Handshakes are under the limits on connections and on time. A limit of their own would let strangers who begin
            // none keep others from theirs.
            max_concurrent_tls_connect(connections);
            builder.listen("webhook", listener, move || {
                let mut handshake = acceptor::Acceptor::new(config.clone());
                handshake.set_handshake_timeout(limits.client_timeout);
                handshake
                    .map_init_err(|()| unreachable!("an acceptor of a configuration is always made"))
                    .map_err(TlsError::into_service_error)
                    .map(|stream: acceptor::TlsStream<TcpStream>| {
                        let peer = stream.get_ref().0.peer_addr().ok();
                        (stream, peer)
                    })
                    .and_then(http(&receiver, &stopping).map_err(TlsError::Service))
            })?
        }
    };
    Ok(builder.run())
}

/// What is left of a second counts as one.
const fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + (time.subsec_nanos() > 0) as u64
}

type Http<T, S> = H1Service<T, S, BoxBody, ExpectHandler, UpgradeHandler>;

/// HTTP on connections of any kind.
fn http<T: 'static>(
    receiver: &Arc<Receiver>,
    stopping: &GracefulShutdownSignal,
) -> Http<
    T,
    impl ServiceFactory<
        Request,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = Response<BoxBody>,
        InitError: fmt::Debug,
        Future: 'static,
    > + use<T>,
> {
    let receiver_data = web::Data::from(Arc::clone(receiver));
    let stopping = stopping.clone();
    let app = App::new().app_data(receiver_data).configure(super::routes).wrap(from_fn(one_answer));
    let app = app.into_factory().map_err(|error: Error| Response::from(error.error_response()));
    HttpService::build()
        .client_request_timeout(receiver.limits.client_timeout)
        .client_disconnect_timeout(LINGER)
        .on_connect_ext(|_: &T, data| {
            data.insert(IsOver::default());
        })
        .graceful_shutdown_signal(move || {
            let stopping = stopping.clone();
            async move { stopping.notified().await }
        })
        .h1(map_config(app, |()| AppConfig::default()))
}

/// Ends a connection with its answer unless [`keep_connection`] was said, and drops it where another request comes in behind
/// such an answer. Left to itself, the server would answer all that a client sends, and keep the answers until they are read.
async fn one_answer(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    if request.conn_data::<IsOver>().is_some_and(|is_over| is_over.0.replace(true)) {
        // The answer before this one goes out meanwhile.
        tokio::task::yield_now().await;
        return Ok(request.into_response(HttpResponse::with_body(StatusCode::BAD_REQUEST, BoxBody::new(CutOff))));
    }
    let mut response = next.call(request).await?.map_into_boxed_body();
    if response.request().conn_data::<IsOver>().is_none_or(|is_over| is_over.0.get()) {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// The body of an answer that is never sent: the connection ends instead.
struct CutOff;

impl MessageBody for CutOff {
    type Error = io::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
    }
}
