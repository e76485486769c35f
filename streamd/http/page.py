"""The page for people at `/`: the pipelines, how good they are, and a box to try a text pipeline on a message.

One response, no assets. Its script (`console.js`) asks the API and shows what comes back as text; nothing else may
run in the page.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources

from starlette.responses import HTMLResponse

from streamd.views import EngineView, MatchingView, ShardView

STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.3rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; } h2 a { text-decoration: none; }
table { border-collapse: collapse; width: 100%; } caption { text-align: left; opacity: .7; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid #8884; font-weight: normal; }
th { opacity: .7; } td { font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; }
.ready, .waiting { font-size: .8rem; border-radius: 1rem; padding: .1rem .6rem; color: #fff; vertical-align: 1px; }
.ready { background: #2a7d46; } .waiting { background: #b4552d; }
#box { display: flex; flex-wrap: wrap; gap: .6rem; align-items: start; }
#box textarea { flex: 1 1 24rem; min-height: 4.5rem; font: inherit; padding: .5rem; border-radius: .4rem; }
#box button, #box select { font: inherit; padding: .3rem .8rem; }
#why .label { font-size: 1.25rem; font-weight: 600; margin: 1rem 0 .3rem; }
#why .message { white-space: pre-wrap; font-size: 1.1rem; line-height: 1.9; margin: .8rem 0; }
#why mark { color: inherit; border-radius: .25em; padding: .1em .15em; } #why .sum { opacity: .6; }
#why .refused { color: #b4552d; } #why table { margin-top: .8rem; } #why td:nth-child(2) { text-align: left; }
.bars { list-style: none; padding: 0; margin: .8rem 0; }
.bars li { display: flex; align-items: center; gap: .6rem; } .bars span { flex: 0 0 35%; text-align: right; }
.bars i { height: .8rem; border-radius: .2rem; } .bars b { font-weight: normal; opacity: .7; }
"""
SCRIPT = resources.files("streamd.http").joinpath("console.js").read_text(encoding="utf-8")
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    f"script-src 'sha256-{base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()}'"
)
NAMES = {
    "log_loss": "log loss",
    "mae": "MAE",
    "rmse": "RMSE",
    "mean": "MAE of the mean",
    "majority": "majority class",
}


def page(group: str, worker: str, views: Sequence[EngineView], now: float) -> HTMLResponse:
    """now: seconds since 1970."""
    sections = "".join(_pipeline(view, now) for view in views) or "<p>No pipeline has started yet.</p>"
    body = (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>streamd: {escape(group)}</title><style>{STYLE}</style>"
        "<noscript><meta http-equiv=refresh content=5></noscript>"
        f"<h1>streamd <small>group {escape(group)}, worker {escape(worker)}</small></h1>{_box(views)}"
        f"<div id=state>{sections}</div>"
        "<p><a href=/metrics>metrics</a> · <a href=/readyz>readiness</a> · <a href=/v1/pipelines>JSON</a></p>"
        f"<script>{SCRIPT}</script>"
    )
    return HTMLResponse(body, headers={"content-security-policy": POLICY, "cache-control": "no-store"})


def _box(views: Sequence[EngineView]) -> str:
    """Where a message is typed, if a pipeline reads texts."""
    names = [escape(view.pipeline) for view in views if view.task == "text"]
    if not names:
        return ""
    options = "".join(f"<option>{name}" for name in names)
    choice = "" if len(names) > 1 else " hidden"
    return (
        "<h2>Try it</h2><p>Type a message: what kind of message is it, as far as the model has learned, and why? "
        "Trying teaches it nothing.</p><form id=box>"
        f"<select name=pipeline aria-label=pipeline{choice}>{options}</select>"
        "<textarea name=text aria-label=message placeholder='a message'></textarea><button>Ask</button></form>"
        "<div id=why aria-live=polite></div>"
    )


def _pipeline(view: EngineView, now: float) -> str:
    name = escape(view.pipeline)
    state = "<span class=ready>ready</span>" if view.ready else "<span class=waiting>not ready</span>"
    reasons = f"<p>{escape('; '.join(view.reasons))}</p>" if view.reasons else ""
    topics = f"{escape(view.task)}: {escape(view.events)} → {escape(view.predictions)}, {escape(view.model)}"
    epochs = f"{view.epochs:,} epochs, the last {max(0.0, now - view.last_epoch):.1f} s ago"
    lag = sum(lag.records for lag in view.lag)
    return (
        f"<h2><a href='/v1/pipelines/{name}'>{name}</a> {state}</h2>{reasons}<p>{topics}<br>{epochs}, "
        f"{lag:,} records waiting</p>" + "".join(_shard(shard) for shard in view.shards)
    )


def _shard(shard: ShardView) -> str:
    phase = f": {shard.phase}, {shard.reason}" if shard.reason else f": {shard.phase}"
    counts = shard.counts
    told = (
        f"partition {shard.partition}{phase}; {counts.get('events', counts.get('arrivals', 0)):,} events, "
        f"{shard.quality.labels:,} labels, {shard.pending:,} pending, {counts.get('dead_letters', 0):,} refused"
    )
    quality = _quality(shard.quality.total, shard.quality.fading)
    pools = "" if shard.matching is None else _pools(shard.matching)
    return f"<table><caption>{escape(told)}</caption>{quality}</table>{pools}"


def _pools(view: MatchingView) -> str:
    """A row per pool; why arrivals were left unmatched."""
    names = ("resources", "open", "matched", "settled", "successes", "expected")
    head = "".join(f"<th scope=col>{name}" for name in names)
    rows = []
    for pool in view.pools:
        numbers = (pool.resources, pool.open, pool.matched, pool.settled, pool.succeeded, round(pool.expected))
        found = pool.hindsight
        ratio = "" if found is None else f"{found.ratio:.3f}"
        why = "; ".join(f"{reason}: {count:,}" for reason, count in pool.unmatched.items())
        alarm = " <span class=waiting>miscalibrated</span>" if pool.alarm else ""
        cells = "".join(f"<td>{number:,}" for number in numbers)
        rows.append(f"<tr><th scope=row>{escape(pool.pool)}{alarm}{cells}<td>{ratio}<td>{escape(why)}")
    last = "<th scope=col>of the matching LP<th scope=col>unmatched"
    return f"<table><tr><th scope=col>pool{head}{last}{''.join(rows)}</table>"


def _quality(total: Mapping[str, float], fading: Mapping[str, float]) -> str:
    if not total:
        return ""
    head = "".join(f"<th scope=col>{escape(NAMES.get(name, name))}" for name in total)
    rows = (
        f"<tr><th scope=row>{title}" + "".join(f"<td>{values.get(name, float('nan')):.4g}" for name in total)
        for title, values in (("all labels", total), ("fading window", fading))
    )
    return f"<tr><th scope=col>quality{head}" + "".join(rows)
