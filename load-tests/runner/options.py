"""The command line of `load-tests/run`."""

import argparse
import dataclasses
import sys

TOOLS = ["oha", "k6", "wrk"]
PATHS = ["accepted", "replay", "sold_out", "storm", "mixed"]

EPILOG = """\
EXAMPLES
  load-tests/run --quick                                # does everything work? half a minute
  load-tests/run --stack redis-postgres --quick
  load-tests/run --tools wrk --paths accepted --seconds 10 --repeats 5
  load-tests/run --stack redis-postgres --engines 2 --shards 16 --json result.json

Starts its own stack on free ports of 127.0.0.1 with temporary directories (under $TMPDIR or /tmp; it should be on the
disk that you want to know about), and removes it at the end. Exit code: 0 when every answer was an expected one and the
books balance, 1 when not, 2 for a wrong option. What the columns mean stands in load-tests/README.md."""


@dataclasses.dataclass
class Options:
    stack: str
    engines: int
    redis: int
    tools: list
    paths: list
    seconds: int
    repeats: int
    connections: int
    rate: int
    shards: int
    quick: bool
    build: bool
    json: str


def _number(low, high):
    def read(text):
        if not text.isdigit() or not low <= int(text) <= high:
            raise argparse.ArgumentTypeError(f"is a number from {low} to {high}")
        return int(text)

    return read


def _some_of(known):
    def read(text):
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"takes some of {','.join(known)}, not {name!r}")
        return list(dict.fromkeys(chosen))

    return read


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        sys.stderr.write(f"load-tests/run: {message}; see load-tests/run --help\n")
        sys.exit(2)


def read(arguments):
    parser = _Parser(
        prog="load-tests/run",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measure rushgate: each path of an order beside an echo on the same accept loop, and the books\n"
        "checked afterwards.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    add("--stack", choices=["embedded", "redis-postgres"], default="embedded",
        help="embedded: memory gate and SQLite; redis-postgres: Redis nodes, PostgreSQL, one or more engines")
    add("--engines", type=_number(1, 16), metavar="N", help="engines on one redis-postgres stack [default: 2]")
    add("--redis", type=_number(1, 16), metavar="N", help="Redis nodes of a redis-postgres stack [default: 2]")
    add("--tools", "--tool", type=_some_of(TOOLS), metavar="A,B",
        help="some of oha,k6,wrk [default: all; with --quick: wrk,k6]")
    add("--paths", type=_some_of(PATHS), default=PATHS, metavar="A,B", help=f"some of {','.join(PATHS)} [default: all]")
    add("--seconds", type=_number(1, 600), metavar="N", help="length of one run [default: 5; with --quick: 1]")
    add("--repeats", type=_number(1, 100), metavar="N", help="runs of each path [default: 3; with --quick: 1]")
    add("--connections", type=_number(2, 1000), default=64, metavar="N",
        help="wrk and oha: connections, each with one request at a time; k6: virtual users at the start [default: 64]")
    add("--rate", type=_number(1, 1000000), metavar="N",
        help="k6: requests that fall due in a second [default: 2000; with --quick: 1000]")
    add("--shards", type=_number(1, 1024), metavar="N", help="shards of the sales [default: 1; redis-postgres: 8]")
    add("--quick", action="store_true", help="a smoke test: short runs, no warm-up, one echo a tool")
    add("--no-build", dest="build", action="store_false", help="use the release build as it is")
    add("--json", metavar="FILE", help="write every figure of every run to FILE as well")
    given = parser.parse_args(arguments)

    embedded = given.stack == "embedded"
    if embedded and (given.engines or given.redis):
        parser.error("--engines and --redis need --stack redis-postgres")
    quick = given.quick
    return Options(
        stack=given.stack,
        engines=1 if embedded else given.engines or 2,
        redis=0 if embedded else given.redis or 2,
        tools=given.tools or (["wrk", "k6"] if quick else TOOLS),
        paths=given.paths,
        seconds=given.seconds or (1 if quick else 5),
        repeats=given.repeats or (1 if quick else 3),
        connections=given.connections,
        rate=given.rate or (1000 if quick else 2000),
        shards=given.shards or (1 if embedded else 8),
        quick=quick,
        build=given.build,
        json=given.json,
    )
