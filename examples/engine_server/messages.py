"""What the server and the engine tell each other; both import it, so it can be pickled."""

from dataclasses import dataclass
from typing import NamedTuple


class Generate(NamedTuple):
    """To the engine: a new request; its number names it from now on."""

    number: int
    prompt: str
    max_tokens: int
    seed: int


class Cancel(NamedTuple):
    """To the engine: nobody waits for this request any more."""

    number: int


@dataclass
class Counts:
    """What an engine has done since it started.

    Attributes:
        steps, tokens: steps with at least one request in them, and the tokens of all.
        joined, finished, cancelled: requests; what is missing in the sum is running.
        largest: most requests served by one step.
    """

    steps: int = 0
    tokens: int = 0
    joined: int = 0
    finished: int = 0
    cancelled: int = 0
    largest: int = 0


class Step(NamedTuple):
    """To the server: the next token of each running request, by number, and who is done."""

    tokens: dict[int, str]
    done: list[int]
    counts: Counts
