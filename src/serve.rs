//! The service: all rooms wired together, from the first line in the log to the last.

mod door;
mod error;

use crate::{
    admin::{About, Admin, Rotating},
    cli::{self, AdminListen},
    config::{self, Settings},
    cost::Cost,
    datadog::Client,
    delivery::{Backoff, Clock, Delivery, Step},
    github::{Github, Place},
    holes::Sweeper,
    ledger::{Files, Ledger, Mode, Opened, Options, Standing},
    limits::{Limits, raise_open_files},
    metrics::MetricPayload,
    panics,
    receiver::{BODY_MAX_BYTES, Receiver},
    systemd,
    tls::Tls,
    vitals::Outcome,
};
use actix_web::{dev::ServerHandle, web::Data};
use door::bind;
use futures_util::future::OptionFuture;
use std::{
    cell::Cell,
    fs::OpenOptions,
    io,
    net::{SocketAddr, TcpListener},
    os::unix::fs::OpenOptionsExt,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

pub use door::Door;
pub use error::ServeError;

/// How often it is looked whether another replica has delivered all.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A receiver and its delivery on one ledger, not yet running. It lives in an actix runtime.
#[derive(Debug)]
pub struct Application {
    /// What came in.
    pub receiver: Arc<Receiver>,
    /// What goes out.
    pub delivery: Delivery,
    /// Where it listens.
    pub address: SocketAddr,
    /// What the ledger held at the start.
    pub standing: Standing,
    ledger: Ledger,
    owner: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
    tls: Option<Tls>,
    /// Until the server has it: another handle would let connections come in that nobody answers.
    listener: Option<TcpListener>,
    about: About,
    admin: Option<(SocketAddr, TcpListener)>,
    recovery: Option<Sweeper>,
}

impl Application {
    /// Opens the ledger, and then the door.
    ///
    /// # Errors
    /// Either is not possible.
    pub fn build(settings: Settings, door: Door) -> Result<Self, ServeError> {
        let target = settings.datadog.as_ref().map(|(endpoint, _)| endpoint.to_string());
        let key = settings.datadog.as_ref().map(|(_, key)| key.clone());
        let client = settings.datadog.map(|(endpoint, key)| Client::new(endpoint, key)).transpose()?;
        let mut files = Files::new(&settings.cache_dir, settings.mode);
        let is_payload_log_wanted = settings.payload_log.is_some();
        if let Some(path) = settings.payload_log {
            let opened = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
            opened.map_err(|source| ServeError::PayloadLog { path: path.clone(), source })?;
            files.payloads = path;
        }
        let started_at = jiff::Timestamp::now();
        let secrets = Arc::new(settings.secrets);
        let rotating = Rotating { secrets: Some(Arc::clone(&secrets)), key, tls: settings.tls.clone() };
        let database = settings.database.as_ref().map(ToString::to_string);
        let about =
            About { target, max_series: settings.max_series, files: files.clone(), database, started_at, rotating };
        let options = Options {
            max_series: settings.max_series,
            max_journal_bytes: settings.max_journal_bytes,
            database: settings.database,
            ..Options::new(files, settings.reruns, started_at.as_second())
        };
        let Opened { ledger, owner, standing, ended } = Ledger::open(options)?;
        // After the lock, so that a second process waits for the first one to go and its address with it.
        let (address, listener) = door.open()?;
        let mut delivery = Delivery::new(ledger.clone(), client, Clock::system(), Backoff::full_jitter());
        if is_payload_log_wanted {
            delivery = delivery.log_payloads();
        }
        let receiver = Receiver::new(secrets, settings.tagging, ledger.clone());
        let receiver =
            Arc::new(receiver.limits(settings.limits).repositories(settings.repositories).reruns(settings.reruns));
        let (tls, admin) = (settings.tls, None);
        Ok(Self {
            receiver,
            delivery,
            address,
            standing,
            ledger,
            owner,
            ended,
            tls,
            listener,
            about,
            admin,
            recovery: None,
        })
    }

    /// Binds the admin listener's address too.
    ///
    /// # Errors
    /// That is not possible.
    pub fn with_admin(mut self, listen: AdminListen) -> Result<Self, ServeError> {
        if let AdminListen::At(address) = listen {
            self.admin = Some(bind("--admin-listen", address)?);
        }
        Ok(self)
    }

    /// Looks at the delivery logs of these places too, every so often.
    pub(crate) fn recovering(mut self, github: Github, places: Vec<Place>, every: Duration) -> Self {
        let (ledger, receiver) = self.parts();
        self.recovery = Some(Sweeper::new(github, places, every, receiver, ledger));
        self
    }

    /// What knows and what takes deliveries in that this process hands in.
    pub(crate) fn parts(&self) -> (Ledger, Arc<Receiver>) {
        (self.ledger.clone(), Arc::clone(&self.receiver))
    }

    /// Starts the public listener, once.
    ///
    /// # Errors
    /// The listener cannot be used, or is in use already.
    pub fn listen(&mut self) -> Result<ServerHandle, ServeError> {
        let taken = || io::Error::other("the listener is in use already");
        let listener = self.listener.take().ok_or_else(taken)?;
        let server = Arc::clone(&self.receiver).serve(self.tls.as_ref(), listener)?;
        let handle = server.handle();
        drop(actix_web::rt::spawn(server));
        Ok(handle)
    }

    /// Runs until `stop` is done: then takes no more connections, finishes requests, makes a last push, and closes the files,
    /// all within `timeout`.
    ///
    /// # Errors
    /// A listener cannot be used.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>, timeout: Duration) -> Result<(), ServeError> {
        let stopping_since = Cell::new(Instant::now());
        let handle = self.listen()?;
        let admin = Data::new(Admin::new(self.about.clone(), self.ledger.clone()));
        let admin_handle = self.admin.take().map(|(_, listener)| serve_admin(&admin, listener)).transpose()?;
        systemd::ready(&self.address.to_string());
        let stopped = async {
            tokio::select! {
                () = stop => log::info!("stopping: finishing requests"),
                _ = &mut self.ended => log::error!("the ledger has ended: stopping, to be started anew"),
            }
            stopping_since.set(Instant::now());
            admin.stop();
            systemd::stopping();
            handle.stop(true).await;
        };
        // They go with their handles on the ledger, before the files are closed.
        let cost = Cost::new(self.ledger.clone(), Clock::system()).run();
        let watch = systemd::watch(self.ledger.clone());
        let recovery = OptionFuture::from(self.recovery.take().map(Sweeper::run));
        // The files want to be closed too.
        let last_push = timeout * 2 / 5;
        tokio::select! {
            () = self.delivery.run_until(stopped, last_push) => {}
            () = async { tokio::join!(cost, watch, recovery); std::future::pending().await } => {}
        }
        if let Some(handle) = admin_handle {
            handle.stop(false).await;
        }
        drop(admin);
        self.close(timeout.saturating_sub(stopping_since.get().elapsed())).await?;
        Ok(())
    }

    /// Pushes until nothing is pending of what is accepted by now, or the time is over; whether that is so. Another replica may do
    /// it. `pushed` is told of each push: its runs, and what was sent.
    pub(crate) async fn push_all(&mut self, timeout: Duration, mut pushed: impl FnMut(usize, &MetricPayload)) -> bool {
        let begun = jiff::Timestamp::now().as_second();
        let is_shared = self.about.database.is_some();
        let push = async {
            loop {
                match self.delivery.step().await {
                    Step::Pushed { runs, payload } => pushed(runs, &payload),
                    Step::Moved => continue,
                    Step::Wait(wait) => tokio::time::sleep(wait).await,
                    Step::Idle if is_shared => tokio::time::sleep(LOOK_EVERY).await,
                    Step::Idle => return,
                }
                // Others go on to take runs in.
                if is_shared
                    && let Ok(overview) = self.ledger.overview().await
                    && overview.oldest_since.is_none_or(|oldest| oldest > begun)
                {
                    return;
                }
            }
        };
        tokio::time::timeout(timeout, push).await.is_ok()
    }

    /// Closes the files, after the listener has stopped, and says what is still pending.
    ///
    /// # Errors
    /// The ledger's thread has failed, or does not end in time. What was answered is on disk all the same.
    pub async fn close(self, timeout: Duration) -> Result<Standing, ServeError> {
        let late = |_| ServeError::Failed(io::Error::new(io::ErrorKind::TimedOut, "the ledger does not answer"));
        tokio::time::timeout(timeout, self.close_files()).await.map_err(late)?
    }

    async fn close_files(mut self) -> Result<Standing, ServeError> {
        let ended = || ServeError::Failed(io::Error::other("the ledger has ended before its time; the log says why"));
        let standing = self.ledger.standing().await.map_err(|_| ended())?;
        let counts = self.ledger.vitals().counts();
        log::info!(
            "stopped: {} accepted, {} duplicate, {} ignored, {} not signed, {} pushed; {}",
            counts.of(Outcome::Accepted),
            counts.of(Outcome::Duplicate),
            counts.of(Outcome::Ignored),
            counts.of(Outcome::NotSigned),
            self.delivery.totals().pushed,
            match standing.pending {
                _ if self.ledger.overview().await.is_err() => "what is pending is not known".to_owned(),
                0 => "nothing is pending".to_owned(),
                pending => format!("{pending} runs are pending and go out at the next start"),
            }
        );
        // The thread ends with the last handle.
        drop((self.delivery, self.receiver, self.ledger));
        if !self.ended.is_terminated() {
            drop((&mut self.ended).await);
        }
        self.owner.join().map_err(|_| ended())?;
        Ok(standing)
    }
}

/// Runs the service until it is told to stop by SIGTERM or SIGINT.
///
/// # Errors
/// It cannot be started.
pub fn serve(arguments: &cli::Serve) -> Result<(), ServeError> {
    panics::ignore_those_of_strangers();
    let environment = &config::process_environment;
    let mode = Mode::of(arguments.dry_run);
    let secrets = config::secrets(environment)?;
    let settings = Settings {
        limits: limits(Limits { stop_timeout: arguments.shutdown_timeout / 2, ..Limits::from(&arguments.limits) }),
        tls: config::tls(&arguments.tls)?,
        ..Settings::new(mode, &arguments.cache_dir, &arguments.common, secrets, environment)?
    };
    let recovery = match arguments.recover_every {
        Some(every) => Some((every, config::github(&arguments.github, environment)?)),
        None => None,
    };
    let socket = systemd::socket().map_err(ServeError::Socket)?;
    let door = socket.map_or(Door::Address(arguments.listen), Door::Socket);
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    actix_web::rt::System::new().block_on(async {
        // Until then a signal ends the process as it is: it may wait for files or a database, and has taken nothing.
        let mut application = Application::build(settings, door)?.with_admin(arguments.admin_listen)?;
        let (stop, stop_at_once) = stop_signals()?;
        if let Some((every, (root, auth))) = recovery {
            let places = arguments.hooks.places().cloned().collect();
            application = application.recovering(Github::new(root, auth)?, places, every);
        }
        if let Some((address, _)) = &application.admin {
            log::info!("status page on http://{address}/");
        }
        log::info!(
            "runhound {} {}, listening on {scheme}://{}/webhook, {}: {} IDs known, {} runs pending",
            env!("CARGO_PKG_VERSION"),
            match &application.about.target {
                None => "dry run, nothing is pushed".to_owned(),
                Some(target) => format!("live to {target}"),
            },
            application.address,
            match &application.about.database {
                None => format!("cache directory {}", arguments.cache_dir.display()),
                Some(database) => database.clone(),
            },
            application.standing.known,
            application.standing.pending,
        );
        tokio::select! {
            ended = application.run_until(stop, arguments.shutdown_timeout) => ended,
            () = stop_at_once => Err(io::Error::other("told twice to stop: what is recorded goes out at the next start").into()),
        }
    })
}

fn serve_admin(admin: &Data<Admin>, listener: TcpListener) -> Result<ServerHandle, ServeError> {
    let server = Admin::serve(Data::clone(admin), listener)?;
    let handle = server.handle();
    drop(actix_web::rt::spawn(server));
    Ok(handle)
}

/// The limits that this process can keep: each connection is an open file.
fn limits(wanted: Limits) -> Limits {
    let open_files = raise_open_files();
    let limits = wanted.within(open_files);
    if limits != wanted {
        log::warn!(
            "{open_files} open files, the hard limit of this process, are too few for {} connections: {} are taken",
            wanted.max_connections,
            limits.max_connections
        );
    }
    for (flag, bytes) in [("unverified", limits.unverified_max_bytes), ("in-flight", limits.verified_max_bytes)] {
        if bytes < BODY_MAX_BYTES {
            log::warn!(
                "--max-{flag}-mib is less than a delivery may have, 25 MiB: larger ones are answered 503 for ever"
            );
        }
    }
    limits
}

/// Done at the first SIGTERM or SIGINT, and at the second one.
pub(crate) fn stop_signals() -> io::Result<(impl Future<Output = ()>, impl Future<Output = ()>)> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (first, stop) = oneshot::channel::<()>();
    let (second, stop_at_once) = oneshot::channel::<()>();
    drop(actix_web::rt::spawn(async move {
        for told in [first, second] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            // Whoever waited may have gone: then nobody needs to be told.
            told.send(()).ok();
        }
    }));
    Ok((async { drop(stop.await) }, async { drop(stop_at_once.await) }))
}
