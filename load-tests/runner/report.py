"""The table of a run, and the same figures as JSON."""

import json
import statistics

# Column, the figure of a sample, how it is printed.
FIGURES = [
    ("requests/s", "requests_per_s", "{:.0f}"),
    ("durable/s", "durable_per_s", "{:.0f}"),
    ("drain ms", "drain_ms", "{:.0f}"),
    ("p50 ms", "p50_ms", "{:.2f}"),
    ("p99 ms", "p99_ms", "{:.2f}"),
    ("p99.9 ms", "p999_ms", "{:.2f}"),
]
PROCESSES = ["engine", "redis", "postgres", "client"]


def sample(path, tool, which, repeat, load, rows, drain, cpu_us, peak_mib):
    """What one run of one tool gave. Durable orders are counted over the time until the last is recorded."""
    seconds = load.microseconds / 1e6
    return {
        "path": path, "tool": tool, "of": which, "repeat": repeat, "requests": load.requests, "seconds": seconds,
        "requests_per_s": load.requests / seconds, "rows": rows,
        "durable_per_s": None if rows is None else rows / (seconds + drain),
        "drain_ms": None if drain is None else drain * 1000,
        **{f"{name}_ms": None if getattr(load, name) is None else getattr(load, name) / 1000 for name in ["p50", "p99", "p999"]},
        "refused": load.refused, "dropped": load.dropped,
        "cpu_us": {name: used / load.requests for name, used in cpu_us.items()}, "peak_mib": peak_mib,
    }


def _median(samples, figure):
    values = [one[figure] for one in samples if one[figure] is not None]
    return statistics.median(values) if values else None


def _row(label, tool, samples, floor, processes):
    cells = [label, tool]
    for _, figure, style in FIGURES:
        value = _median(samples, figure)
        cells.append("-" if value is None else style.format(value))
    for name in processes:
        values = [one["cpu_us"][name] for one in samples if name in one["cpu_us"]]
        cells.append(f"{statistics.median(values):.1f}" if values else "-")
    cells.append(f"{_median(samples, 'peak_mib'):.0f}")
    return cells + _ratio(samples, floor)


def _ratio(samples, floor):
    """To the echo that ran just before it, or the one there is: the median of the ratios, and the range."""
    if not floor:
        return ["", ""]
    by_repeat = {one["repeat"]: one for one in floor}
    ratios = [one["requests_per_s"] / by_repeat.get(one["repeat"], floor[0])["requests_per_s"] for one in samples]
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}" if len(ratios) > 1 else ""
    return [f"{statistics.median(ratios):.2f}", spread]


def table(samples, paths, tools, shares_echo=True):
    processes = [name for name in PROCESSES if any(name in one["cpu_us"] for one in samples)]
    head = ["path", "tool", *(title for title, _, _ in FIGURES), *(f"{name} us" for name in processes), "MiB",
            "of echo", "min-max"]
    rows = [head]

    def of(path, tool, which):
        return [one for one in samples if (one["path"], one["tool"], one["of"]) == (path, tool, which)]

    for path in paths:
        for tool in tools:
            floor = of(path, tool, "echo")
            shared = next((of(other, tool, "echo") for other in paths if shares_echo and of(other, tool, "echo")), [])
            ours = of(path, tool, "rushgate")
            if ours:
                rows.append(_row(path, tool, ours, floor or shared, processes))
            if floor:
                rows.append(_row("  echo", tool, floor, [], processes))
    widths = [max(len(row[at]) for row in rows) for at in range(len(head))]
    lines = []
    for row in rows:
        left = [cell.ljust(width) for cell, width in zip(row[:2], widths[:2])]
        right = [cell.rjust(width) for cell, width in zip(row[2:], widths[2:])]
        lines.append("  ".join(left + right).rstrip())
    return "\n".join(lines)


def write_json(file, about, samples, failures, notes):
    with open(file, "w", encoding="utf-8") as out:
        json.dump({"about": about, "samples": samples, "failures": failures, "notes": notes}, out, indent=1)
        out.write("\n")
