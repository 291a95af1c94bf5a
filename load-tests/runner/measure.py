"""One stack, every path, every tool, in turns."""

import os
import re
import signal
import time

from . import report, traffic
from .about import about
from .books import Books
from .check import check
from .process import Failed, say, warn
from .tools import Tool

PLENTY = 1_000_000_000


class Measurement:
    def __init__(self, options, stack):
        self.options, self.stack, self.books = options, stack, Books(stack)
        self.tools = {name: Tool(name, options, stack.work) for name in options.tools}
        self.run = f"{int(time.time())}-{os.getpid()}"
        self.keys = 500 if options.quick else traffic.KEYS
        self.samples, self.failures, self.notes = [], [], []
        self.answers = self.rows = self.refusals = 0
        self.floored, self.noted = set(), set()

    def all(self):
        options = self.options
        say("making the sales")
        self.books.make_sale("accepted", PLENTY)
        self.books.make_sale("replay", self.keys * 2)
        self.books.make_sale("sold_out", 1)
        self.books.make_sale("storm", 1_000_000)
        self.books.order_each("replay", self.run, self.keys)
        self.books.order_each("sold_out", self.run, 1)
        if not options.quick:
            say("warming up")
            for path in options.paths:
                for tool in options.tools:
                    self._one(path, tool, 0, 1)
        for repeat in range(1, options.repeats + 1):
            for path in options.paths:
                for tool in options.tools:
                    say(f"repeat {repeat} of {options.repeats}: {path}, {tool}")
                    self._one(path, tool, repeat, options.seconds)
        if not options.quick:
            self._refusals_take_no_memory()
        findings = self.books.audit()
        if findings:
            self._fail(f"the books do not balance: {findings}")
        self._leave()

    def _fail(self, text):
        self.failures.append(text)
        warn(f"FAIL: {text}")

    def _note(self, text):
        # The same with other numbers is said once.
        shape = re.sub(r"\d+", "N", text)
        if shape not in self.noted:
            self.noted.add(shape)
            self.notes.append(text)

    def _one(self, path, tool, repeat, seconds):
        """The echo, then the engine, asked with the same requests. Repeat 0 is the warm-up."""
        which = f"{tool}-{repeat}"
        run = traffic.run_name(path, self.run, which)
        sale, stock = traffic.SALE.get(path), None
        if path == "mixed":
            sale, stock = f"mixed-{which}", self._less_than_wanted(tool, seconds)
            self.books.make_sale(sale, stock)
        if not (self.options.quick and tool in self.floored):
            self.floored.add(tool)
            self._echo(path, tool, sale, run, repeat, seconds)
        load, rows, drain, cpu_us, peak = self._engines(path, tool, sale, run, seconds, stock)
        if repeat:
            self.samples.append(report.sample(path, tool, "rushgate", repeat, load, rows, drain, cpu_us, peak))

    def _less_than_wanted(self, tool, seconds):
        """Units for a rush: half of the orders that would be made of what can be sent, so that it sells out midway."""
        if tool == "k6":
            return max(1, self.options.rate * seconds // 3)
        known = [one["requests_per_s"] for one in self.samples if (one["path"], one["tool"]) == ("accepted", tool)]
        return max(100, int(known[-1] * seconds / 3) if known else 2000 * seconds)

    def _echo(self, path, tool, sale, run, repeat, seconds):
        echo = self.stack.echo
        self.books.quiet([echo])
        echo.forget_peak()
        before = echo.cpu_us()
        load = self.tools[tool].run(path, [echo.url], sale, run, seconds, self.keys, floor=True)
        if load.broken or load.refused:
            self._fail(f"echo beside {path}, {tool}: {load.broken} broken, {load.refused} no 2xx")
        if load.dropped:
            self._note(f"echo beside {path}, {tool}: {load.dropped} requests could not be sent when they were due, so the "
                       "ratio to it says nothing")
        if repeat:
            cpu_us = {"engine": echo.cpu_us() - before, "client": load.client_us}
            self.samples.append(report.sample(path, tool, "echo", repeat, load, None, None, cpu_us, echo.peak_mib()))

    def _engines(self, path, tool, sale, run, seconds, stock):
        engines, books = self.stack.engines, self.books
        busy = [*engines, *self.stack.redis]
        books.quiet(busy)
        rows_before, counters_before = books.rows(sale), books.counters()
        for engine in engines:
            engine.forget_peak()
        cpu_before = self.stack.cpu_us()
        load = self.tools[tool].run(path, [engine.url for engine in engines], sale, run, seconds, self.keys)
        drain = books.drain()
        counters = books.counters()
        books.quiet(busy)
        # Work that was put off is the orders' too.
        cpu_us = {name: used - cpu_before[name] for name, used in self.stack.cpu_us().items()}
        cpu_us["client"] = load.client_us
        new_rows = books.rows(sale) - rows_before
        failures, notes, answers = check(path, tool, load, counters_before, counters, new_rows, self.options, stock)
        for failure in failures:
            self._fail(f"{path}, {tool} (run of {load.requests} requests): {failure}")
        for note in notes:
            self._note(f"{path}, {tool}: {note}")
        self.answers += answers
        self.rows += new_rows
        return load, new_rows, drain, cpu_us, sum(engine.peak_mib() for engine in engines)

    def _refusals_take_no_memory(self):
        tool = next((name for name in ["wrk", "oha"] if name in self.tools), None)
        if not tool:
            return self._note("whether refusals take memory was not looked at: that needs wrk or oha")
        say("refusals take no memory?")
        self._refuse(tool, "memory-warm", 1)
        before = sum(engine.resident_kib() for engine in self.stack.engines)
        self.refusals = self._refuse(tool, "memory", self.options.seconds)
        after = sum(engine.resident_kib() for engine in self.stack.engines)
        self._note(f"{self.refusals} refusals (sold out, malformed, reused keys): "
                   f"{before // 1024} MiB before, {after // 1024} MiB after")
        # The allocator keeps what it likes; a record per refusal would be 50 bytes and more.
        if after - before > max(4096, self.refusals // 64):
            self._fail(f"{self.refusals} refusals took {after - before} KiB")

    def _refuse(self, tool, which, seconds):
        sent = 0
        for path in ["sold_out", "malformed", "reused"]:
            run = traffic.run_name(path, self.run, which)
            sent += self._engines(path, tool, traffic.SALE[path], run, seconds, None)[0].requests
        return sent

    def _leave(self):
        for engine in self.stack.engines:
            engine.child.send_signal(signal.SIGTERM)
        for engine in self.stack.engines:
            code = engine.stop(30, told=True)
            if code is None:
                self._fail(f"{engine.name} was still there 30 s after SIGTERM")
            elif code:
                self._fail(f"{engine.name} left with exit code {code}")

    def about(self):
        if self.stack.is_in_memory():
            self._note("the stores are in memory, so a commit costs nothing: set TMPDIR to a real disk")
        return {
            **about(self.stack),
            "tools": "; ".join(tool.version() for tool in self.tools.values()),
            "runs": f"{self.options.repeats} x {self.options.seconds} s a path and tool, on the same CPUs as the load",
            "lifted": "no authentication, no rate limit",
        }


def measure(options, stack):
    """The exit code."""
    measurement = Measurement(options, stack)
    told = measurement.about()
    for name, text in told.items():
        say(f"{name:12}{text}")
    try:
        measurement.all()
    except Failed as failed:
        ended = [f"{each.name} has ended, exit code {each.child.returncode}" for each in stack.engines if not each.lives()]
        measurement.failures += [str(failed), *ended]
    say("")
    if measurement.samples:
        say(report.table(measurement.samples, options.paths, options.tools))
        say("")
    say(f"checked   {measurement.answers} answers, {measurement.rows} rows, the audit, exit codes after SIGTERM"
        if not measurement.failures else "checked   and found wanting")
    for note in measurement.notes:
        say(f"note      {note}")
    for failure in measurement.failures:
        warn(f"FAIL      {failure}")
    if measurement.failures:
        for line in stack.complaints():
            warn(f"          {line}")
    if options.json:
        report.write_json(options.json, told, measurement.samples, measurement.failures, measurement.notes)
    return 1 if measurement.failures else 0
