"""A small language model: how often which word came after which two, counted in docstrings.

Sampling draws whole numbers from whole counts, so a stream depends on the prompt, the
seed and the corpus alone, and the corpus on the Python version alone.
"""

import ast
import random
import sysconfig
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

# Files of the standard library with many words for the time it takes to parse them, for the
# engine is trained anew at each start.
CORPUS = [
    "asyncio/events", "asyncio/locks", "asyncio/protocols", "asyncio/queues", "asyncio/transports",
    "bdb", "bz2", "cmd", "codecs", "contextlib", "difflib", "doctest", "fileinput", "fractions",
    "ftplib", "lzma", "numbers", "queue", "shelve", "socketserver", "statistics", "textwrap",
    "threading", "timeit",
]  # fmt: skip


def docstrings() -> Iterator[str]:
    """Read the corpus."""
    library = Path(sysconfig.get_path("stdlib"))
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for name in CORPUS:
        for node in ast.walk(ast.parse((library / f"{name}.py").read_bytes())):
            if isinstance(node, documented):
                yield ast.get_docstring(node) or ""


class Model:
    """Word trigrams with integer counts.

    Args:
        texts: what to learn from, read as one text that begins again at its end, so that
            every word has a next one.
    """

    def __init__(self, texts: Iterable[str]) -> None:
        words = [word for text in texts for word in text.split()]
        self._counts: dict[tuple[str, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
        ahead = words[1:] + words[:1]
        for first, second, third in zip(words, ahead, ahead[1:] + ahead[:1], strict=True):
            for context in ((first, second), (second,), ()):
                self._counts[context][third] += 1

    def stream(self, prompt: str, seed: int) -> Iterator[str]:
        """Go on where the prompt ends, one word at a time and without end."""
        random_numbers = random.Random(seed)
        context = tuple(prompt.split()[-2:])
        while True:
            # What was never seen in the corpus is forgotten, the older word first.
            while context not in self._counts:
                context = context[1:]
            word = self._sample(self._counts[context], random_numbers)
            yield word
            context = (*context, word)[-2:]

    @staticmethod
    def _sample(counts: dict[str, int], random_numbers: random.Random) -> str:
        at = random_numbers.randrange(sum(counts.values()))
        for word, count in counts.items():
            at -= count
            if at < 0:
                return word
        raise AssertionError("the number drawn is below the sum of all counts")
