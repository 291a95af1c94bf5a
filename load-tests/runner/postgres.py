"""A PostgreSQL of this run's own, as durable as one that sells: fsync on, every commit waited for."""

import os
import pwd
import secrets
import shutil
import signal

from . import ports
from .process import Failed, Process, call, need

SETTINGS = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "listen_addresses": "127.0.0.1",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "log_min_messages": "warning",
}


def binaries():
    """The directory of initdb and postgres: on PATH, else where Debian and Red Hat put it, the newest first."""
    places = [os.path.dirname(os.path.realpath(shutil.which("initdb") or ""))]
    for root in ["/usr/lib/postgresql", "/usr"]:
        if os.path.isdir(root):
            versions = [name for name in os.listdir(root) if name.replace("pgsql-", "").replace(".", "").isdigit()]
            places += [f"{root}/{name}/bin" for name in sorted(versions, key=_number, reverse=True)]
    for place in places:
        if place and all(os.access(f"{place}/{name}", os.X_OK) for name in ["initdb", "postgres"]):
            return place
    raise Failed("PostgreSQL is missing; install it with: apt-get install postgresql")


def _number(name):
    return float(name.replace("pgsql-", ""))


def _unprivileged():
    """PostgreSQL refuses to run as root: who runs it then."""
    if os.geteuid() != 0:
        return None
    for name in ["postgres", "nobody"]:
        try:
            found = pwd.getpwnam(name)
            return found.pw_uid, found.pw_gid
        except KeyError:
            continue
    raise Failed("PostgreSQL refuses to run as root, and there is no user postgres or nobody")


class Postgres(Process):
    def __init__(self, work):
        self.bin, self.psql = binaries(), need("psql", "apt-get install postgresql-client")
        self.password = secrets.token_hex(16)
        user = _unprivileged()
        home = work / "postgres"
        home.mkdir(mode=0o700)
        password_file = home / "password"
        password_file.write_text(self.password)
        if user:
            work.chmod(0o711)  # so that the user can reach its own directory below it
            for each in [home, password_file]:
                os.chown(each, *user)
        as_user = {"user": user[0], "group": user[1], "extra_groups": []} if user else {}
        made = call(
            [f"{self.bin}/initdb", "--pgdata", home / "data", "--username", "rushgate", "--pwfile", password_file,
             "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C", "--no-sync", "--no-instructions"],
            cwd=home, **as_user)
        if made.returncode:
            raise Failed(f"initdb failed: {made.stderr.strip()}")
        self.port = ports.free()
        settings = {**SETTINGS, "port": self.port, "unix_socket_directories": ""}
        flags = [word for name, value in settings.items() for word in ["-c", f"{name}={value}"]]
        # SIGINT is its fast shutdown: it does not wait for its clients to leave.
        super().__init__("postgres", [f"{self.bin}/postgres", "-D", home / "data", *flags], work, user=user,
                         stop_with=signal.SIGINT)
        self.wait_until("it answered", lambda: self.query("SELECT 1", quiet=True))
        self.query("CREATE DATABASE orders")
        # A setting that was taken back would make every figure a lie.
        for name in ["fsync", "full_page_writes", "synchronous_commit"]:
            if self.query(f"SHOW {name}") != "on":
                raise Failed(f"PostgreSQL runs with {name} off")
        self.version = self.query("SHOW server_version").split()[0]

    def url(self):
        return f"postgres://rushgate:{self.password}@127.0.0.1:{self.port}/orders"

    def query(self, sql, database="postgres", quiet=False):
        """One value."""
        done = call(
            [self.psql, "--no-psqlrc", "--tuples-only", "--no-align", "--host", "127.0.0.1", "--port", str(self.port),
             "--username", "rushgate", "--dbname", database, "--command", sql],
            env={**os.environ, "PGPASSWORD": self.password, "PGCONNECT_TIMEOUT": "5"})
        if done.returncode:
            if quiet:
                return None
            raise Failed(f"PostgreSQL refused {sql!r}: {done.stderr.strip()}")
        return done.stdout.strip()
