"""Whether a run was right: every answer an expected one, and the rows those that were answered."""

from . import traffic


def check(path, tool, load, before, after, new_rows, options, stock=None):
    """Failures and notes. `before` and `after` are the engines' counters, `stock` what a mixed sale had."""
    failures, notes = [], []
    connections, engines = options.connections, options.engines
    expected = traffic.expected(path, tool)
    outcomes = {code: count - before.outcomes.get(code, 0) for code, count in after.outcomes.items()}

    for code, count in sorted(outcomes.items()):
        if count and code not in expected:
            failures.append(f"{count} answers were {code}")
    if load.broken:
        failures.append(f"{load.broken} requests broke")
    if load.complaint:
        failures.append(load.complaint)
    if load.dropped:
        notes.append(f"k6 could not send {load.dropped} requests when they were due: the rate is above what engine and "
                     "tool do on this machine, and the percentiles miss those requests")

    # What was on its way when the tool stopped is answered to nobody.
    answered = sum(outcomes.get(code, 0) for code in expected)
    refused = sum(outcomes.get(code, 0) for code in expected - {"created", "replayed"})
    unheard = answered - load.requests - load.prepared
    if not 0 <= unheard <= connections:
        failures.append(f"the engine counts {answered} expected answers, {tool} {load.requests}")
    elif not refused - unheard <= load.refused <= refused:
        failures.append(f"{tool} saw {load.refused} replies that were no 2xx, the engine counts {refused}")

    made = outcomes.get("created", 0)
    if path == "storm" and made != 1:
        failures.append(f"one key made {made} orders")
    elif path == "accepted" and made < answered:
        notes.append(f"oha drew {answered - made} of {load.requests} bodies for a second time; those are replays")
        if (answered - made) * 10 > load.requests:
            failures.append("too many replays; take a shorter run, or another tool")
    elif path == "mixed" and outcomes.get("sold_out") and new_rows != stock:
        failures.append(f"sold out was said, but {new_rows} of {stock} units are sold")
    elif path == "mixed" and not outcomes.get("sold_out"):
        notes.append(f"the sale of {stock} units did not sell out")

    recorded = after.others["ledger_batch_orders_sum"] - before.others["ledger_batch_orders_sum"]
    if engines == 1 and new_rows != recorded:
        failures.append(f"{new_rows} new rows, but the engine recorded {recorded} orders")
    # Orders whose client was cut off are recorded, and counted as nobody's answer.
    if not made <= new_rows <= made + connections:
        failures.append(f"{new_rows} new rows, but {made} orders were confirmed")
    elif new_rows != made:
        notes.append(f"{new_rows - made} orders were recorded after {tool} had hung up on them")
    return failures, notes, answered

