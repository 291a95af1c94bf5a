//! Puts the parts together: opens the stores, starts the engine, listens, and leaves cleanly.

mod auth;
mod descriptors;
mod stores;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::admin::AdminHandler;
use crate::clock::Clock;
use crate::config::{self, AuthMode, Config};
use crate::engine::{self, Engine};
use crate::intake::{HttpIntake, Intake};
use crate::ledger::{Check, Ledger};
use crate::metrics::Metrics;
use crate::order::{Currency, Name, NewSale, NewSku, Rules, Sale};
use crate::token::PurchaseTokens;
use crate::trace::Sampler;
use crate::{http, telemetry};

/// Runs the engine until SIGTERM, SIGINT or SIGHUP, drains, and returns. With `demo`, an open sale `demo` is there.
pub fn serve(config: Config, demo: bool) -> anyhow::Result<()> {
    let logging = telemetry::start(&config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let ended = runtime.block_on(run(config, demo));
    let lost = logging.dropped_lines();
    if lost > 0 {
        tracing::warn!(lost, "dropped {lost} log lines because stderr was too slow");
    }
    ended
}

/// Brings the ledger's schema up to date and says what it is now.
pub fn migrate(config: &Config) -> anyhow::Result<String> {
    let version = one_thread()?.block_on(stores::migrate(config))?;
    Ok(format!("the ledger has schema version {version}, which is the newest"))
}

/// A sale whose gate was loaded anew.
pub struct Rebuilt {
    /// The sale.
    pub sale_id: String,
    /// Its shards.
    pub shards: u16,
    /// Those of them whose gate could not be reached.
    pub not_loaded: usize,
}

/// Loads the gate anew from the ledger, beside running engines.
pub fn rebuild(config: &Config) -> anyhow::Result<Vec<Rebuilt>> {
    if matches!(config.gate, config::GateAddress::Memory) {
        bail!("a memory gate lives and dies with its engine: there is none to rebuild; name one with --gate");
    }
    one_thread()?.block_on(async {
        let ledger = stores::existing_ledger(config).await?;
        let gate = stores::gate(config, ledger.as_ref()).await?;
        let rebuilt = engine::rebuild(gate.as_ref(), ledger.as_ref(), Clock::System.now_ms()).await;
        ledger.close().await;
        let shown = |(sale, not_loaded): (Arc<Sale>, usize)| Rebuilt {
            sale_id: sale.id.as_str().to_owned(),
            shards: sale.rules.shards,
            not_loaded,
        };
        Ok(rebuilt?.into_iter().map(shown).collect())
    })
}

/// Audits the ledger itself, without a running server.
pub fn verify(config: &Config, sale_id: Option<&str>) -> anyhow::Result<Vec<Check>> {
    one_thread()?.block_on(async {
        let ledger = stores::existing_ledger(config).await?;
        let checks = audit(ledger.as_ref(), sale_id).await;
        ledger.close().await;
        checks
    })
}

async fn audit(ledger: &dyn Ledger, sale_id: Option<&str>) -> anyhow::Result<Vec<Check>> {
    let sale = match sale_id {
        None => None,
        Some(id) => {
            let sales = ledger.sales(0).await?;
            let found = sales.iter().find(|sale| sale.id.as_str() == id).map(|sale| sale.no);
            Some(found.ok_or_else(|| anyhow!("there is no sale {id} in this ledger"))?)
        }
    };
    Ok(ledger.audit(sale).await?)
}

fn one_thread() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().context("start the runtime")
}

async fn run(config: Config, demo: bool) -> anyhow::Result<()> {
    // Asked for before anything is open, so that a signal during start-up is not lost.
    let mut stop = Stop::new()?;
    // A file that may not grow fails its write, as on a full disk; without a handler the signal would end the process.
    let _file_too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?;
    let connections = descriptors::share(descriptors::raise()?)?;
    let ledger = stores::ledger(&config).await?;
    let gate = stores::gate(&config, ledger.as_ref()).await?;
    let secrets: Vec<&str> = config.tokens.keys.iter().map(config::Secret::expose).collect();
    let options = engine::Options {
        on_gate_failure: config.on_gate_failure,
        tokens: PurchaseTokens::new(&secrets),
        token_ttl_ms: i64::try_from(config.tokens.ttl_s)?.saturating_mul(1000),
    };
    let engine = Engine::start(gate, ledger, Clock::System, Arc::new(Metrics::default()), options).await?;

    let providers = config.payments.providers().map_err(|unusable| anyhow!("{}: {}", unusable.key, unusable.advice))?;
    let sampler = Arc::new(Sampler::new(config.log.trace_one_in));
    let guard = auth::request_guard(&config)?;
    let intake = Arc::new(Intake { engine: engine.clone(), guard, sampler: sampler.clone() });
    let buyers = Arc::new(HttpIntake::new(intake, providers)?);
    let token = config.admin.token.as_ref().filter(|_| !config::is_loopback(config.admin_listen));
    if token.is_none() && config.admin.token.is_some() {
        tracing::info!("admin.token is set but not required: the admin listener is on loopback");
    }
    let admin_token = token.map(config::Secret::expose);
    let admin = Arc::new(AdminHandler::new(engine.clone(), admin_token, config.shards, sampler)?);
    let public = listen(config.listen, "listen")?;
    let private = listen(config.admin_listen, "admin-listen")?;
    if demo {
        make_demo_sale(&engine, config.shards).await?;
    }
    greet(public.local_addr()?, private.local_addr()?, demo.then_some(config.auth.mode))?;

    let (public_stop, private_stop) = (CancellationToken::new(), CancellationToken::new());
    let public = tokio::spawn(http::serve(public, buyers, connections.public, public_stop.clone()));
    let private = tokio::spawn(http::serve(private, admin.clone(), connections.admin, private_stop.clone()));

    let failed_task = tokio::select! {
        signal = stop.wait() => {
            tracing::info!(signal, "{signal}: stopping; readiness is off, running requests finish, then the ledger closes");
            None
        }
        task = engine.failed() => {
            tracing::error!(task, "stopping because the engine's task {task} panicked: what is in flight is finished first");
            Some(task)
        }
    };
    admin.drain();
    let timeout_s = config.drain.timeout_s;
    // On a task of its own: closing the ledger may block, and a second signal must still end the process.
    let drained = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_secs(config.drain.delay_s)).await;
        public_stop.cancel();
        let deadline = Instant::now() + Duration::from_secs(timeout_s);
        let connections_done = tokio::time::timeout_at(deadline, public).await.is_ok();
        let orders_done = engine.drain(deadline).await;
        private_stop.cancel();
        // Probes are not worth waiting for.
        private.abort();
        connections_done && orders_done
    });
    tokio::select! {
        finished = drained => {
            if !finished? {
                bail!("not everything was finished within {timeout_s} s; what was not recorded is settled by its retry");
            }
        }
        signal = stop.wait() => {
            let mut screen = anstream::stderr().lock();
            writeln!(screen, "{signal} came a second time: leaving at once; what was not recorded is settled by its retry")?;
            // Without waiting for anything: a disk that hangs would keep the ledger's threads for ever.
            std::process::exit(1);
        }
    }
    if let Some(task) = failed_task {
        bail!("the engine's task {task} panicked, which is a bug; what was acknowledged is recorded");
    }
    tracing::info!("stopped");
    Ok(())
}

fn listen(address: SocketAddr, flag: &str) -> anyhow::Result<tokio::net::TcpListener> {
    http::listen(address).with_context(|| format!("cannot listen on {address}; choose another with --{flag}"))
}

/// SIGTERM, SIGINT or SIGHUP: a terminal that closes stops its engine as cleanly as any other.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
    /// `None` under `nohup`, whose whole purpose is that this signal is ignored.
    hang_up: Option<Signal>,
}

impl Stop {
    fn new() -> std::io::Result<Self> {
        let [terminate, interrupt] = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        let hang_up = if ignores_hang_up() { None } else { Some(signal(SignalKind::hangup())?) };
        Ok(Stop { terminate: terminate?, interrupt: interrupt?, hang_up })
    }

    async fn wait(&mut self) -> &'static str {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = hang_up => "SIGHUP",
        }
    }
}

/// Whether whoever started this process had it ignore SIGHUP. Where there is no `/proc`, it did not.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).is_some_and(|set| set & 1 == 1)
}

/// Says where the listeners are, and with a demo sale how to buy its first unit.
fn greet(public: SocketAddr, private: SocketAddr, demo: Option<AuthMode>) -> std::io::Result<()> {
    let mut screen = anstream::stdout().lock();
    writeln!(screen, "public http://{public}")?;
    writeln!(screen, "admin http://{private}")?;
    if let Some(mode) = demo {
        let who = match mode {
            AuthMode::None | AuthMode::Gateway => "-H 'X-User-Id: 42'",
            AuthMode::Jwt => "-H \"Authorization: Bearer $TOKEN\"",
        };
        writeln!(screen, "\nBuy a unit, in another terminal:\n")?;
        writeln!(
            screen,
            "  curl -i http://{public}/v1/orders -H 'Content-Type: application/json' {who} \
             -H 'Idempotency-Key: first' -d '{{\"sale_id\":\"demo\",\"sku_id\":\"sku-1\",\"quantity\":1}}'"
        )?;
        writeln!(screen, "\nSend the same line again: the same order is replayed. Stop with Ctrl-C.")?;
    }
    screen.flush()
}

/// The sale of `serve --demo`, if it is not there.
async fn make_demo_sale(engine: &Arc<Engine>, shards: u16) -> anyhow::Result<()> {
    if engine.sale("demo").await.is_ok() {
        return Ok(());
    }
    let invalid = |_| anyhow!("the demo sale is not valid");
    let sku = NewSku {
        id: Name::parse("sku-1").map_err(invalid)?,
        stock: 10_000,
        unit_price: 1999,
        currency: Currency::parse("CNY").map_err(invalid)?,
    };
    let rules = Rules { shards, ..Rules::default() };
    let new = NewSale { id: Name::parse("demo").map_err(invalid)?, rules, shards_named: false, skus: vec![sku] };
    engine.create_sale(new).await.map_err(|refusal| anyhow!("make the demo sale: {}", refusal.code.as_str()))?;
    Ok(())
}
