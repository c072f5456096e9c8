//! I/O: the listeners of all services, each bound by the first service on it, closed by the last.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Dispatcher, Routes, Threads};
use crate::balancer::{Route, Snapshot};
use crate::config::Balancer;

/// Connections that the system holds until they are accepted.
const BACKLOG: u32 = 1024;

/// All listeners of a process; clones are the same.
#[derive(Clone)]
pub struct Listeners {
    threads: Threads,
    shutdown: CancellationToken,
    open: Arc<Mutex<BTreeMap<SocketAddr, Open>>>,
}

struct Open {
    /// Until the first service serves.
    socket: Option<TcpListener>,
    members: BTreeMap<String, Member>,
    routes: watch::Sender<Arc<Routes>>,
    stop: CancellationToken,
    /// The task that serves it.
    tasks: TaskTracker,
}

struct Member {
    settings: Balancer,
    /// From when it serves.
    dispatcher: Option<Arc<Dispatcher>>,
}

/// Why a service has no place on a listener.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    #[error(transparent)]
    Bind(#[from] io::Error),
    /// With the key that is wrong.
    #[error("{1}")]
    Clash(&'static str, String),
}

/// What a service holds of its listener; given up when dropped.
pub struct Place {
    listeners: Listeners,
    address: SocketAddr,
    service: String,
    left: bool,
}

impl Listeners {
    /// None yet. Until `shutdown` a listener serves while it has services; then all end at once.
    pub fn new(threads: Threads, shutdown: CancellationToken) -> Listeners {
        Listeners { threads, shutdown, open: Arc::default() }
    }

    /// A place for `service` on the listener at `settings.listen`, which is bound if it is not yet.
    ///
    /// # Errors
    /// If the address cannot be bound, or the services on it cannot share it with this one.
    pub fn join(&self, service: &str, settings: &Balancer) -> Result<Place, JoinError> {
        let mut open = self.open();
        let member = Member { settings: settings.clone(), dispatcher: None };
        let address = match open.get_mut(&settings.listen) {
            Some(listener) => {
                let clash =
                    |(name, other): (&String, &Member)| settings.clash(&other.settings, name);
                if let Some((key, message)) = listener.members.iter().find_map(clash) {
                    return Err(JoinError::Clash(key, message));
                }
                listener.members.insert(service.to_owned(), member);
                settings.listen
            }
            None => {
                let socket = bind(settings.listen)?;
                let address = socket.local_addr()?;
                let listener = Open {
                    socket: Some(socket),
                    members: BTreeMap::from([(service.to_owned(), member)]),
                    routes: watch::Sender::new(Arc::new(Routes::new(Vec::new()))),
                    stop: self.shutdown.child_token(),
                    tasks: TaskTracker::new(),
                };
                open.insert(address, listener);
                address
            }
        };
        Ok(Place { listeners: self.clone(), address, service: service.to_owned(), left: false })
    }

    fn open(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn publish(&self) {
        let routes = |member: &Member| -> Vec<(Route, Arc<Dispatcher>)> {
            let to = |dispatcher: &Arc<Dispatcher>| {
                let routes = member.settings.routes.iter().cloned();
                routes.map(|route| (route, Arc::clone(dispatcher))).collect()
            };
            member.dispatcher.as_ref().map(to).unwrap_or_default()
        };
        let routes = self.members.values().flat_map(routes).collect();
        self.routes.send_replace(Arc::new(Routes::new(routes)));
    }
}

impl Place {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets requests in, at once and until `stop`; the future ends when they are answered, or after
    /// the longest wait for an answer. Connections stay, for the other services on the listener.
    pub fn serve(
        mut self,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        stop: CancellationToken,
    ) -> impl Future<Output = ()> + Send {
        let entered = self.enter(snapshots);
        async move {
            let Some((gone, patience)) = entered else { return };
            stop.cancelled().await;
            match self.leave() {
                // The last one, or all end: the listener itself sees to its requests.
                Some(tasks) => tasks.wait().await,
                None => drop(tokio::time::timeout(patience, gone.cancelled()).await),
            }
        }
    }

    /// Publishes the service's routes; serves the listener if nobody does yet.
    fn enter(
        &self,
        snapshots: watch::Receiver<Arc<Snapshot>>,
    ) -> Option<(CancellationToken, Duration)> {
        let mut open = self.listeners.open();
        let listener = open.get_mut(&self.address)?;
        let member = listener.members.get_mut(&self.service)?;
        let dispatcher = Dispatcher::new(member.settings.clone(), snapshots);
        let (gone, patience) = (dispatcher.gone(), member.settings.response_timeout);
        let settings = member.settings.proxy.clone();
        member.dispatcher = Some(Arc::new(dispatcher));
        listener.publish();
        if let Some(socket) = listener.socket.take() {
            let (routes, threads) = (listener.routes.subscribe(), self.listeners.threads.clone());
            let stop = listener.stop.clone();
            listener.tasks.spawn(super::serve(socket, settings, routes, threads, stop));
        }
        Some((gone, patience))
    }

    /// Takes the service's routes back, once. What is to be waited for, if the listener ends.
    fn leave(&mut self) -> Option<TaskTracker> {
        if std::mem::replace(&mut self.left, true) {
            return None;
        }
        let mut open = self.listeners.open();
        let listener = open.get_mut(&self.address)?;
        listener.tasks.close();
        if self.listeners.shutdown.is_cancelled() {
            return Some(listener.tasks.clone());
        }
        listener.members.remove(&self.service);
        if listener.members.is_empty() {
            listener.stop.cancel();
            return open.remove(&self.address).map(|listener| listener.tasks);
        }
        listener.publish();
        None
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.leave();
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A port is free again as soon as its last owner is gone.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
