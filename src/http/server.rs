//! Accepts HTTP connections, with limits on time, size and number.
//! Serves `routes` at an address. Owns a thread with its own runtime.

use std::{collections::VecDeque, io, net::SocketAddr, pin::pin, sync::Arc, thread, time::Duration};

use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpStream},
    runtime::Builder,
    sync::oneshot,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

use super::{
    guard::Guard,
    routes::{Desk, router},
};
use crate::http::backend::{Backend, Options};

/// Connections at once. The oldest is closed for the next, so nobody can lock others out. Chosen: far more than
/// monitors open, a quarter of the usual soft limit of descriptors (1024).
pub const MOST_CONNECTIONS: usize = 256;
/// How long a request's head may take, the wait for the next one on the same connection included. Chosen: ends idle
/// and slow (slowloris) connections; a head is one packet.
const HEAD_WITHIN: Duration = Duration::from_secs(10);
/// How long a connection may be used; clients then reconnect. Chosen: bounds what a slow reader holds.
const CONNECTION_LIVES: Duration = Duration::from_secs(300);
/// How long the answer in progress may take then. Chosen: as `HEAD_WITHIN`.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Largest head of a request, in bytes; hyper answers 431 beyond. Chosen: far above what monitors and browsers send.
const HEAD_MAX: usize = 16 * 1024;
/// Chosen: browsers send about twenty.
const HEADERS_MAX: usize = 64;
/// Pause between retries to listen on an address in use (doc/TROUBLESHOOTING.md). Chosen: a restarted program is gone
/// by then.
const LISTEN_AGAIN: Duration = Duration::from_secs(5);
/// Pause after a failed accept, most likely for want of a descriptor. Chosen: no busy loop, and not noticeable.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// It runs until it is dropped.
pub struct Server {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    /// Starts to listen; `Backend::listening` reports the outcome. An address in use is retried.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(options: Options, backend: Arc<dyn Backend>) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new().name("http".to_owned()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve(&options, &backend) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        // Nothing in it waits but for sockets, so it ends at once.
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the HTTP interface had panicked");
        }
    }
}

async fn serve(options: &Options, backend: &Arc<dyn Backend>) {
    let mut told = false;
    loop {
        match listen(options.listen).await {
            Ok((listener, address)) => {
                backend.listening(Ok(address));
                let guard = Guard::new(address, options.token.as_ref());
                accept(&listener, &Arc::new(Desk { backend: backend.clone(), guard })).await;
            }
            Err(error) if !told => {
                told = true;
                backend.listening(Err(format!(
                    "can't listen at {} (api.listen): {error}; tried again every {} s",
                    options.listen,
                    LISTEN_AGAIN.as_secs()
                )));
            }
            Err(_) => {}
        }
        sleep(LISTEN_AGAIN).await;
    }
}

async fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Takes connections; never ends.
async fn accept(listener: &TcpListener, desk: &Arc<Desk>) {
    let router = router(desk.clone());
    let mut connections = JoinSet::new();
    let mut oldest_first: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        let stream = tokio::select! {
            Some(ended) = connections.join_next_with_id(), if !connections.is_empty() => {
                let id = ended.map_or_else(|error| error.id(), |(id, ())| id);
                oldest_first.retain(|connection| connection.id() != id);
                continue;
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be taken");
                    sleep(ACCEPT_AGAIN).await;
                    continue;
                }
            },
        };
        if oldest_first.len() >= MOST_CONNECTIONS
            && let Some(oldest) = oldest_first.pop_front()
        {
            oldest.abort();
        }
        let service = TowerToHyperService::new(router.clone());
        oldest_first.push_back(connections.spawn(connection(stream, service)));
        // In a rush, each has its turn before the next is taken, which may be instead of it.
        tokio::task::yield_now().await;
    }
}

async fn connection(stream: TcpStream, service: TowerToHyperService<axum::Router>) {
    let mut http = http1::Builder::new();
    // A client that has sent everything and closes its side still gets its answers.
    http.half_close(true);
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN).max_buf_size(HEAD_MAX).max_headers(HEADERS_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = sleep(CONNECTION_LIVES) => {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_ANSWER_WITHIN, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended early");
    }
}
