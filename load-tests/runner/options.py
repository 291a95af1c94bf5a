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


LIFE_EPILOG = """\
EXAMPLES
  load-tests/life --quick                       # does everything work? a quarter of a minute
  load-tests/life --stack redis-postgres --engines 2 --orders 50000

Makes the orders first, then does one thing to each of them, as fast as 64 connections can: cancels it, reports its
payment as a provider does, refunds it as an operator does; or lets all of them expire at once, as after a stop of all
engines. Needs wrk. Exit code: 0 when every order took its step and the books balance, 1 when not."""


@dataclasses.dataclass
class Options:
    stack: str
    engines: int
    redis: int
    connections: int
    shards: int
    quick: bool
    build: bool
    tools: list = dataclasses.field(default_factory=lambda: ["wrk"])
    paths: list = None
    seconds: int = 0
    repeats: int = 1
    rate: int = 0
    orders: int = 0
    json: str = None


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
        sys.stderr.write(f"{self.prog}: {message}; see {self.prog} --help\n")
        sys.exit(2)


def read(arguments):
    """What `load-tests/run` is told."""
    parser = _Parser(
        prog="load-tests/run",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measure rushgate: each path of an order beside an echo on the same accept loop, and the books\n"
        "checked afterwards.",
        epilog=EPILOG,
    )
    add = parser.add_argument
    _add_stack(add)
    add("--tools", "--tool", type=_some_of(TOOLS), metavar="A,B",
        help="some of oha,k6,wrk [default: all; with --quick: wrk,k6]")
    add("--paths", type=_some_of(PATHS), default=PATHS, metavar="A,B", help=f"some of {','.join(PATHS)} [default: all]")
    add("--seconds", type=_number(1, 600), metavar="N", help="length of one run [default: 5; with --quick: 1]")
    add("--repeats", type=_number(1, 100), metavar="N", help="runs of each path [default: 3; with --quick: 1]")
    add("--rate", type=_number(1, 1000000), metavar="N",
        help="k6: requests that fall due in a second [default: 2000; with --quick: 1000]")
    add("--quick", action="store_true", help="a smoke test: short runs, no warm-up, one echo a tool")
    add("--json", metavar="FILE", help="write every figure of every run to FILE as well")
    given = parser.parse_args(arguments)
    quick = given.quick
    return Options(
        **_stack(parser, given),
        tools=given.tools or (["wrk", "k6"] if quick else TOOLS),
        paths=given.paths,
        seconds=given.seconds or (1 if quick else 5),
        repeats=given.repeats or (1 if quick else 3),
        rate=given.rate or (1000 if quick else 2000),
        json=given.json,
    )


def read_life(arguments):
    """What `load-tests/life` is told."""
    parser = _Parser(
        prog="load-tests/life",
        allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measure what is done to orders after they were made.",
        epilog=LIFE_EPILOG,
    )
    _add_stack(parser.add_argument)
    parser.add_argument("--orders", type=_number(100, 1_000_000), metavar="N",
                        help="orders for each step [default: 30000; with --quick: 1000]")
    parser.add_argument("--quick", action="store_true", help="a smoke test with few orders")
    given = parser.parse_args(arguments)
    return Options(**_stack(parser, given), orders=given.orders or (1000 if given.quick else 30_000))


def _add_stack(add):
    add("--stack", choices=["embedded", "redis-postgres"], default="embedded",
        help="embedded: memory gate and SQLite; redis-postgres: Redis nodes, PostgreSQL, one or more engines")
    add("--engines", type=_number(1, 16), metavar="N", help="engines on one redis-postgres stack [default: 2]")
    add("--redis", type=_number(1, 16), metavar="N", help="Redis nodes of a redis-postgres stack [default: 2]")
    add("--connections", type=_number(2, 1000), default=64, metavar="N",
        help="wrk and oha: connections, each with one request at a time; k6: virtual users at the start [default: 64]")
    add("--shards", type=_number(1, 1024), metavar="N", help="shards of the sales [default: 1; redis-postgres: 8]")
    add("--no-build", dest="build", action="store_false", help="use the release build as it is")


def _stack(parser, given):
    embedded = given.stack == "embedded"
    if embedded and (given.engines or given.redis):
        parser.error("--engines and --redis need --stack redis-postgres")
    return {
        "stack": given.stack,
        "engines": 1 if embedded else given.engines or 2,
        "redis": 0 if embedded else given.redis or 2,
        "connections": given.connections,
        "shards": given.shards or (1 if embedded else 8),
        "quick": given.quick,
        "build": given.build,
    }
