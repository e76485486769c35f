"""A replay's report as a picture: a bar per rule with its interval, a line per bound. SVG, drawn by hand."""

from collections.abc import Iterator
from html import escape

from streamd.matching.replay import Report, Score

LEFT, WIDTH, ROW, TOP = 150, 520, 22, 46  # pixels
BOUNDS = (
    ("matching_lp", "matching LP", "#888"),
    ("stochastic_lp", "stochastic LP", "#36c"),
    ("exact", "exact", "#c33"),
)


def picture(report: Report) -> str:
    """The whole document."""
    known = [
        (label, colour, value) for name, label, colour in BOUNDS if (value := getattr(report, name)) is not None
    ]
    longest = max([*(value for *_, value in known), *(s.reward + s.interval for s in report.scores), 1e-9])
    scale = WIDTH / longest
    height = TOP + ROW * len(report.scores) + 30
    title = f"{report.resources:,} resources, {report.arrivals:,} arrivals, {report.runs} runs: mean reward, 95 %"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + 90}" height="{height}" '
        'font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="#fff"/>',
        f'<text x="8" y="16">{escape(title)}</text>',
        *_bars(report.scores, scale),
        *_bounds(known, scale, TOP + ROW * len(report.scores)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _bars(scores: tuple[Score, ...], scale: float) -> Iterator[str]:
    for i, score in enumerate(scores):
        y, end = TOP + ROW * i, LEFT + score.reward * scale
        half, middle = score.interval * scale, y + ROW / 2 - 2
        yield f'<text x="{LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(score.rule)}</text>'
        yield f'<rect x="{LEFT}" y="{y}" width="{end - LEFT:.1f}" height="{ROW - 5}" fill="#9bc"/>'
        yield f'<path d="M{end - half:.1f} {middle:.1f}H{end + half:.1f}" stroke="#000"/>'
        yield f'<text x="{LEFT + 6}" y="{middle + 4:.1f}">{score.reward:,.2f} ± {score.interval:,.2f}</text>'


def _bounds(known: list[tuple[str, str, float]], scale: float, bottom: int) -> Iterator[str]:
    for i, (label, colour, value) in enumerate(known):
        x = LEFT + value * scale
        yield f'<path d="M{x:.1f} {TOP - 4}V{bottom}" stroke="{colour}" stroke-dasharray="4 2"/>'
        yield (f'<text x="{LEFT + 150 * i}" y="{bottom + 18}" fill="{colour}">{escape(label)} {value:,.2f}</text>')
