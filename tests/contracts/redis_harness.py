"""The Redis implementation of the port `Store`, for the suite of laws."""

import uuid

from connectors.redis_store import RedisStore
from streamd.ports import Store


class RedisHarness:
    def __init__(self, url: str) -> None:
        self._url = url
        self._prefix = f"laws-{uuid.uuid4().hex}"

    def make_store(self) -> Store:
        return RedisStore(self._url, prefix=self._prefix)
