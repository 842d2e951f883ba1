"""The list of troubles with readers on other machines, and the mark that makes a test one."""

from __future__ import annotations

import pytest

CASES = {
    1: "no key",
    2: "wrong server key",
    3: "a key not on the list",
    4: "a port scanner and raw TCP noise during traffic",
    5: "frames truncated, oversized, reordered, replayed, wrong rank, old session, "
    "acknowledging the future",
    6: "the same rank twice, same session and another",
    7: "reader that never reads, frozen, killed",
    8: "writer killed, frozen, its port taken over by a stranger",
    9: "cable cut (veth down) for less and for more than peer_timeout, in the middle of a 30 MiB "
    "body, 50 times at random moments",
    10: "connection reset by a proxy at a random byte, 200 times",
    11: "1 % loss (nft or iptables statistic) and a slow link of 4 MB/s (userland proxy)",
    12: "no route, refused, name that does not resolve",
    13: "handle used from a machine of another version",
    14: "malicious pickle from an admitted-looking stranger: never unpickled",
}


def case(number: int, *ways: str) -> pytest.MarkDecorator:
    """Make a test one of that number: it gets each way as its argument `how`."""
    words = f"{number} {CASES[number]}"
    return pytest.mark.parametrize(
        "how",
        [pytest.param(way, id=f"{words}: {way}") for way in ways] or [pytest.param("", id=words)],
    )
