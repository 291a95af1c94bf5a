"""One step for each of many orders: how many a second, and what one costs."""

import base64
import hashlib
import hmac
import json
import os
import signal
import time

from . import report
from .about import about
from .books import Books
from .process import Failed, say, warn
from .tools import Load, Tool

# Step, the sale whose orders take it, who asks for it.
STEPS = [("cancel", "cancelled", "buyer"), ("pay", "paid", "provider"), ("refund", "paid", "operator")]
PATIENCE_S = 300  # for all orders to take a step


class Life:
    def __init__(self, options, stack):
        self.options, self.stack, self.books = options, stack, Books(stack)
        self.wrk = Tool("wrk", options, stack.work)
        self.run = f"{int(time.time())}-{os.getpid()}"
        self.samples, self.orders = [], {}

    def all(self):
        for sale in ["cancelled", "paid"]:
            self._make_orders(sale)
        for step, sale, by in STEPS:
            say(f"{step}: {self.options.orders} orders")
            requests = [self._request(step, by, user, order_no) for user, order_no in self.orders[sale].items()]
            self._steps(step, requests, by)
        self._expire()
        findings = self.books.audit()
        if findings:
            raise Failed(f"the books do not balance: {findings}")

    def _make_orders(self, sale, pays_in_s=86400):
        say(f"making {self.options.orders} orders of the sale {sale}")
        self.books.make_sale(sale, self.options.orders, pays_in_s)
        self.orders[sale] = self.books.order_each(sale, f"{self.run}-{sale}", self.options.orders)

    def _request(self, step, by, user, order_no):
        """As it goes over the wire."""
        body, more = "", {}
        if by == "provider":
            path = "/v1/payments/callbacks/standard"
            body = json.dumps({"type": "payment.succeeded", "data": {
                "order_no": order_no, "payment_id": order_no, "amount": 1999, "currency": "CNY"}})
            at = int(time.time())
            signed = hmac.new(self.stack.secret, f"{order_no}.{at}.{body}".encode(), hashlib.sha256).digest()
            more = {"webhook-id": order_no, "webhook-timestamp": at,
                    "webhook-signature": f"v1,{base64.b64encode(signed).decode()}"}
        elif by == "operator":
            path, body = f"/admin/v1/orders/{order_no}/{step}", '{"restock":true}'
            more = {"Idempotency-Key": f"{self.run}-{step}"}
        else:
            path = f"/v1/orders/{order_no}/{step}"
            more = {"Idempotency-Key": f"{self.run}-{step}", "X-User-Id": user}
        head = {"Host": "localhost", "Content-Type": "application/json", "Content-Length": len(body), **more}
        lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", body]
        return "\r\n".join(lines)

    def _steps(self, step, requests, by):
        file = self.stack.work / f"{step}.requests"
        file.write_text("".join(f"{len(one)}\n{one}" for one in requests), newline="")
        stack, before = self.stack, self._taken(step)
        stack.echo.forget_peak()
        floor_cpu = stack.echo.cpu_us()
        floor = self.wrk.run_file(file, [stack.echo.url], seconds=1 if self.options.quick else 3)
        floor_cpu = {"engine": stack.echo.cpu_us() - floor_cpu, "client": floor.client_us}
        self.samples.append(report.sample(step, "wrk", "echo", 1, floor, None, None, floor_cpu, stack.echo.peak_mib()))

        urls = [engine.admin if by == "operator" else engine.url for engine in stack.engines]
        self._measure(step, lambda is_done: self.wrk.run_file(file, urls, PATIENCE_S, is_done), before)

    def _measure(self, step, load_until, before):
        """Runs the load until all orders have taken the step."""
        stack, count = self.stack, self.options.orders
        self.books.quiet([*stack.engines, *stack.redis])
        cpu_before, began, ended = stack.cpu_us(), time.monotonic(), []

        def is_done():
            if not ended and self._taken(step) - before >= count:
                ended.append(time.monotonic())
            return bool(ended)

        load = load_until(is_done)
        if not is_done() or self._taken(step) - before != count:
            raise Failed(f"{self._taken(step) - before} of {count} orders took the step {step}")
        if load.broken:
            raise Failed(f"{step}: {load.broken} requests broke")
        if load.refused:
            warn(f"{step}: {load.refused} requests were refused, and the orders they were for took the step all the same")
        self.books.quiet([*stack.engines, *stack.redis])
        cpu_us = {name: used - cpu_before[name] for name, used in stack.cpu_us().items()}
        if load.client_us:
            cpu_us["client"] = load.client_us
        load.requests, load.microseconds = count, int((ended[0] - began) * 1e6)
        peak = sum(engine.peak_mib() for engine in stack.engines)
        self.samples.append(report.sample(step, "wrk", "rushgate", 1, load, None, None, cpu_us, peak))

    def _expire(self):
        """All at once: the engines sleep until every deadline has passed."""
        timeout_s = 5 + self.options.orders // 1000
        began = time.monotonic()
        self._make_orders("expired", timeout_s)
        if time.monotonic() - began > timeout_s:
            raise Failed(f"making the orders took longer than the {timeout_s} s in which they expire; take fewer")
        before = self._taken("expire")
        for engine in self.stack.engines:
            engine.child.send_signal(signal.SIGSTOP)
        time.sleep(timeout_s + 1)
        say(f"expire: {self.options.orders} orders")
        self._measure("expire", self._sleepers_wake, before)

    def _sleepers_wake(self, is_done):
        for engine in self.stack.engines:
            engine.child.send_signal(signal.SIGCONT)
        end = time.monotonic() + PATIENCE_S
        while not is_done() and time.monotonic() < end:
            time.sleep(0.005)
        return Load(requests=0, microseconds=0, p50=None, p99=None, p999=None, refused=0, broken=0)

    def _taken(self, step):
        return self.books.counters().steps.get(step, 0)


def measure(options, stack):
    """The exit code."""
    life = Life(options, stack)
    for name, text in {**about(stack), "tool": life.wrk.version()}.items():
        say(f"{name:12}{text}")
    life.all()
    steps = [one["path"] for one in life.samples if one["of"] == "rushgate"]
    say("")
    say(report.table(life.samples, steps, ["wrk"], shares_echo=False))
    for line in stack.complaints():
        warn(f"          {line}")
    return 0
