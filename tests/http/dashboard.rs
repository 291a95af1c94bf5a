//! The dashboard: one page with everything in it, which asks nobody but its own listener.

use crate::client::get;
use crate::contract::assert_refused;
use crate::server::Server;

#[test]
fn the_page_is_whole_and_asks_nobody_else() {
    let server = Server::start();
    let answer = server.operator().send(get("/"));
    assert_eq!((answer.status, &*answer.media_type()), (200, "text/html"), "{answer}");
    let policy = answer.header("Content-Security-Policy").unwrap();
    let directives: Vec<&str> = policy.split(';').map(str::trim).collect();
    for directive in ["default-src 'none'", "connect-src 'self'", "form-action 'none'", "frame-ancestors 'none'"] {
        assert!(directives.contains(&directive), "{policy}");
    }
    let page = String::from_utf8(answer.body.clone()).unwrap();
    // Nothing is loaded, and no text of the server becomes markup or code.
    for bad in ["<link", "<base", "src=", "url(", "@import", "import(", "eval(", "new Function", "document.write"] {
        assert!(!page.contains(bad), "{bad}");
    }
    for bad in ["innerHTML", "outerHTML", "insertAdjacentHTML", "srcdoc", "DOMParser", "createContextualFragment"] {
        assert!(!page.contains(bad), "{bad}");
    }
    assert_refused(&server.stranger().send(get("/")), "not_found");
    server.finish();
}

#[test]
fn the_page_reads_metrics_that_there_are() {
    let server = Server::start();
    let mut operator = server.operator();
    let page = String::from_utf8(operator.send(get("/")).body).unwrap();
    let metrics = String::from_utf8(operator.send(get("/metrics")).body).unwrap();
    for name in [
        "outcomes_total",
        "ledger_append_seconds_bucket",
        "ledger_append_failures_total",
        "orders_in_flight",
        "requests_waiting",
        "ledger_well",
    ] {
        assert!(page.contains(&format!("'{name}'")), "the page does not read {name}");
        let sample = format!("rushgate_{name}");
        assert!(metrics.lines().any(|line| line.split(['{', ' ']).next() == Some(&*sample)), "no {sample}");
    }
    for name in ["ledger_append_failures", "handler_panics", "unsettled_moves", "rolled_forward_orders"] {
        assert!(page.contains(&format!("'{name}'")), "the page does not read {name}");
        assert!(metrics.contains(&format!("\nrushgate_{name}_total ")), "no {name}");
    }
    for code in ["created", "replayed"] {
        assert!(metrics.contains(&format!("\nrushgate_outcomes_total{{code=\"{code}\"}} ")), "no {code}");
    }
    server.finish();
}

/// Dashboards and alerts that name a metric nobody exports stay empty and silent.
#[test]
fn what_grafana_and_prometheus_are_set_up_with_exists() {
    let server = Server::start();
    let metrics = String::from_utf8(server.operator().send(get("/metrics")).body).unwrap();
    let mut named = std::collections::BTreeSet::new();
    for file in ["prometheus/rules.yml", "grafana/dashboards/rushgate.json"] {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        named.extend(words.filter(|word| word.starts_with("rushgate_")).map(str::to_owned));
    }
    assert!(named.len() > 10, "{named:?}");
    for name in named {
        assert!(metrics.contains(&format!("\n{name} ")) || metrics.contains(&format!("\n{name}{{")), "no {name}");
    }
    server.finish();
}
