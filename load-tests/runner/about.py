"""Where and with what: figures belong to a machine and an hour."""

import os
import platform

from .process import call
from .stack import ROOT


def about(stack):
    commit = _git("rev-parse", "--short", "HEAD") or "unknown"
    if _git("status", "--porcelain", "--untracked-files=no"):
        commit += " with changes"
    return {
        "machine": f"{os.cpu_count()} CPUs, {_cpu_model()}, {platform.system()} {platform.release()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "engine": f"commit {commit}, {stack.version}; {len(stack.engines)} engine(s)",
        "stores": f"{stack.describe()}; {stack.options.shards} shard(s) a sale",
    }


def _git(*words):
    try:
        return call(["git", "-C", ROOT, *words]).stdout.strip()
    except OSError:
        return ""


def _cpu_model():
    with open("/proc/cpuinfo", encoding="utf-8") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.partition(": ")[2].strip()
    return platform.machine()
