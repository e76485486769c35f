"""What is remembered of events for their labels, predicted anew by a learner put back to an earlier state.

A memo speaks of what its learner knew when it was made (classes, groups); an earlier state may not know it yet.
"""

from collections.abc import Iterable

from msgspec.structs import replace

from streamd import records as codec
from streamd.errors import BadRecord
from streamd.learners import Learner
from streamd.stages.pending import PendingLabels

AT_ONCE = 4096  # predictions of one run


def predict_again(learner: Learner, pending: PendingLabels, reads_text: bool) -> None:
    """Events the earlier state cannot take in keep the memo they have: it learns nothing from them either."""
    for table in (pending.waiting, pending.closed):
        for events in _cut(list(table), AT_ONCE):
            steps, asked = learner.steps(), []
            for event in events:
                then = codec.decode_event(table[event].value)
                try:
                    row = steps.row(then.text if reads_text else then.features, then.groups)
                except BadRecord:
                    continue
                steps.predict(row)
                asked.append(event)
            predictions = steps.execute()
            for event, memo in zip(asked, predictions.memos(), strict=True):
                table[event] = replace(table[event], memo=memo)


def _cut(events: list[str], size: int) -> Iterable[list[str]]:
    return (events[i : i + size] for i in range(0, len(events), size))
