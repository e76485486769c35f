"""What the demo shows: figures taken from the daemon's view, as a panel on a terminal or as a line elsewhere."""

from collections import deque
from collections.abc import Sequence

from msgspec import Struct
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streamd.records import Prediction
from streamd.views import EngineView

WINDOW = 3.0  # seconds over which events/s are measured


class Figures(Struct, frozen=True):
    """A moment of the demo. Rates per second; accuracies None before the first label."""

    phase: str  # empty while the daemon runs
    events: int
    rate: float
    labels: int
    accuracy: float | None
    majority: float | None
    fading: float | None
    pending: int
    epochs: int
    lag: int


class Said(Struct, frozen=True):
    """A prediction, and the truth that the daemon learns later."""

    prediction: Prediction
    truth: str


class Moment(Struct, frozen=True):
    """All that is shown. state: one sentence on what is going on; seconds: since the demo began."""

    figures: Figures
    said: Sequence[Said]
    state: str
    seconds: float
    url: str
    folder: str


class Pace:
    """Events per second over a moving window."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def add(self, now: float, events: int) -> float:
        """now: seconds of any clock that does not go back."""
        self._seen.append((now, events))
        while len(self._seen) > 2 and self._seen[0][0] < now - WINDOW:
            self._seen.popleft()
        began, before = self._seen[0]
        return (events - before) / (now - began) if now > began else 0.0


def figures(view: EngineView, pace: Pace, now: float) -> Figures:
    """What a view says, for a pipeline of task classify on one partition."""
    shard = view.shards[0] if view.shards else None
    total = shard.quality.total if shard else {}
    events = shard.counts.get("events", 0) if shard else 0
    return Figures(
        phase=_phase(view),
        events=events,
        rate=pace.add(now, events) if view.ready else 0.0,
        labels=shard.quality.labels if shard else 0,
        accuracy=total.get("accuracy"),
        majority=total.get("majority"),
        fading=shard.quality.fading.get("accuracy") if shard else None,
        pending=shard.pending if shard else 0,
        epochs=shard.sequence if shard else 0,
        lag=sum(lag.records for lag in view.lag),
    )


def _phase(view: EngineView) -> str:
    if view.ready:
        return ""
    if view.reasons == ("starting",):
        return "compiling the kernels (the first time only, then they come from a cache)"
    return "; ".join(view.reasons)


def line(moment: Moment) -> str:
    """What goes on, as one plain line."""
    at = moment.figures
    return f"{moment.seconds:6.1f} s  {at.phase or f'{at.rate:,.0f} events/s; {_summary(at)}'}"


def last_line(moment: Moment) -> str:
    """What was done, once the daemon has stopped."""
    return f"{moment.seconds:6.1f} s  {_summary(moment.figures)}"


def _summary(at: Figures) -> str:
    return (
        f"{at.events:,} events; accuracy {_share(at.accuracy)} (lately {_share(at.fading)}, majority class "
        f"{_share(at.majority)}); {at.labels:,} labels learned, {at.pending:,} pending; {at.epochs:,} epochs; "
        f"{at.lag:,} records waiting"
    )


def panel(moment: Moment) -> RenderableType:
    """The live view."""
    head = Text(f"{moment.figures.phase or moment.state}  ({moment.seconds:.0f} s)", style="bold")
    parts: list[RenderableType] = [head]
    if not moment.figures.phase:
        parts += [_measures(moment.figures), _predictions(moment.said)]
    parts.append(_addresses(moment.url, moment.folder))
    return Panel(Group(*(Padding(part, (0, 0, 1, 0)) for part in parts[:-1]), parts[-1]), title="streamd demo")


def _measures(figures: Figures) -> RenderableType:
    table = Table.grid(padding=(0, 3))
    for _ in range(4):
        table.add_column()
    rows = [
        ("events", f"{figures.events:,}", "accuracy so far", _share(figures.accuracy)),
        ("events/s", f"{figures.rate:,.0f}", "accuracy lately", _share(figures.fading)),
        ("labels learned", f"{figures.labels:,}", "of the majority class", _share(figures.majority)),
        ("labels pending", f"{figures.pending:,}", "epochs", f"{figures.epochs:,}"),
        ("records waiting", f"{figures.lag:,}", "", ""),
    ]
    for name, value, other, its in rows:
        table.add_row(Text(name, "dim"), Text(value, "bold"), Text(other, "dim"), Text(its, "bold"))
    return table


def _predictions(said: Sequence[Said]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for name, width in (("id", 5), ("predicted", 9), ("p", 5), ("truth, later", 12)):
        table.add_column(name, min_width=width, no_wrap=True)
    table.add_column("why", ratio=1, no_wrap=True, overflow="ellipsis")
    for one in said:
        label = one.prediction.label or "?"
        label = label if isinstance(label, str) else ", ".join(label)
        p = one.prediction.p.get(label) if isinstance(one.prediction.p, dict) else None
        style = "green" if label == one.truth else "red"
        why = _why(one.prediction)
        table.add_row(
            Text(one.prediction.id), Text(label), Text(_share(p)), Text(one.truth, style), Text(why, "dim")
        )
    return table


def _why(prediction: Prediction) -> str:
    found = prediction.why if isinstance(prediction.why, list) else []
    return ", ".join(f"{name} {share:+.2f}" for name, share in found)


def _addresses(url: str, folder: str) -> RenderableType:
    return Text(f"open {url}/ and {url}/metrics    log lines and state in {folder}    Ctrl-C ends", style="dim")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
