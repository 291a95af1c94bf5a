//! Log lines: to stderr, through a bounded queue that drops lines rather than let a slow terminal or pipe hold up an
//! order. Called once, by the composition code.

use std::io::stderr;

use anstream::{AutoStream, ColorChoice};
use anyhow::Context;
use tracing::Dispatch;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{Config, Log, LogFormat};
use crate::limits;

/// Keeps logging alive. Dropped last, it writes what still waits; give it about a second.
#[must_use = "logging ends when the guard is dropped"]
pub struct Guard {
    dropped: ErrorCounter,
    _writer: WorkerGuard,
}

/// Starts logging as `log.level` and `log.format` say. A second start in one process is an error.
pub fn start(config: &Config) -> anyhow::Result<Guard> {
    let level = &config.log.level;
    let filter = EnvFilter::try_new(level).with_context(|| format!("read log.level = {level:?}"))?;
    let (queue, writer) = NonBlockingBuilder::default()
        .buffered_lines_limit(limits::LOG_LINES_QUEUED_MAX)
        .lossy(true)
        .thread_name("rushgate-log")
        .finish(stderr());
    let dropped = queue.error_counter();
    lines(&config.log, filter, queue, has_colour()).try_init().context("start logging")?;
    // A panic is a line like any other, or it would break up the JSON.
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "panicked")));
    Ok(Guard { dropped, _writer: writer })
}

impl Guard {
    /// Lines dropped so far because stderr was too slow.
    pub fn dropped_lines(&self) -> usize {
        self.dropped.dropped_lines()
    }
}

/// One line per event, and one per sampled span when it closes, with the time it was busy and idle. Times are in UTC.
fn lines<W>(log: &Log, filter: EnvFilter, writer: W, colour: bool) -> Dispatch
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    // Libraries have spans too: nothing is written of them while tracing is off.
    let spans = if log.trace_one_in > 0 { FmtSpan::CLOSE } else { FmtSpan::NONE };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_span_events(spans);
    match log.format {
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).with_ansi(false).finish().into(),
        LogFormat::Text => lines.with_ansi(colour).finish().into(),
    }
}

/// Whether stderr is a terminal that wants colours, which `NO_COLOR` and its kin decide.
fn has_colour() -> bool {
    AutoStream::choice(&stderr()) != ColorChoice::Never
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::Layers;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, trace_one_in: u32) -> String {
        let page = Page::default();
        let writer = page.clone();
        let log = Log { level: "info".to_owned(), format, trace_one_in };
        let lines = lines(&log, EnvFilter::new(&log.level), move || writer.clone(), false);
        tracing::dispatcher::with_default(&lines, || {
            tracing::info!(order_no = "A", n_orders = 3, "appended\u{1b}[2J");
            tracing::debug!("not shown");
            drop(crate::trace::operation("1-1", "POST", "/v1/orders"));
        });
        let bytes = page.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_json_line_is_flat_and_in_utc() {
        let text = logged(LogFormat::Json, 0);
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["level"], &line["order_no"], &line["n_orders"]), (&"INFO".into(), &"A".into(), &3.into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'), "{line}");
        assert_eq!(line["message"], "appended\u{1b}[2J");
    }

    #[test]
    fn a_text_line_cannot_move_the_cursor() {
        let text = logged(LogFormat::Text, 0);
        assert!(text.contains("order_no=\"A\" n_orders=3") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_sampled_span_is_a_line_with_its_times() {
        let text = logged(LogFormat::Json, 1);
        let line: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!((&line["message"], &line["level"]), (&"close".into(), &"INFO".into()));
        let span = &line["span"];
        assert_eq!((&span["name"], &span["request_id"]), (&"operation".into(), &"1-1".into()), "{line}");
        assert!(line["time.busy"].is_string() && line["time.idle"].is_string(), "{line}");
        let text = logged(LogFormat::Text, 1);
        assert!(text.contains("close time.busy=") && text.lines().count() == 2, "{text}");
    }

    #[test]
    fn a_filter_must_be_one() {
        let mut config = Config::load(&Layers::default()).unwrap().config;
        config.log.level = "rushgate=loud".to_owned();
        let error = format!("{:#}", start(&config).err().unwrap());
        assert!(error.starts_with("read log.level = \"rushgate=loud\": "), "{error}");
    }
}
