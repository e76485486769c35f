"""Real servers for the tests: one Apache Kafka broker for all workers of a run, Redis and Valkey servers.

STREAMD_TEST_KAFKA=host:port and STREAMD_TEST_REDIS=redis://host:port use running ones instead. Where a server
cannot be had, `Unavailable` says why; the fixtures skip with that reason, and fail where CI=true.
"""


class Unavailable(Exception):
    """A server cannot be started here; the message says what is missing."""
