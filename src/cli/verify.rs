//! `verify`: do the books balance? Asks a running server, or reads the ledger itself.

use clap::Args;
use serde::{Deserialize, Serialize};

use super::client::ServerFlags;
use super::sale::name;
use super::settings::LedgerFlags;
use super::table::table;
use super::{CommandError, screen};
use crate::app;

/// Audit the books: exit code 0 if they balance, 1 if not
#[derive(Args)]
#[command(after_help = "\
The command asks a running server, which also compares its gate with the ledger, unless --data-dir, --ledger or --config
says where the ledger is.

EXAMPLES
  rushgate verify
  rushgate verify --sale demo --json
  rushgate verify --data-dir ./data")]
pub(super) struct Verify {
    /// Audit this sale only
    #[arg(long, value_name = "SALE_ID", value_parser = name)]
    sale: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    ledger: LedgerFlags,
    /// Refused with advice: other commands take it beside --ledger
    #[arg(long, value_name = "GATE", hide = true)]
    gate: Option<String>,
    #[command(flatten)]
    server: ServerFlags,
}

/// The report, as the admin listener words it.
#[derive(Serialize, Deserialize)]
struct AuditReport {
    ok: bool,
    checks: Vec<ReportedCheck>,
}

#[derive(Serialize, Deserialize)]
struct ReportedCheck {
    name: String,
    ok: bool,
    detail: String,
}

impl Verify {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        let usage = |text: &str| Err(CommandError::Usage(text.to_owned()));
        if self.gate.is_some() {
            return usage(
                "verify does not read a gate by itself: a running server compares its gate with the ledger; leave --gate \
                 out, and name the server with --server",
            );
        }
        if self.ledger.any() && self.server.server.is_some() {
            return usage(
                "verify asks a server (--server) or reads the ledger (--data-dir, --ledger, --config), not both",
            );
        }
        let report = if self.ledger.any() { self.read_ledger()? } else { self.ask_server()? };
        screen::out(&if self.json { json(&report)? } else { shown(&report) })?;
        if report.balances() { Ok(()) } else { Err(CommandError::Unbalanced) }
    }

    fn ask_server(&self) -> Result<AuditReport, CommandError> {
        let path = match &self.sale {
            Some(sale) => format!("/admin/v1/verify?sale_id={sale}"),
            None => "/admin/v1/verify".to_owned(),
        };
        self.server.client()?.audit(&path)?.read()
    }

    fn read_ledger(&self) -> Result<AuditReport, CommandError> {
        let loaded = self.ledger.load()?;
        let checks: Vec<ReportedCheck> = app::verify(&loaded.config, self.sale.as_deref())?
            .into_iter()
            .map(|check| ReportedCheck { name: check.name.to_owned(), ok: check.ok, detail: check.detail })
            .collect();
        Ok(AuditReport { ok: checks.iter().all(|check| check.ok), checks })
    }
}

impl AuditReport {
    /// One bad check is enough, whatever the summary says.
    fn balances(&self) -> bool {
        self.ok && self.checks.iter().all(|check| check.ok)
    }
}

fn json(report: &AuditReport) -> Result<String, CommandError> {
    serde_json::to_string_pretty(report)
        .map_err(|error| CommandError::NotDone(format!("cannot print the report: {error}")))
}

fn shown(report: &AuditReport) -> String {
    let row = |check: &ReportedCheck| vec![check.name.clone(), yes_or_no(check.ok), check.detail.clone()];
    let checks = table(&["check", "ok", "detail"], &report.checks.iter().map(row).collect::<Vec<_>>());
    let conclusion = if report.balances() { "books balance" } else { "books do not balance" };
    format!("{checks}\n{conclusion}")
}

fn yes_or_no(ok: bool) -> String {
    if ok { "yes" } else { "NO" }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(ok: bool, checks: &[bool]) -> AuditReport {
        let check = |ok: &bool| ReportedCheck { name: "stock".into(), ok: *ok, detail: "3 = 1 + 1 + 1".into() };
        AuditReport { ok, checks: checks.iter().map(check).collect() }
    }

    #[test]
    fn the_last_line_is_the_conclusion() {
        let text = shown(&report(true, &[true, true]));
        assert_eq!(text.lines().last(), Some("books balance"));
        assert_eq!(text.lines().count(), 4);
        assert_eq!(shown(&report(false, &[false])).lines().last(), Some("books do not balance"));
    }

    #[test]
    fn one_bad_check_is_enough() {
        assert!(!report(true, &[true, false]).balances());
        assert!(!report(false, &[true]).balances());
        assert!(report(true, &[]).balances());
    }
}
