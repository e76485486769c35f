"""The page for people at `/`: the pipelines, how good they are, and where the rest is. One response, no assets."""

from collections.abc import Mapping, Sequence
from html import escape

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
"""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
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
        f"<meta http-equiv=refresh content=5><title>streamd: {escape(group)}</title><style>{STYLE}</style>"
        f"<h1>streamd <small>group {escape(group)}, worker {escape(worker)}</small></h1>{sections}"
        "<p><a href=/metrics>metrics</a> · <a href=/readyz>readiness</a> · <a href=/v1/pipelines>JSON</a></p>"
    )
    return HTMLResponse(body, headers={"content-security-policy": POLICY, "cache-control": "no-store"})


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
        why = "; ".join(f"{reason}: {count:,}" for reason, count in pool.unmatched.items())
        alarm = " <span class=waiting>miscalibrated</span>" if pool.alarm else ""
        cells = "".join(f"<td>{number:,}" for number in numbers)
        rows.append(f"<tr><th scope=row>{escape(pool.pool)}{alarm}{cells}<td>{escape(why)}")
    return f"<table><tr><th scope=col>pool{head}<th scope=col>unmatched{''.join(rows)}</table>"


def _quality(total: Mapping[str, float], fading: Mapping[str, float]) -> str:
    if not total:
        return ""
    head = "".join(f"<th scope=col>{escape(NAMES.get(name, name))}" for name in total)
    rows = (
        f"<tr><th scope=row>{title}" + "".join(f"<td>{values.get(name, float('nan')):.4g}" for name in total)
        for title, values in (("all labels", total), ("fading window", fading))
    )
    return f"<tr><th scope=col>quality{head}" + "".join(rows)
