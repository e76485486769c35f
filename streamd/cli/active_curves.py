"""Label-efficiency curves as an SVG picture: accuracy over the share of labels, one line per strategy."""

import math
from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 640, 400
LEFT, TOP, RIGHT, BOTTOM = 60, 20, 160, 45
COLOURS = ("#0b62a4", "#c23b22", "#3a7d2c", "#8e5ea2", "#b8860b", "#008080", "#444444", "#d2691e")


def svg(found: Sequence[tuple[str, float, float]]) -> str:
    """found: (strategy, budget, accuracy) of each run; runs of one strategy and budget are averaged."""
    lines = _lines(found)
    budgets = [budget for line in lines.values() for budget, _ in line]
    accuracies = [accuracy for line in lines.values() for _, accuracy in line]
    x = _scale([math.log10(budget) for budget in budgets], LEFT, WIDTH - RIGHT)
    y = _scale(accuracies, HEIGHT - BOTTOM, TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    ]
    for budget in sorted(set(budgets)):
        at = x(math.log10(budget))
        parts.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="#eee"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - 25}" text-anchor="middle">{budget:.3g}</text>')
    for accuracy in _ticks(accuracies):
        at = y(accuracy)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#eee"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{accuracy:.1%}</text>')
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        points = " ".join(f"{x(math.log10(budget)):.1f},{y(accuracy):.1f}" for budget, accuracy in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for budget, accuracy in line:
            at, high = x(math.log10(budget)), y(accuracy)
            parts.append(f'<circle cx="{at:.1f}" cy="{high:.1f}" r="3" fill="{colour}"/>')
        place = f'x="{WIDTH - RIGHT + 15}" y="{TOP + 15 + 18 * i}"'
        parts.append(f'<text {place} fill="{colour}">{escape(name)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">labels per event</text>')
    return "\n".join([*parts, "</svg>\n"])


def _lines(found: Sequence[tuple[str, float, float]]) -> dict[str, list[tuple[float, float]]]:
    cells: dict[tuple[str, float], list[float]] = {}
    for name, budget, accuracy in found:
        if budget > 0:
            cells.setdefault((name, budget), []).append(accuracy)
    lines: dict[str, list[tuple[float, float]]] = {}
    for (name, budget), values in sorted(cells.items()):
        lines.setdefault(name, []).append((budget, sum(values) / len(values)))
    return lines


def _scale(values: Sequence[float], low: float, high: float) -> Callable[[float], float]:
    """Maps the range of some values onto two places."""
    least = min(values, default=0.0)
    span = (max(values, default=0.0) - least) or 1.0
    return lambda value: low + (value - least) / span * (high - low)


def _ticks(values: Sequence[float]) -> list[float]:
    least, most = min(values, default=0.0), max(values, default=0.0)
    return [least + (most - least) * i / 4 for i in range(5)] if most > least else [least]
