"""The figures as a picture: an SVG file, written by hand so that nothing need be installed.

Three panels, each where its cases were measured: throughput by size, throughput by
readers, and the distribution of the round trips of ends that are awake. All axes but the
last one's are logarithmic; a contender has the same colour everywhere.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from aioshm.cli.bench.contenders import AIOSHM, PEERS, Contender
from aioshm.cli.bench.plan import READERS, SIZES
from aioshm.cli.bench.results import Results
from aioshm.cli.bench.work import PER_DECADE

Point = tuple[float, float]

_SHOWN = (*AIOSHM, *PEERS)
# Okabe and Ito's colours, which people tell apart however they see colours.
_COLOURS = (
    "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#888888",
    "#a6761d", "#66a61e",
)  # fmt: skip
_WIDTH, _HEIGHT = 340, 260
_LEFT, _TOP, _BETWEEN = 64, 64, 76
_LEGEND = 18


@dataclass(frozen=True)
class _Panel:
    """One diagram: a title, and a line for each contender that was measured.

    Args:
        title: above it.
        x_marks: the places on the x axis that are labelled, and how.
        lines: by contender, points of x (logarithmic) and y.
        percent: y is from 0 to 100 per cent and not logarithmic.
    """

    title: str
    x_marks: Sequence[tuple[float, str]]
    lines: dict[Contender, list[Point]]
    percent: bool = False

    def y_marks(self) -> list[tuple[float, str]]:
        if self.percent:
            return [(float(mark), f"{mark} %") for mark in (0, 25, 50, 75, 100)]
        values = [y for line in self.lines.values() for _, y in line]
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        return [(10.0**power, _short(10.0**power)) for power in range(low, max(high, low + 1) + 1)]


def draw(results: Results, caption: str) -> str:
    """Draw what was measured.

    Args:
        results: what was measured.
        caption: a line on what the figures depend on.

    Returns:
        An SVG document.
    """
    panels = [
        panel
        for panel in (_by_size(results), _by_readers(results), _latency(results))
        if panel.lines
    ]
    shown = [one for one in _SHOWN if any(one in panel.lines for panel in panels)]
    width = _LEFT + max(1, len(panels)) * (_WIDTH + _BETWEEN)
    bottom = _TOP + _HEIGHT + 44
    height = bottom + _LEGEND * math.ceil(len(shown) / 3) + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(_LEFT, 22, "aioshm bench", "start", 'font-size="16" font-weight="bold"'),
    ]
    for number, panel in enumerate(panels):
        parts += _draw_panel(panel, _LEFT + number * (_WIDTH + _BETWEEN))
    for number, contender in enumerate(shown):
        x, y = _LEFT + number % 3 * 260, bottom + number // 3 * _LEGEND
        parts.append(_line([(x, y), (x + 22, y)], contender))
        parts.append(_text(x + 28, y + 4, contender.name, "start"))
    parts.append(_text(_LEFT, height - 10, caption, "start", 'font-size="9" fill="#555"'))
    return "\n".join([*parts, "</svg>", ""])


# -- the panels -------------------------------------------------------------------------------


def _by_size(results: Results) -> _Panel:
    marks = [(float(size), name) for name, size in SIZES.items()]
    lines = _lines(results, [(float(size), f"bytes-{name}") for name, size in SIZES.items()])
    return _Panel("messages/s by size, bytes, 1 reader", marks, lines)


def _by_readers(results: Results) -> _Panel:
    marks = [(float(readers), str(readers)) for readers in READERS]
    lines = _lines(results, [(float(readers), f"throughput-{readers}") for readers in READERS])
    return _Panel("messages/s by readers, small dict", marks, lines)


def _lines(results: Results, places: Sequence[tuple[float, str]]) -> dict[Contender, list[Point]]:
    lines = {}
    for contender in _SHOWN:
        found = [(x, results.get(case, contender)) for x, case in places]
        if points := [(x, result.median) for x, result in found if result is not None]:
            lines[contender] = points
    return lines


def _latency(results: Results) -> _Panel:
    lines = {}
    for contender in _SHOWN:
        if result := results.get("roundtrip-awake", contender):
            histogram = result.histogram()
            sums = itertools.accumulate(count for _, count in sorted(histogram.items()))
            total = histogram.total()
            lines[contender] = [
                (10 ** ((number + 1) / PER_DECADE) / 1e3, 100 * below / total)
                for number, below in zip(sorted(histogram), sums, strict=True)
            ]
    times = [x for line in lines.values() for x, _ in line] or [1.0]
    low, high = math.floor(math.log10(min(times))), math.ceil(math.log10(max(times)))
    marks = [(10.0**power, f"{10.0**power:,g} us") for power in range(low, max(high, low + 1) + 1)]
    return _Panel("round trips not longer than, both awake", marks, lines, percent=True)


# -- drawing ------------------------------------------------------------------------------------


def _draw_panel(panel: _Panel, left: int) -> Iterator[str]:
    y_marks = panel.y_marks()
    x_low, x_high = (math.log10(panel.x_marks[place][0]) for place in (0, -1))
    y_low, y_high = (_height_of(panel, y_marks[place][0]) for place in (0, -1))

    def at(x: float, y: float) -> Point:
        across = (math.log10(x) - x_low) / (x_high - x_low)
        up = (_height_of(panel, y) - y_low) / (y_high - y_low)
        return left + across * _WIDTH, _TOP + (1 - up) * _HEIGHT

    yield _text(left, _TOP - 14, panel.title, "start", 'font-weight="bold"')
    for value, name in panel.x_marks:
        x, _ = at(value, y_marks[0][0])
        yield _grid(x, _TOP, x, _TOP + _HEIGHT)
        yield _text(x, _TOP + _HEIGHT + 18, name, "middle")
    for value, name in y_marks:
        _, y = at(panel.x_marks[0][0], value)
        yield _grid(left, y, left + _WIDTH, y)
        yield _text(left - 6, y + 4, name, "end")
    for contender, points in panel.lines.items():
        places = [at(*point) for point in points]
        yield _line(places, contender)
        if not panel.percent:
            colour = _colour(contender)
            yield from (
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places
            )


def _height_of(panel: _Panel, y: float) -> float:
    return y if panel.percent else math.log10(y)


def _colour(contender: Contender) -> str:
    return _COLOURS[_SHOWN.index(contender) % len(_COLOURS)]


def _line(points: Sequence[Point], contender: Contender) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    width = 3 if contender in AIOSHM else 1.5
    return (
        f'<polyline points="{path}" fill="none" stroke="{_colour(contender)}" '
        f'stroke-width="{width}"/>'
    )


def _grid(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#ddd"/>'


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>'


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:,g} {letter}"
    return f"{value:,g}"
