"""Regret curves as an SVG picture: a panel per group, regret of the single model and of the groupwise one."""

from collections.abc import Sequence
from html import escape

from streamd.learners.groupwise.hindsight import Judged

ACROSS, WIDTH, HEIGHT = 3, 240, 150
LEFT, TOP, RIGHT, BOTTOM = 50, 24, 10, 22
SINGLE, GROUPWISE = "#c23b22", "#0b62a4"


def svg(found: Sequence[Judged]) -> str:
    """Each panel has its own scales: events of the group across, regret to its best fit in hindsight upwards."""
    down = -(-len(found) // ACROSS)
    width, height = ACROSS * WIDTH, down * HEIGHT + 24
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="10"><rect width="{width}" height="{height}" fill="white"/>'
    ]
    for i, one in enumerate(found):
        parts += _panel(one, (i % ACROSS) * WIDTH, (i // ACROSS) * HEIGHT)
    key = f'<tspan fill="{SINGLE}">single model</tspan>  <tspan fill="{GROUPWISE}">groupwise</tspan>'
    parts.append(f'<text x="{LEFT}" y="{height - 8}">regret over events: {key}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(one: Judged, x0: int, y0: int) -> list[str]:
    values = [0.0, *(value for point in one.curve for value in point[1:])]
    low, high = min(values), max(values)
    span = (high - low) or 1.0
    left, right, top, bottom = x0 + LEFT, x0 + WIDTH - RIGHT, y0 + TOP, y0 + HEIGHT - BOTTOM

    def x(n: int) -> float:
        return left + (right - left) * n / one.n

    def y(value: float) -> float:
        return bottom - (bottom - top) * (value - low) / span

    parts = [
        f'<text x="{left}" y="{top - 8}">{escape(one.name)}</text>',
        f'<line x1="{left}" x2="{right}" y1="{y(0.0):.1f}" y2="{y(0.0):.1f}" stroke="#ccc"/>',
        f'<text x="{left - 4}" y="{top + 4}" text-anchor="end">{high:.3g}</text>',
        f'<text x="{left - 4}" y="{bottom + 4}" text-anchor="end">{low:.3g}</text>',
        f'<text x="{right}" y="{bottom + 14}" text-anchor="end">{one.n:,}</text>',
    ]
    for column, colour in ((1, SINGLE), (2, GROUPWISE)):
        points = " ".join(f"{x(point[0]):.1f},{y(point[column]):.1f}" for point in one.curve)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    return parts
