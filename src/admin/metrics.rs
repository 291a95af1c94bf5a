//! `/metrics`: the engine's counters in the OpenMetrics text format.

use std::fmt;
use std::sync::Arc;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::engine::Engine;
use crate::metrics::{Counter, Histogram};
use crate::order::{Code, Note, Step};

/// Renders the counters of one engine.
pub(super) struct MetricsRegistry {
    registry: Registry,
}

impl MetricsRegistry {
    pub(super) fn new(engine: Arc<Engine>) -> Self {
        let mut registry = Registry::with_prefix("rushgate");
        registry.register_collector(Box::new(EngineCollector(engine)));
        MetricsRegistry { registry }
    }

    pub(super) fn text(&self) -> String {
        let mut page = String::new();
        if text::encode(&mut page, &self.registry).is_err() {
            crate::bug!("a metric cannot be written to memory; the page lacks it");
        }
        page
    }
}

/// Reads every counter of an engine when it is asked.
struct EngineCollector(Arc<Engine>);

impl fmt::Debug for EngineCollector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EngineCollector")
    }
}

impl Collector for EngineCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        let metrics = self.0.metrics();
        page.outcomes(metrics)?;
        page.histogram("place_seconds", "Time from a parsed order to its answer", &metrics.place_seconds)?;
        page.histogram("ledger_append_seconds", "Time of one ledger transaction", &metrics.append_seconds)?;
        page.histogram("ledger_batch_orders", "Orders in one ledger transaction", &metrics.batch_orders)?;
        page.counter("ledger_append_failures", "Ledger transactions that failed", &metrics.append_failures)?;
        page.counter(
            "rolled_forward_orders",
            "Reservations past their lease that the sweeper appended again",
            &metrics.rolled_forward,
        )?;
        page.counter("transfers", "Moves of units between shards", &metrics.transfers)?;
        page.counter("unsettled_moves", "Moves of units whose outcome was unknown at first", &metrics.unsettled_moves)?;
        page.counter(
            "ungated_orders",
            "Orders that bypassed a gate which could not be used",
            &metrics.bypassed_orders,
        )?;
        page.counter("reconciled_shards", "Shards loaded anew because gate and ledger differed", &metrics.reconciled)?;
        page.counter("settles_lost", "Batches whose settlements the gate did not take", &metrics.settles_lost)?;
        let steps = Step::ALL.iter().filter_map(|step| Some((step.as_str(), metrics.steps(*step)?)));
        page.family("steps", "Steps that orders took on request, or because time ran out", "step", steps)?;
        let reports = Note::ALL.iter().filter_map(|note| Some((note.as_str(), metrics.reports(*note)?)));
        page.family("payment_reports", "Reports of payment providers by their note", "note", reports)?;
        page.counter("returns_lost", "Times that the gate did not take returned units", &metrics.returns_lost)?;
        page.counter("handler_panics", "Handlers that panicked", &metrics.panics)?;
        page.bugs()?;
        let (in_flight, waiting) = self.0.depths();
        page.gauge("orders_in_flight", "Orders between reservation and answer", in_flight)?;
        page.gauge("requests_waiting", "Requests that wait for an order in flight", waiting)?;
        if let Some(gate) = self.0.gate_metrics() {
            page.counter("gate_calls", "Script calls to servers of the gate", &gate.calls)?;
            page.counter("gate_failed_calls", "Script calls that failed or got no answer", &gate.failed_calls)?;
            page.histogram("gate_batch_requests", "Reserve requests in one script call", &gate.batch_requests)?;
            page.counter("gate_connections", "Connections made to servers of the gate", &gate.connections)?;
        }
        page.gauge("gate_shards_out", "Shards that bypass their gate", self.0.shards_bypassed())?;
        page.gauge("gate_servers_down", "Servers of the gate that cannot be used", self.0.gate_servers_down())?;
        page.gauge("ledger_well", "1 if the last ledger transaction went well", usize::from(self.0.is_well()))
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn outcomes(&mut self, metrics: &crate::metrics::Metrics) -> fmt::Result {
        let answers = [("created", &metrics.created), ("replayed", &metrics.replayed)].into_iter();
        let refused = Code::ALL.iter().filter_map(|code| Some((code.as_str(), metrics.refused(*code)?)));
        self.family("outcomes", "Answers by outcome or refusal code", "code", answers.chain(refused))
    }

    fn family<'m>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        counters: impl Iterator<Item = (&'m str, &'m Counter)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, counter) in counters {
            counter.encode(family.encode_family(&[(label, value)])?)?;
        }
        Ok(())
    }

    fn bugs(&mut self) -> fmt::Result {
        let seen = ConstCounter::new(crate::bug::seen());
        seen.encode(self.0.encode_descriptor(
            "bugs",
            "States that cannot be, met by this process",
            None,
            MetricType::Counter,
        )?)
    }

    fn counter(&mut self, name: &str, help: &str, counter: &Counter) -> fmt::Result {
        counter.encode(self.0.encode_descriptor(name, help, None, MetricType::Counter)?)
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) -> fmt::Result {
        histogram.encode(self.0.encode_descriptor(name, help, None, MetricType::Histogram)?)
    }

    fn gauge(&mut self, name: &str, help: &str, value: usize) -> fmt::Result {
        let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
        gauge.encode(self.0.encode_descriptor(name, help, None, MetricType::Gauge)?)
    }
}
