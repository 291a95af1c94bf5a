"""What is measured: engines with their stores, and the echo that is their floor."""

import base64
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from . import ports
from .postgres import Postgres
from .process import Failed, Process, call, need, say

ROOT = Path(__file__).resolve().parents[2]


def build(wanted):
    """The engine and the echo, built from this tree."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
    if wanted:
        cargo = need("cargo", "rustup (https://rustup.rs)")
        words = [cargo, "build", "--release", "--locked", "--bin", "rushgate", "--example", "echo"]
        if subprocess.run(words, check=False, cwd=ROOT).returncode:
            raise Failed("the build failed")
    found = target / "rushgate", target / "examples" / "echo"
    for program in found:
        if not os.access(program, os.X_OK):
            raise Failed(f"{program} is not there; leave --no-build out")
    return found


class Server(Process):
    """A program that prints `public http://…` and maybe `admin http://…` once it listens."""

    def __init__(self, name, command, work, env=None):
        super().__init__(name, command, work, env=env)
        self.url = self.wait_until("it printed its address", lambda: self._address("public"))
        self.admin = self._address("admin")

    def _address(self, which):
        for line in self.out.read_text(errors="replace").splitlines():
            if line.startswith(f"{which} http://127.0.0.1:"):
                return line.split()[1]
        return None


class Redis(Process):
    """A node of the gate: nothing is written to disk and nothing is ever evicted."""

    def __init__(self, number, work):
        self.port, self.password = ports.free(), secrets.token_hex(16)
        home = work / f"redis-{number}"
        home.mkdir(mode=0o700)
        (home / "redis.conf").write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {home}\nsave \"\"\nappendonly no\n"
            "maxmemory 512mb\nmaxmemory-policy noeviction\ntcp-backlog 4096\n"
            f"requirepass {self.password}\n")
        server = need("redis-server", "apt-get install redis-server")
        super().__init__(f"redis-{number}", [server, home / "redis.conf"], work)
        self.wait_until("it answered", self._answers)

    def _answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as wire:
                wire.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                return b"+OK" in wire.recv(64)
        except OSError:
            return False

    def url(self):
        return f"redis://:{self.password}@127.0.0.1:{self.port}"


class Stack:
    """Everything that a run starts. Leaving the `with` block stops it all and removes its directory."""

    def __init__(self, options):
        self.options, self.engines, self.redis, self.postgres, self.echo = options, [], [], None, None

    def __enter__(self):
        self.work = Path(tempfile.mkdtemp(prefix="rushgate-load."))
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in [*self.engines, self.echo, *self.redis, self.postgres]:
            if process:
                process.stop(5)
        shutil.rmtree(self.work, ignore_errors=True)

    def _start(self):
        options = self.options
        rushgate, echo = build(options.build)
        self.version = call([rushgate, "--version"]).stdout.strip()
        self.echo = Server("echo", [echo, "127.0.0.1:0"], self.work)
        # The provider's secret, for what reports payments.
        self.secret = secrets.token_bytes(32)
        told = {"RUSHGATE_PAYMENTS_STANDARD_SECRETS": "whsec_" + base64.b64encode(self.secret).decode()}
        env = {}
        if options.stack == "redis-postgres":
            say("starting Redis and PostgreSQL")
            for number in range(options.redis):
                self.redis.append(Redis(number, self.work))
            self.postgres = Postgres(self.work)
            # In variables, where `ps` does not show the passwords.
            env = {"RUSHGATE_GATE": ",".join(node.url() for node in self.redis), "RUSHGATE_LEDGER": self.postgres.url()}
            made = call([rushgate, "migrate"], env={"PATH": os.environ["PATH"], **env}, cwd=self.work)
            if made.returncode:
                raise Failed(f"rushgate migrate failed: {made.stderr.strip() or made.stdout.strip()}")
        for number in range(options.engines):
            data = self.work / f"data-{number}"
            data.mkdir()
            self.engines.append(Server(
                f"rushgate-{number}",
                [rushgate, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--data-dir", data],
                self.work, env={**env, **told}))

    def cpu_us(self):
        """Processor time so far, by kind of process."""
        used = {"engine": sum(engine.cpu_us() for engine in self.engines)}
        if self.redis:
            used["redis"] = sum(node.cpu_us() for node in self.redis)
        if self.postgres:
            used["postgres"] = self.postgres.cpu_us_of_tree()
        return used

    def _disk(self):
        return call(["stat", "--file-system", "--format", "%T", self.work]).stdout.strip() or "an unknown file system"

    def is_in_memory(self):
        return self._disk() == "tmpfs"

    def describe(self):
        if not self.postgres:
            return f"memory gate, SQLite on {self._disk()}"
        redis = call([need("redis-server", ""), "--version"]).stdout
        redis = redis.partition("v=")[2].split()[0]
        return (f"{len(self.redis)} Redis {redis} (no persistence, noeviction), PostgreSQL {self.postgres.version} "
                f"(fsync on) on {self._disk()}")

    def complaints(self):
        """What the engines logged as warnings and errors, the last few."""
        lines = []
        for engine in self.engines:
            for line in engine.err.read_text(errors="replace").splitlines():
                if '"level":"WARN"' in line or '"level":"ERROR"' in line:
                    lines.append(f"{engine.name}: {line}")
        return lines[-5:]
