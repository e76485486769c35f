"""Lines over the stream as an SVG picture."""

from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 400
LEFT, TOP, RIGHT, BOTTOM = 60, 20, 160, 45
COLOURS = ("#0b62a4", "#c23b22", "#3a7d2c", "#8e5ea2", "#b8860b", "#008080", "#444444", "#d2691e")


def svg(lines: Mapping[str, Sequence[tuple[float, float]]], across: str, upwards: str) -> str:
    """lines: name -> points (x, y), each line from left to right. across, upwards: what the axes are."""
    xs = [x for line in lines.values() for x, _ in line] or [0.0]
    ys = [y for line in lines.values() for _, y in line] or [0.0]
    (x0, x1), (y0, y1) = (min(xs), max(xs)), (min(ys), max(ys))

    def x(value: float) -> float:
        return LEFT + (value - x0) / ((x1 - x0) or 1.0) * (WIDTH - RIGHT - LEFT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (value - y0) / ((y1 - y0) or 1.0) * (HEIGHT - BOTTOM - TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>'
    ]
    for step in range(5):
        value, mark = y0 + (y1 - y0) * step / 4, x0 + (x1 - x0) * step / 4
        at = y(value)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="#eee"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:.3g}</text>')
        parts.append(f'<text x="{x(mark):.1f}" y="{HEIGHT - 25}" text-anchor="middle">{mark:,.0f}</text>')
    for i, (name, line) in enumerate(lines.items()):
        colour = COLOURS[i % len(COLOURS)]
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>')
        place = f'x="{WIDTH - RIGHT + 10}" y="{TOP + 15 + 18 * i}"'
        parts.append(f'<text {place} fill="{colour}">{escape(name)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(across)}</text>')
    parts.append(f'<text x="{LEFT}" y="{TOP - 6}">{escape(upwards)}</text>')
    return "\n".join([*parts, "</svg>\n"])
