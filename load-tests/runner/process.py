"""Processes that this run started: gone when it ends, and what /proc says of them."""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HZ = os.sysconf("SC_CLK_TCK")
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


class Failed(Exception):
    """The run cannot go on."""


def need(command, how, also=()):
    """The path of a command, or a line that says how to get it."""
    found = shutil.which(command)
    for place in also:
        found = found or shutil.which(command, path=os.path.expanduser(place))
    if not found:
        raise Failed(f"{command} is missing; install it with: {how}")
    return found


def _die_with_parent(how):
    # Also when this script is killed with -9 and can clean up nothing.
    def set_it():
        _LIBC.prctl(_PR_SET_PDEATHSIG, how)

    return set_it


class Process:
    """One child, in a session of its own so that Ctrl-C reaches this script first."""

    def __init__(self, name, command, work, user=None, env=None, stop_with=signal.SIGTERM):
        self.name, self.stop_with = name, stop_with
        self.out, self.err = work / f"{name}.out", work / f"{name}.err"
        # Settings of this shell must not reach the child.
        env = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", **(env or {})}
        as_user = {"user": user[0], "group": user[1], "extra_groups": []} if user else {}
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.child = subprocess.Popen(
                [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=env,
                cwd=work, start_new_session=True, preexec_fn=_die_with_parent(stop_with), **as_user)

    def lives(self):
        return self.child.poll() is None

    def last_words(self):
        words = self.err.read_text(errors="replace").splitlines() + self.out.read_text(errors="replace").splitlines()
        return " | ".join(words[-3:])

    def wait_until(self, what, ready, seconds=20):
        """What `ready` answers once that is something."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = ready()
            if found:
                return found
            if not self.lives():
                raise Failed(f"{self.name} ended before {what}: {self.last_words()}")
            time.sleep(0.02)
        raise Failed(f"{self.name}: {what} took more than {seconds} s: {self.last_words()}")

    def stop(self, seconds=30, told=False):
        """Its exit code, None if it had to be killed. Told twice, an engine leaves at once and says so."""
        if self.lives():
            if not told:
                self.child.send_signal(self.stop_with)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()
                return None
        return self.child.returncode

    # What /proc says.

    def cpu_us(self):
        """Processor time, user and system."""
        return sum(_stat(self.child.pid)[:2]) * 1_000_000 // HZ

    def cpu_us_of_tree(self):
        """The same with all descendants: for a server that is many processes."""
        total, parents = 0, {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    *times, parent = _stat(int(entry.name))
                    parents.setdefault(parent, []).append((int(entry.name), times))
                except Failed:
                    pass  # it has just ended; its parent has its times
        own = _stat(self.child.pid)
        waiting = [(self.child.pid, own[:4])]
        while waiting:
            pid, (user, system, ended_user, ended_system) = waiting.pop()
            total += user + system + ended_user + ended_system
            waiting += parents.get(pid, [])
        return total * 1_000_000 // HZ

    def peak_mib(self):
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
        return 0.0

    def resident_kib(self):
        for line in Path(f"/proc/{self.child.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        return 0

    def forget_peak(self):
        try:
            Path(f"/proc/{self.child.pid}/clear_refs").write_text("5")
        except OSError:
            pass  # the peak is then that of the whole run


def _stat(pid):
    """User, system, ended children's user and system ticks, and the parent."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        raise Failed(f"process {pid} is gone") from None
    # The command's name may hold spaces; what follows its parenthesis does not.
    fields = text.rpartition(") ")[2].split()
    return [*map(int, fields[11:15]), int(fields[1])]


def call(words, **how):
    """Runs a command to its end, whatever its exit code."""
    return subprocess.run([str(word) for word in words], check=False, capture_output=True, text=True, **how)


def run_tool(commands, work, seconds, env=None, is_done=None):
    """Runs load tools side by side: exit code, output, errors and processor time of each. Interrupts them when `is_done`."""
    running, results = [], []
    try:
        for at, words in enumerate(commands):
            with open(work / f"tool{at}.out", "wb") as out, open(work / f"tool{at}.err", "wb") as err:
                running.append(subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                                env={**os.environ, **(env or {})}, start_new_session=True,
                                                preexec_fn=_die_with_parent(signal.SIGKILL)))
        end = time.monotonic() + seconds
        for at, tool in enumerate(running):
            while True:
                pid, status, used = os.wait4(tool.pid, os.WNOHANG)
                if pid:
                    break
                if is_done and is_done():
                    is_done = None
                    tool.send_signal(signal.SIGINT)
                if time.monotonic() > end:
                    raise Failed(f"{commands[at][0]} was still running after {seconds} s")
                time.sleep(0.005)
            tool.returncode = os.waitstatus_to_exitcode(status)
            text = (work / f"tool{at}.out").read_text(errors="replace")
            errors = (work / f"tool{at}.err").read_text(errors="replace")
            results.append((tool.returncode, text, errors, int((used.ru_utime + used.ru_stime) * 1e6)))
    finally:
        for tool in running:
            if tool.returncode is None:
                tool.kill()
                tool.wait()
    return results


def say(text):
    print(text, flush=True)


def warn(text):
    print(text, file=sys.stderr, flush=True)


def on_its_own(name, main):
    """Runs a script to its exit code, however it is told to end."""
    for each in [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]:
        signal.signal(each, _leave)
    if not os.access("/proc/self/stat", os.R_OK):
        warn(f"{name}: reads CPU time and memory from /proc, so it runs on Linux only")
        sys.exit(1)
    try:
        sys.exit(main())
    except Failed as failed:
        warn(f"{name}: {failed}")
        sys.exit(1)


def _leave(number, _frame):
    # Through the `with` block, which stops what was started.
    sys.exit(128 + number)
