"""`streamd ss3 early`: how early and how well subjects would have been found, beside the two constants."""

import csv
from pathlib import Path
from typing import Annotated, Any

import typer
from msgspec import Struct
from rich.table import Table

from streamd.cli.options import Json, console, print_json
from streamd.errors import StreamdError
from streamd.learners.ss3.model import SS3Classifier
from streamd.stages.early import KINDS, EarlyDecisions, Policy, for_and_against
from streamd.stages.early_evaluation import Comparison, Decision, compare

POSITIVE = frozenset({"1", "true", "yes", "positive"})


class Posts(Struct):
    """Of one subject, in order."""

    truth: bool
    texts: list[str]


def early(
    training: Annotated[Path, typer.Argument(help="A CSV file of labelled texts: columns text and label.")],
    posts: Annotated[Path, typer.Argument(help="A CSV file of posts in order: columns subject, text and truth.")],
    watch: Annotated[str, typer.Option(help="The labels that call for an alert, with commas between.")],
    policy: Annotated[str, typer.Option(help=f"One of {', '.join(KINDS)}.")] = "above",
    min_posts: int = 1,
    theta: float = 0.5,
    window: int = 10,
    delta: float = 0.0,
    gamma: float = 2.0,
    o: Annotated[str, typer.Option("--o", help="For ERDE_o, with commas between.")] = "5,50",
    sigma: float = 0.45,
    lam: float = 0.5,
    rho: float = 1.0,
    alpha: float = 0.0,
    n_grams: Annotated[int, typer.Option(min=1, max=8)] = 1,
    json: Json = False,
) -> None:
    """Learn the labelled texts, read the posts, alert by a policy, and judge: ERDE_o, precision, recall, F1 and
    F_latency, beside those of alerting about everyone and about nobody."""
    from streamd.cli.ss3 import read_texts  # which has this verb

    model = SS3Classifier(sigma, lam, rho, alpha, n_grams)
    model.learn_many(*read_texts(training, "text", "label"))
    subjects = read_posts(posts)
    chosen = Policy(policy, min_posts, theta, window, delta, gamma)
    os = _whole(o)
    found = judged(model, subjects, frozenset(watch.split(",")), chosen, os)
    if json:
        print_json({name: one._asdict() for name, one in found._asdict().items()})
    else:
        _print(found, os)


def judged(
    model: SS3Classifier, subjects: dict[str, Posts], watch: frozenset[str], policy: Policy, os: list[int]
) -> Comparison:
    """The subjects take turns, a post each. Raises StreamdError if none of the categories watched was learned."""
    watched = [c for c, name in enumerate(model.classes) if name in watch]
    if not watched:
        raise StreamdError(f"--watch: none of them was learned; there are {', '.join(model.classes)}")
    decisions, alerted = EarlyDecisions(policy, max_subjects=max(len(subjects), 1)), {}
    for turn in range(max((len(kept.texts) for kept in subjects.values()), default=0)):
        for name, kept in subjects.items():
            if turn < len(kept.texts):
                said = model.classify(kept.texts[turn]).tolist()
                alert = decisions.add(name, *for_and_against(said, watched), ts=0)
                if alert is not None:
                    alerted[name] = alert.posts
    taken = [
        Decision(kept.truth, name in alerted, alerted.get(name, len(kept.texts)))
        for name, kept in subjects.items()
    ]
    return compare(taken, os)


def read_posts(path: Path) -> dict[str, Posts]:
    """By subject, in the order of their first posts; a subject is positive if any of its rows says so. Raises
    StreamdError if the file or a column is not there."""
    subjects: dict[str, Posts] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                kept = subjects.setdefault(row["subject"] or "", Posts(False, []))
                kept.truth |= (row["truth"] or "").lower() in POSITIVE
                kept.texts.append(row["text"] or "")
    except KeyError as error:
        raise StreamdError(f"{path} has no column {error}") from None
    except (ValueError, OSError, csv.Error) as error:
        raise StreamdError(f"{path} cannot be read: {error}") from None
    return subjects


def _whole(values: str) -> list[int]:
    try:
        return [int(value) for value in values.split(",")]
    except ValueError:
        raise StreamdError(f"--o: {values!r} is not a list of whole numbers with commas between") from None


def _print(found: Comparison, os: list[int]) -> None:
    table = Table("", *(f"ERDE_{o}" for o in os), "precision", "recall", "F1", "F_latency", box=None)
    for name, one in found._asdict().items():
        erde: Any = [f"{100 * one.erde[o]:.2f}" for o in os]
        table.add_row(name, *erde, *(f"{v:.3f}" for v in (one.precision, one.recall, one.f1, one.f_latency)))
    console().print(table)
    print(
        f"{found.decided.subjects} subjects, {found.decided.positives} positive; ERDE times 100, lower is better"
    )
