"""Early decisions about generated subjects: `python -m tests.bench.early [--seeds N]`.

400 subjects of 10 to 60 BANKING77 messages, 13 % of them positive: they write of a risk (a lost, stolen or misused
card) in 15 % of their messages, the others in 1 %. SS3 learns one half of the messages, the subjects write the
other. Each policy beside the two that need no model: alert about everyone at once, alert about nobody.
"""

import argparse
import csv
import gzip
import random
from collections.abc import Sequence
from importlib import resources
from statistics import median

from streamd.learners.ss3.model import SS3Classifier
from streamd.stages.early import EarlyDecisions, Policy, for_and_against
from streamd.stages.early_evaluation import Comparison, Decision, Evaluation, compare

RISK = ("compromised_card", "lost_or_stolen_card", "cash_withdrawal_not_recognised")
POLICIES = (
    Policy("above", min_posts=3),
    Policy("slope"),
    Policy("slope", window=5),
    Policy("threshold", theta=0.2, min_posts=5),
    Policy("history", theta=0.15, window=5, min_posts=5),
    Policy("global", gamma=2.0, min_posts=3),
)

Subjects = Sequence[tuple[bool, Sequence[str]]]
Said = Sequence[Sequence[tuple[float, float]]]


def messages() -> list[tuple[str, bool]]:
    packed = resources.files("streamd").joinpath("samples/banking77.csv.gz").read_bytes()
    rows = list(csv.DictReader(gzip.decompress(packed).decode().splitlines()))
    random.Random(7).shuffle(rows)
    return [(row["text"], row["category"] in RISK) for row in rows]


def subjects(rows: list[tuple[str, bool]], n: int, seed: int) -> Subjects:
    rng = random.Random(seed)
    by_risk = {risk: [text for text, is_risk in rows if is_risk == risk] for risk in (True, False)}
    made = []
    for i in range(n):
        positive = i < round(0.13 * n)
        rate = 0.15 if positive else 0.01
        made.append((positive, [rng.choice(by_risk[rng.random() < rate]) for _ in range(rng.randint(10, 60))]))
    return made


def trained(rows: list[tuple[str, bool]]) -> SS3Classifier:
    model = SS3Classifier()
    model.learn_many([text for text, _ in rows], ["risk" if risk else "other" for _, risk in rows])
    return model


def said(model: SS3Classifier, written: Subjects) -> Said:
    """What each post says, (for, against)."""
    watched = [model.classes.index("risk")]
    found = iter(model._predict(post for _, posts in written for post in posts).confidences.tolist())
    return [[for_and_against(next(found), watched) for _ in posts] for _, posts in written]


def decided(written: Subjects, told: Said, policy: Policy) -> Comparison:
    """The subjects take turns: the first post of each, then the second, as a stream would bring them."""
    early = EarlyDecisions(policy)
    alerted: dict[int, int] = {}
    for turn in range(max(len(posts) for posts in told)):
        for i, posts in enumerate(told):
            if turn < len(posts):
                alert = early.add(f"subject {i}", *posts[turn], ts=turn)
                if alert is not None:
                    alerted[i] = alert.posts
    return compare(
        [Decision(truth, i in alerted, alerted.get(i, len(posts))) for i, (truth, posts) in enumerate(written)]
    )


def show(name: str, found: Sequence[Evaluation]) -> None:
    def middle(value: str) -> float:
        return median(getattr(one, value) for one in found)

    erde = {o: 100 * median(one.erde[o] for one in found) for o in (5, 50)}
    print(
        f"{name:12} ERDE_5 {erde[5]:5.1f}  ERDE_50 {erde[50]:5.1f}  F1 {middle('f1'):.2f}  "
        f"precision {middle('precision'):.2f}  recall {middle('recall'):.2f}  F_latency {middle('f_latency'):.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="sets of subjects; the medians are shown")
    given = parser.parse_args()
    rows = messages()
    model = trained(rows[: len(rows) // 2])
    sets = [subjects(rows[len(rows) // 2 :], 400, seed) for seed in range(11, 11 + given.seeds)]
    told = [said(model, written) for written in sets]
    for policy in POLICIES:
        found = [decided(written, posts, policy) for written, posts in zip(sets, told, strict=True)]
        show(policy.kind, [one.decided for one in found])
    show("everyone", [one.everyone for one in found])
    show("nobody", [one.nobody for one in found])


if __name__ == "__main__":
    main()
