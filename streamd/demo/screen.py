"""What the demo shows: figures taken from the daemon's views, as panels on a terminal or as lines elsewhere."""

from collections import deque
from collections.abc import Mapping, Sequence

from msgspec import Struct
from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streamd.records import Prediction
from streamd.views import EngineView, QueryingView, ShardView

WINDOW = 3.0  # seconds over which events/s are measured
LATELY = 1000  # predictions, in the mean, of which the last ones are judged
SHORT = 26  # characters of a class's name


class Truth(Struct):
    """What the daemon cannot know: how many of its predictions were right, in all, and of the last ones."""

    predicted: int = 0
    right: int = 0
    lately: float = 0.0

    def add(self, right: bool) -> None:
        self.predicted += 1
        self.right += right
        self.lately += (right - self.lately) / min(self.predicted, LATELY)

    def __str__(self) -> str:
        return f"{self.right / self.predicted:.3f}, lately {self.lately:.3f}" if self.predicted else "-"


class Figures(Struct, frozen=True):
    """One pipeline at a moment. phase: empty while it runs; facts: names and what is to be said, in order."""

    pipeline: str
    phase: str
    events: int
    facts: Mapping[str, str]
    lag: int
    epochs: int


class Said(Struct, frozen=True):
    """A prediction, and the truth, which the daemon learns later or never."""

    about: str
    prediction: Prediction
    truth: str


class Moment(Struct, frozen=True):
    """All that is shown. state: one sentence on what is going on; seconds: since the demo began."""

    figures: Sequence[Figures]
    said: Sequence[Said]
    state: str
    seconds: float
    url: str
    folder: str

    @property
    def phase(self) -> str:
        """Why it does not run yet; empty once all pipelines do."""
        return next((at.phase for at in self.figures if at.phase), "")


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


def figures(view: EngineView, pace: Pace, now: float, truth: Truth | None) -> Figures:
    """What a view says, for a pipeline on one partition. truth: None for a matching pipeline."""
    shard = view.shards[0] if view.shards else ShardView(0)
    events = shard.counts.get("arrivals" if truth is None else "events", 0)
    rate = pace.add(now, events) if view.ready else 0.0
    facts = _matched(shard, rate) if truth is None else _predicted(shard, rate, truth)
    lag = sum(lag.records for lag in view.lag)
    return Figures(view.pipeline, _phase(view), events, facts, lag, shard.sequence)


def _phase(view: EngineView) -> str:
    if view.ready:
        return ""
    if view.reasons == ("starting",):
        return "compiling the kernels (the first time only, then they come from a cache)"
    return "; ".join(view.reasons)


def _predicted(shard: ShardView, rate: float, truth: Truth) -> dict[str, str]:
    counts = shard.counts
    facts = {
        "events": f"{counts.get('events', 0):,} ({rate:,.0f}/s)",
        "labels learned": f"{counts.get('learned', 0):,}",
    }
    if shard.querying is not None:
        facts |= _asked(shard.querying, counts.get("events", 0))
    facts["accuracy, in truth"] = str(truth)
    if (worst := _worst_group(shard)) is not None:
        facts["worst group"] = worst
    return facts


def _asked(querying: QueryingView, events: int) -> dict[str, str]:
    asked, estimates = querying.counts.get("asked", 0), querying.estimates
    error = "" if estimates.error is None else f" ± {estimates.error:.3f}"
    return {
        "labels asked for": f"{asked:,} ({asked / max(events, 1):.1%}; budget {querying.share:.0%})",
        "waiting, expired": f"{querying.pending:,}, {querying.counts.get('expired', 0):,}",
        "accuracy, of the asked": _share(estimates.raw),
        "accuracy, corrected": _share(estimates.weighted),
        "accuracy, random slice": _share(estimates.holdout) + error,
    }


def _worst_group(shard: ShardView) -> str | None:
    """The group with the largest loss, and what the single model would lose on it."""
    if shard.groups is None:
        return None
    told = [group for group in shard.groups.groups if group.loss is not None and group.labels >= 20]
    worst = max(told, key=lambda group: group.loss or 0.0, default=None)
    if worst is None:
        return "-"
    return f"{worst.name}: loss {_share(worst.loss)}, one model {_share(worst.everyone)}"


def _matched(shard: ShardView, rate: float) -> dict[str, str]:
    pools = shard.matching.pools if shard.matching is not None else ()
    matched, settled = sum(pool.matched for pool in pools), sum(pool.settled for pool in pools)
    succeeded, expected = sum(pool.succeeded for pool in pools), sum(pool.expected for pool in pools)
    return {
        "questions": f"{shard.counts.get('arrivals', 0):,} ({rate:,.0f}/s)",
        "sent to an annotator": f"{matched:,}, {sum(pool.open for pool in pools):,} open",
        "answered well": f"{_share(succeeded / settled if settled else None)} of {settled:,}",
        "expected": _share(expected / settled if settled else None),
        "sent to another one": f"{shard.counts.get('reoffered', 0):,}",
        "annotators": f"{sum(pool.resources for pool in pools):,}",
    }


def told(moment: Moment, last: bool = False) -> list[str]:
    """What goes on, a plain line for each pipeline; last: whatever they wait for."""
    if moment.phase and not last:
        return [moment.phase]
    return [f"{at.pipeline}: " + ", ".join(map(" ".join, at.facts.items())) for at in moment.figures]


def panel(moment: Moment) -> RenderableType:
    """The live view."""
    parts: list[RenderableType] = [Text(f"{moment.phase or moment.state}  ({moment.seconds:.0f} s)", style="bold")]
    if not moment.phase:
        parts += [Columns([_measures(at) for at in moment.figures], padding=(0, 4)), _predictions(moment.said)]
    parts.append(_addresses(moment.url, moment.folder))
    return Panel(Group(*(Padding(part, (0, 0, 1, 0)) for part in parts[:-1]), parts[-1]), title="streamd demo")


def _measures(at: Figures) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_row(Text(at.pipeline, "bold underline"), Text(f"{at.epochs:,} epochs, {at.lag:,} waiting", "dim"))
    for name, told in at.facts.items():
        table.add_row(Text(name, "dim"), Text(told, "bold"))
    return table


def _predictions(said: Sequence[Said]) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", expand=True)
    for name, width in (("event", 30), ("predicted", 9), ("p", 5), ("truth", 9)):
        table.add_column(name, min_width=width, max_width=max(width, SHORT), no_wrap=True, overflow="ellipsis")
    table.add_column("why", ratio=1, no_wrap=True, overflow="ellipsis")
    for one in said:
        label = one.prediction.label or "?"
        label = label if isinstance(label, str) else ", ".join(label)
        p = one.prediction.p.get(label) if isinstance(one.prediction.p, dict) else None
        style = "green" if label == one.truth else "red"
        cells = (Text(one.about), Text(label), Text(_share(p)), Text(one.truth, style), Text(_why(one), "dim"))
        table.add_row(*cells)
    return table


def _why(one: Said) -> str:
    """The reasons as `name +0.12`: of SS3 words, of groups their weights."""
    found = one.prediction.why if isinstance(one.prediction.why, list) else []
    told = []
    for name, *rest in found:
        number = next((value for value in rest if isinstance(value, int | float)), None)
        told.append(str(name) if number is None else f"{name} {number:+.2f}")
    return ", ".join(told)


def _addresses(url: str, folder: str) -> RenderableType:
    return Text(f"open {url}/ and {url}/metrics    log lines and state in {folder}    Ctrl-C ends", style="dim")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
