//! I/O: what a client connection, its requests and their bodies share.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Bytes;
use tokio::net::TcpStream;

use super::Listener;
use super::access_log::Entry;
use super::connection::PARK_AFTER;
use super::dispatcher::Seat;
use super::pool::Pool;
use super::watch::{Phase, Watch};
use crate::config::{Limits, Timeouts};

/// A client connection from the first byte of a request until it falls idle.
pub(super) struct Session {
    pub(super) listener: Arc<Listener>,
    pub(super) watch: Arc<Watch>,
    pub(super) peer: IpAddr,
    thread: usize,
    upload: AtomicU8,
    /// The client does not take what is written.
    blocked: AtomicBool,
    tunnel: Mutex<Option<Tunnel>>,
}

/// The replica's side of a connection that changes its protocol.
pub(super) struct Tunnel {
    pub(super) stream: TcpStream,
    pub(super) read: Bytes,
    pub(super) seat: Seat,
}

/// How the body of the current request fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum UploadState {
    Whole,
    Broken,
    TooLarge,
}

impl Session {
    /// Of a connection on the thread of this number.
    pub(super) fn new(
        listener: Arc<Listener>,
        watch: Arc<Watch>,
        peer: IpAddr,
        thread: usize,
    ) -> Session {
        Session {
            listener,
            watch,
            peer,
            thread,
            upload: AtomicU8::new(UploadState::Whole as u8),
            blocked: AtomicBool::new(false),
            tunnel: Mutex::new(None),
        }
    }

    /// The connections to replicas of this one's thread.
    pub(super) fn pool(&self) -> &Pool {
        &self.listener.pools[self.thread]
    }

    pub(super) fn timeouts(&self) -> &Timeouts {
        &self.listener.settings.timeouts
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.listener.settings.limits
    }

    pub(super) fn begin_request(&self) {
        self.set_upload(UploadState::Whole);
        self.watch.enter(Phase::Elsewhere, None);
    }

    pub(super) fn set_upload(&self, state: UploadState) {
        self.upload.store(state as u8, Ordering::Relaxed);
    }

    pub(super) fn upload(&self) -> UploadState {
        match self.upload.load(Ordering::Relaxed) {
            1 => UploadState::Broken,
            2 => UploadState::TooLarge,
            _ => UploadState::Whole,
        }
    }

    /// The client owes the next piece of its body.
    pub(super) fn await_upload(&self) {
        if self.watch.phase() == Phase::Replica {
            self.watch.enter(Phase::Upload, Some(self.timeouts().body));
        }
    }

    /// The replica owes the head of its answer.
    pub(super) fn await_replica(&self, limit: Duration) {
        if self.watch.phase() != Phase::Answer {
            self.watch.enter(Phase::Replica, Some(limit));
        }
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.blocked.load(Ordering::Relaxed)
    }

    /// A write to the client went on, or did not.
    pub(super) fn written(&self, blocked: bool) {
        self.blocked.store(blocked, Ordering::Relaxed);
        if !blocked && self.watch.phase() == Phase::Answer {
            self.watch.enter(Phase::Answer, Some(self.timeouts().answer));
        }
    }

    pub(super) fn tunnel(&self) -> MutexGuard<'_, Option<Tunnel>> {
        self.tunnel.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a request when it is dropped.
pub(super) struct Finish {
    session: Arc<Session>,
    /// Only where there is a log.
    entry: Option<Box<Entry>>,
}

impl Finish {
    pub(super) fn new(session: Arc<Session>, entry: Option<Box<Entry>>) -> Finish {
        Finish { session, entry }
    }

    pub(super) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    pub(super) fn entry(&mut self) -> Option<&mut Entry> {
        self.entry.as_deref_mut()
    }

    pub(super) fn add_bytes(&mut self, bytes: usize) {
        if let Some(entry) = &mut self.entry {
            entry.bytes += bytes as u64;
        }
    }

    pub(super) fn broke(&mut self) {
        if let Some(entry) = &mut self.entry {
            entry.broken = true;
        }
    }
}

impl Drop for Finish {
    fn drop(&mut self) {
        let idle = self.session.timeouts().idle.min(PARK_AFTER);
        self.session.watch.enter(Phase::Idle, Some(idle));
        if let (Some(entry), Some(log)) = (self.entry.take(), &self.session.listener.log) {
            log.write(*entry);
        }
    }
}
