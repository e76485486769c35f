"""Every failure streamd knows, on one page. Whatever is not here is a bug: it ends the process, state intact.

| error         | raised by                | what happens                                                       |
|---------------|--------------------------|--------------------------------------------------------------------|
| `Transient`   | connectors               | the engine voids the epoch, waits with backoff, recovers, goes on; |
|               |                          | past the configured limit the process exits 75                     |
| `BadRecord`   | decoding, learners       | a dead letter with the reason; the stream goes on                  |
| `Fenced`      | connectors               | another worker has this name: exit 78, no second attempt           |
| `ConfigError` | `config`, `wiring`,      | refused before anything starts: exit 78. A connector raises it     |
|               | connectors               | where it is refused (TLS, user, password, rights) from the first   |
| `StateError`  | restore, snapshots, logs | stop; exit 65, and a sentence that says what is possible           |
| `OffsetGap`   | logs                     | a `StateError`, unless the operator chose to go on with what is kept |
| `NotFound`    | answers to questions     | told to who asked: no such pipeline, subject, kind of question     |
| `Elsewhere`   | answers to questions     | told to who asked: another worker has the shard                    |
| `Refused`     | commands of the operator | told to the operator; nothing was changed, the stream goes on      |
| `Poisoned`    | the engine               | a record ended the process; exit 70, and how to skip it            |
"""

EXIT_OK = 0
EXIT_FAILURE = 1
EXIT_USAGE = 2
EXIT_STATE = 65
EXIT_BUG = 70
EXIT_TRY_AGAIN = 75
EXIT_CONFIG = 78


class StreamdError(Exception):
    """The root of the tree; `exit_code` is the process's when the error reaches the top."""

    exit_code = EXIT_FAILURE


class Transient(StreamdError):
    """Something outside is away or refused for now; the same work may succeed later.

    retry_after: seconds the other side asked us to wait, if it did.
    """

    exit_code = EXIT_TRY_AGAIN

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class BadRecord(StreamdError):
    """One record cannot be used. `reason` goes into its dead letter; it names no personal data."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Fenced(StreamdError):
    """Another worker runs under this worker's name."""

    exit_code = EXIT_CONFIG


class ConfigError(StreamdError):
    """The configuration is refused. `key` is the path of the key, as in `pipeline.adult.learner.eta`."""

    exit_code = EXIT_CONFIG

    def __init__(self, key: str, expected: str) -> None:
        super().__init__(f"{key}: {expected}" if key else expected)
        self.key = key
        self.expected = expected


class NotFound(StreamdError):
    """A question about what is not there."""


class Elsewhere(StreamdError):
    """A question about a shard that is not with this worker. owner: the worker that has it, if known."""

    def __init__(self, partition: int, owner: str | None = None) -> None:
        super().__init__(f"partition {partition} is not with this worker{f'; {owner} has it' if owner else ''}")
        self.partition = partition
        self.owner = owner


class StateError(StreamdError):
    """Stored state is missing, damaged or means something else. Nothing was changed."""

    exit_code = EXIT_STATE


class Refused(StreamdError):
    """A command of the operator cannot be carried out. Nothing was changed; the sentence says what to do."""


class Poisoned(StreamdError):
    """A record that no stage could take, and that was not refused: a bug, of ours or of a model. It is named."""

    exit_code = EXIT_BUG


class OffsetGap(StateError):
    """A position lies outside of what a topic keeps: below the oldest record, or above the end.

    position: the next offset wanted; oldest, end: the oldest kept, and the next to be written.
    """

    def __init__(self, topic: str, partition: int, position: int, oldest: int, end: int) -> None:
        where = f"{topic}[{partition}]: offset {position} is wanted"
        if position < oldest:
            lost = f"the oldest kept is {oldest}: {oldest - position} records were deleted before they were read"
        else:
            lost = f"the topic ends at {end}: it was made again, or lost records that had been read"
        super().__init__(f"{where}, {lost}")
        self.topic = topic
        self.partition = partition
        self.position = position
        self.oldest = oldest
        self.end = end

    @property
    def nearest(self) -> int:
        """Where reading may go on: nothing that is kept and was not read is passed over."""
        return min(max(self.position, self.oldest), self.end)

    @property
    def missed(self) -> int:
        """Records that were never read; 0 above the end, where those that were lost had been read."""
        return max(0, self.oldest - self.position)
