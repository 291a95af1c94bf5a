//! `sale`: make, look at and steer the sales of a running server.

mod create;
mod show;

use clap::{Args, Subcommand};
use http::StatusCode;
use serde_json::json;

use super::client::{ServerAnswer, ServerFlags};
use super::{CommandError, screen};
use crate::order::NameRef;
use show::{ShownSale, ShownSales};

/// Make, list, show, restock, pause, resume or end a sale
#[derive(Subcommand)]
#[command(after_help = "\
EXAMPLES
  rushgate sale create demo --sku sku-1:10000:1999:CNY
  rushgate sale list
  rushgate sale pause demo")]
pub(super) enum SaleCommand {
    Create(create::Create),
    List(List),
    Show(ShowArgs),
    Restock(RestockArgs),
    Pause(Pause),
    Resume(Resume),
    End(End),
}

/// List all sales with their units
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate sale list
  rushgate sale list --json --server http://10.0.0.5:9090")]
pub(super) struct List {
    #[command(flatten)]
    ask: Ask,
}

/// Show one sale: its rules, its state and its units
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate sale show demo
  rushgate sale show demo --json")]
pub(super) struct ShowArgs {
    #[command(flatten)]
    sale: OneSale,
}

/// Put units on sale, or take unsold ones away; once per change id
#[derive(Args)]
#[command(after_help = "\
The same command again changes nothing: --change-id names the change.

EXAMPLES
  rushgate sale restock demo --sku sku-1 --quantity 500 --change-id delivery-17
  rushgate sale restock demo --sku sku-1 --quantity -20 --change-id damaged-3")]
pub(super) struct RestockArgs {
    /// The sku
    #[arg(long, value_name = "SKU_ID", value_parser = name)]
    sku: String,
    /// Units, negative to take away
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    quantity: i64,
    /// Your id of this change: 1-64 letters, digits, dots, underscores or dashes
    #[arg(long, value_name = "ID", value_parser = name)]
    change_id: String,
    #[command(flatten)]
    sale: OneSale,
}

/// Refuse orders until the sale is resumed
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate sale pause demo")]
pub(super) struct Pause {
    #[command(flatten)]
    sale: OneSale,
}

/// Take orders again after a pause
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate sale resume demo")]
pub(super) struct Resume {
    #[command(flatten)]
    sale: OneSale,
}

/// End the sale for good; its orders can still be paid, cancelled and read
#[derive(Args)]
#[command(after_help = "\
EXAMPLES
  rushgate sale end demo")]
pub(super) struct End {
    #[command(flatten)]
    sale: OneSale,
}

/// How to ask, and how to print what comes back.
#[derive(Args)]
struct Ask {
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Args)]
struct OneSale {
    /// The sale
    #[arg(value_name = "SALE_ID", value_parser = name)]
    sale_id: String,
    #[command(flatten)]
    ask: Ask,
}

impl SaleCommand {
    pub(super) fn run(&self) -> Result<(), CommandError> {
        match self {
            SaleCommand::Create(create) => create.run(),
            SaleCommand::List(list) => list.run(),
            SaleCommand::Show(ShowArgs { sale }) => {
                let answer = sale.ask.server.client()?.get(&sale.path(""))?;
                sale.ask.print(&answer, |answer| Ok(answer.read::<ShownSale>()?.in_full()))
            }
            SaleCommand::Restock(restock) => restock.run(),
            SaleCommand::Pause(Pause { sale }) => sale.steer("/pause"),
            SaleCommand::Resume(Resume { sale }) => sale.steer("/resume"),
            SaleCommand::End(End { sale }) => sale.steer("/end"),
        }
    }
}

impl List {
    fn run(&self) -> Result<(), CommandError> {
        let answer = self.ask.server.client()?.get("/admin/v1/sales")?;
        self.ask.print(&answer, |answer| Ok(answer.read::<ShownSales>()?.as_table()))
    }
}

impl RestockArgs {
    fn run(&self) -> Result<(), CommandError> {
        let body = json!({"change_id": self.change_id, "sku_id": self.sku, "quantity": self.quantity});
        let ask = &self.sale.ask;
        let answer = ask.server.client()?.post(&self.sale.path("/restock"), body.to_string())?;
        ask.print(&answer, |answer| Ok(answer.read::<ShownSale>()?.levels()))
    }
}

impl OneSale {
    fn path(&self, operation: &str) -> String {
        format!("/admin/v1/sales/{}{operation}", self.sale_id)
    }

    fn steer(&self, operation: &str) -> Result<(), CommandError> {
        let answer = self.ask.server.client()?.post(&self.path(operation), "{}")?;
        self.ask.print(&answer, |answer| Ok(answer.read::<ShownSale>()?.in_brief()))
    }
}

impl Ask {
    fn print(
        &self,
        answer: &ServerAnswer,
        words: impl FnOnce(&ServerAnswer) -> Result<String, CommandError>,
    ) -> Result<(), CommandError> {
        screen::out(&if self.json { answer.text() } else { words(answer)? })
    }
}

/// What a creation did: 201 is new, 200 was there before.
fn created(answer: &ServerAnswer) -> Result<String, CommandError> {
    let sale: ShownSale = answer.read()?;
    let outcome = if answer.status == StatusCode::CREATED { "created" } else { "there already, with the same content" };
    Ok(format!("{outcome}\n{}", sale.in_brief()))
}

/// A sale, sku or change id.
pub(super) fn name(text: &str) -> Result<String, String> {
    let rule = "must be 1-64 letters, digits, dots, underscores or dashes";
    if NameRef::parse(text).is_ok() { Ok(text.to_owned()) } else { Err(rule.to_owned()) }
}

#[cfg(test)]
mod tests;
