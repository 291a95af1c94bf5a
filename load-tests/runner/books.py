"""What the engines and the ledger say happened, held against what the load tool saw."""

import dataclasses
import http.client
import json
import re
import threading
import time
import urllib.error
import urllib.request

from .process import Failed

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy of this shell


def ask(url, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"} if data else {})
    try:
        with _OPENER.open(request, timeout=60) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        raise Failed(f"{url} answered {error.code}: {error.read().decode(errors='replace')[:300]}") from None
    except OSError as error:
        raise Failed(f"{url} did not answer: {error}") from None


@dataclasses.dataclass
class Counters:
    outcomes: dict = dataclasses.field(default_factory=dict)  # answers by code
    steps: dict = dataclasses.field(default_factory=dict)  # of orders
    others: dict = dataclasses.field(default_factory=dict)


class Books:
    def __init__(self, stack):
        self.stack = stack

    def make_sale(self, sale, stock, pays_in_s=86400):
        """Nobody pays here, and no order may expire while the rows are counted."""
        engines = self.stack.engines
        ask(f"{engines[0].admin}/admin/v1/sales", {
            "sale_id": sale, "shards": self.stack.options.shards, "payment_timeout_s": pays_in_s,
            "skus": [{"sku_id": "sku-1", "stock": stock, "unit_price": 1999, "currency": "CNY"}]})
        for engine in engines[1:]:
            # Every other engine knows it within a second.
            end = time.monotonic() + 5
            while True:
                try:
                    ask(f"{engine.url}/v1/sales/{sale}")
                    break
                except Failed:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.05)

    def order_each(self, sale, run, count):
        """Orders that are there before the load starts: user N with key RUN-N. Their numbers, by user."""
        failed, made = [], {}

        def order(first, step, engine):
            wire = http.client.HTTPConnection(engine.url.removeprefix("http://"), timeout=30)
            body = json.dumps({"sale_id": sale, "sku_id": "sku-1", "quantity": 1})
            try:
                for number in range(first, count + 1, step):
                    wire.request("POST", "/v1/orders", body, {
                        "Content-Type": "application/json", "X-User-Id": str(number),
                        "Idempotency-Key": f"{run}-{number}"})
                    answer = wire.getresponse()
                    text = answer.read()
                    if answer.status != 201:
                        raise Failed(f"{answer.status}: {text.decode(errors='replace')[:200]}")
                    made[number] = json.loads(text)["order_no"]
            except (OSError, http.client.HTTPException, Failed) as error:
                failed.append(str(error))
            finally:
                wire.close()

        engines = self.stack.engines
        threads = [threading.Thread(target=order, args=(first, 32, engines[first % len(engines)]))
                   for first in range(1, 33)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise Failed(f"could not place the first {count} orders of {sale}: {failed[0]}")
        rows = self.rows(sale)
        if rows != count:
            raise Failed(f"{sale} has {rows} orders instead of the {count} that were placed")
        return made

    def counters(self):
        """The engines' own counters, added up."""
        total = Counters()
        for engine in self.stack.engines:
            for line in ask(f"{engine.admin}/metrics").splitlines():
                found = re.match(r'rushgate_(?:(outcomes|steps)_total\{\w+="(\w+)"\}|(\w+)) ([0-9.]+)', line)
                if found:
                    counts, name = (getattr(total, found[1]), found[2]) if found[1] else (total.others, found[3])
                    counts[name] = counts.get(name, 0) + int(float(found[4]))
        if "created" not in total.outcomes:
            raise Failed("the engine's metrics cannot be read")
        return total

    def rows(self, sale):
        """Orders of a sale, counted where they are recorded; every order here is of one unit."""
        told = self._held_and_sold(sale)
        if not self.stack.postgres:
            return told
        counted = self.stack.postgres.query(
            f"SELECT count(*) FROM orders o JOIN sales s ON s.no = o.sale_no WHERE s.id = '{sale}'", "orders")
        if int(counted) != told:
            raise Failed(f"{sale}: PostgreSQL holds {counted} orders, the admin API says {told}")
        return told

    def _held_and_sold(self, sale):
        told = json.loads(ask(f"{self.stack.engines[0].admin}/admin/v1/sales/{sale}"))
        return sum(sku["held"] + sku["sold"] for sku in told["skus"])

    def drain(self):
        """Seconds until no order is on its way any more."""
        start = time.monotonic()
        while time.monotonic() < start + 60:
            depths = self.counters().others
            if depths["orders_in_flight"] + depths["requests_waiting"] == 0:
                return time.monotonic() - start
            time.sleep(0.01)
        raise Failed("orders are still in flight a minute after the load has ended")

    def quiet(self, processes):
        """Waits until work that was put off is done, so that the next run does not pay for it."""
        step, needed = (0.1, 1) if self.stack.options.quick else (0.2, 2)
        end, still = time.monotonic() + 60, 0
        before = sum(process.cpu_us() for process in processes)
        while time.monotonic() < end:
            time.sleep(step)
            after = sum(process.cpu_us() for process in processes)
            # A few clock ticks are timers; every process may have one and the engines together one more.
            still = still + 1 if after - before <= 10_000 * len(processes) else 0
            before = after
            if still >= needed:
                return
        raise Failed(f"{processes[0].name} is still busy a minute after the load has ended")

    def audit(self):
        told = json.loads(ask(f"{self.stack.engines[0].admin}/admin/v1/verify"))
        return [] if told["ok"] else [check for check in told["checks"] if not check["ok"]]
