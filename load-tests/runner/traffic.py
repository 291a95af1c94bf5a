"""What is sent on each path, and which answers it may have."""

import random

KEYS = 5000  # orders that are replayed

# Outcomes as the engine counts them.
EXPECTED = {
    "accepted": {"created"},
    "replay": {"replayed"},
    "sold_out": {"sold_out"},
    "storm": {"created", "replayed"},
    "mixed": {"created", "replayed", "sold_out", "idempotency_in_progress"},
    "malformed": {"malformed_request"},
    "reused": {"idempotency_key_reused"},
}

# The sale that a path buys from; mixed has a new one for every run.
SALE = {"accepted": "accepted", "replay": "replay", "reused": "replay", "malformed": "replay", "sold_out": "sold_out",
        "storm": "storm"}


def expected(path, tool):
    # oha draws lines at random, so one comes twice now and then: a replay, or it comes while the first is recorded.
    if tool == "oha" and path == "accepted":
        return {"created", "replayed", "idempotency_in_progress"}
    return EXPECTED[path]


def run_name(path, run, which):
    """What the keys of a run start with. Replays present the keys of the orders that were made before all runs."""
    return run if path in ("replay", "reused") else f"{run}-{which}"


def write_bodies(file, path, sale, run, seconds, keys):
    """Bodies for oha, which draws them at random and with repetition: user and key are members of the body."""
    count = {"storm": 1, "malformed": 1, "sold_out": 100_000, "replay": keys, "reused": keys}.get(path, 0)
    if path == "accepted":
        # Many more than it will send, or too many would come twice.
        count = min(600_000 * seconds, 3_000_000)
    elif path == "mixed":
        # So few that many come twice: those are the retries of the crowd. Two orders a user on average.
        count = 30_000 * seconds
    quantity = 2 if path == "reused" else 1
    draw = random.Random(run).randrange
    with open(file, "w", encoding="ascii") as out:
        for number in range(1, count + 1):
            key = run if path == "storm" else f"{run}-{number}"
            if path in ("replay", "reused"):
                user = number
            elif path == "storm":
                user = 42
            else:
                user = 1 + draw(count // 2 if path == "mixed" else 2**31 - 2)
            if path == "malformed":
                out.write(f'{{"sale_id":"{sale}","sku_id":"sk\n')
            else:
                out.write(f'{{"sale_id":"{sale}","sku_id":"sku-1","quantity":{quantity},"user_id":{user},'
                          f'"idempotency_key":"{key}"}}\n')
