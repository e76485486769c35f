"""Snapshots in Redis or Valkey (port `Store`).

Addresses:

    redis://host:6379/0                            one server; rediss:// with TLS, unix:///path/to/socket
    redis+sentinel://host:26379,host:26379/0?service=mymaster      the master that the sentinels name
    redis+cluster://host:6379,host:6379            a cluster; rediss+sentinel:// and rediss+cluster:// with TLS

What follows `?` in an address goes to redis-py (`ssl_ca_certs=...`, `db=...`), save for `service`.

All keys of a shard have the hash tag `{prefix:shard}`, so a cluster keeps them on one node:

    {prefix:shard}:index            hash: sequence -> attempt, number of chunks, bytes, time
    {prefix:shard}:attempts         set of attempts that are not, or no longer, in the index
    {prefix:shard}:<attempt>:<n>    a chunk, n from 0; the manifest is `:<attempt>:manifest`

A put writes under an attempt of its own, registered first; one script then moves it into the index, which is
the moment the snapshot exists. It does so only while the attempt is still registered and every key is there,
so a writer that slept while another took the shard over publishes nothing. Until then the keys expire on
their own after a day. The user needs `~{prefix:* +@read +@write +@scripting +@connection`.
"""

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.connection import parse_url
from redis.exceptions import RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

from connectors.refusals import chain, of_tls
from streamd.errors import ConfigError, StateError, Transient
from streamd.ports import SnapshotInfo

UNPUBLISHED = 86_400  # seconds that the keys of an attempt live unless it is published
AT_ONCE = 8 << 20  # bytes sent before an answer is awaited
READ_AHEAD = 2  # chunks
FAILURES = (redis.RedisError, RedisClusterException)  # the second, for a cluster that is away, is not a first
DELETED_AT_ONCE = 64  # keys

PUBLISH = """
if redis.call('SISMEMBER', KEYS[2], ARGV[1]) == 0 then return 0 end
for i = 3, #KEYS do
  if redis.call('PERSIST', KEYS[i]) == 0 then return 0 end
end
local former = redis.call('HGET', KEYS[1], ARGV[2])
if former then redis.call('SADD', KEYS[2], string.match(former, '^[^ ]+')) end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('SREM', KEYS[2], ARGV[1])
return 1
"""
RETIRE = """
local entry = redis.call('HGET', KEYS[1], ARGV[1])
if entry then
  redis.call('SADD', KEYS[2], string.match(entry, '^[^ ]+'))
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
"""


class Entry(NamedTuple):
    """One snapshot's line in the index."""

    attempt: str
    chunks: int
    size: int
    written: int

    def encode(self) -> str:
        return f"{self.attempt} {self.chunks} {self.size} {self.written}"

    @classmethod
    def decode(cls, raw: bytes) -> "Entry":
        attempt, chunks, size, written = raw.decode().split(" ")
        return cls(attempt, int(chunks), int(size), int(written))


class RedisStore:
    """prefix: of all keys, so that several installations may share a server. username, password: of an ACL
    user, instead of in the URL. timeout, connect_timeout: seconds for an answer, and for a connection.
    client_settings: further arguments for redis-py's client."""

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "streamd",
        username: str | None = None,
        password: str | None = None,
        timeout: float = 5.0,
        connect_timeout: float = 2.0,
        client_settings: Mapping[str, object] | None = None,
    ) -> None:
        if not prefix or set("{}*?[]\\ ") & set(prefix):
            raise ConfigError("store.prefix", f"{prefix!r}: no spaces, braces, brackets or wildcards")
        self._prefix = prefix
        given = {"username": username, "password": password, **(client_settings or {})}
        settings = {key: value for key, value in given.items() if value is not None}
        try:
            self._connect = _connector(url, settings, timeout, connect_timeout)
        except ValueError as error:
            raise ConfigError("store.url", str(error)) from error
        self._client: Any = None

    def put(self, shard: str, sequence: int, manifest: bytes, chunks: Iterable[bytes]) -> None:
        with self._redis("put", shard) as client:
            self._clean(client, shard)
            attempt = f"{sequence}-{uuid.uuid4().hex}"
            client.sadd(self._key(shard, "attempts"), attempt)
            try:
                count, size = self._write(client, shard, attempt, manifest, chunks)
                entry = Entry(attempt, count, size, int(time.time() * 1000))
                self._publish(client, shard, sequence, entry)
            except Exception:
                with suppress(*FAILURES):
                    self._remove(client, shard, attempt)
                raise
            self._clean(client, shard)

    def _write(
        self, client: Any, shard: str, attempt: str, manifest: bytes, chunks: Iterable[bytes]
    ) -> tuple[int, int]:
        """Returns (number of chunks, bytes of everything)."""
        count, size, waiting = 0, 0, 0
        pipe = client.pipeline(transaction=False)
        for chunk in chunks:
            pipe.set(self._key(shard, attempt, count), chunk, ex=UNPUBLISHED)
            count, size, waiting = count + 1, size + len(chunk), waiting + len(chunk)
            if waiting >= AT_ONCE:
                pipe.execute()
                waiting = 0
        pipe.set(self._key(shard, attempt, "manifest"), manifest, ex=UNPUBLISHED)
        pipe.execute()
        return count, size + len(manifest)

    def _publish(self, client: Any, shard: str, sequence: int, entry: Entry) -> None:
        index, attempts = self._key(shard, "index"), self._key(shard, "attempts")
        parts = [self._key(shard, entry.attempt, part) for part in (*range(entry.chunks), "manifest")]
        given = [index, attempts, *parts, entry.attempt, sequence, entry.encode()]
        if not client.eval(PUBLISH, 2 + len(parts), *given):
            raise Transient(f"snapshot {sequence} of {shard} was swept away while it was written")

    def list(self, shard: str) -> Sequence[SnapshotInfo]:
        with self._redis("list", shard) as client:
            index = client.hgetall(self._key(shard, "index"))
        entries = {int(sequence): Entry.decode(raw) for sequence, raw in index.items()}
        return [
            SnapshotInfo(sequence, entries[sequence].size, entries[sequence].written)
            for sequence in sorted(entries, reverse=True)
        ]

    def load(self, shard: str, sequence: int) -> tuple[bytes, Iterator[bytes]]:
        with self._redis("load", shard) as client:
            raw = client.hget(self._key(shard, "index"), str(sequence))
            if raw is None:
                raise StateError(f"there is no snapshot {sequence} of {shard}")
            entry = Entry.decode(raw)
            manifest = client.get(self._key(shard, entry.attempt, "manifest"))
        if manifest is None:
            raise StateError(f"snapshot {sequence} of {shard}: the manifest is gone")
        return manifest, self._chunks(shard, sequence, entry)

    def _chunks(self, shard: str, sequence: int, entry: Entry) -> Iterator[bytes]:
        for start in range(0, entry.chunks, READ_AHEAD):
            wanted = range(start, min(start + READ_AHEAD, entry.chunks))
            with self._redis("load", shard) as client:
                found = client.mget([self._key(shard, entry.attempt, number) for number in wanted])
            for number, chunk in zip(wanted, found, strict=True):
                if chunk is None:
                    raise StateError(f"snapshot {sequence} of {shard}: chunk {number} is gone")
                yield chunk

    def delete(self, shard: str, sequence: int) -> None:
        with self._redis("delete", shard) as client:
            client.eval(RETIRE, 2, self._key(shard, "index"), self._key(shard, "attempts"), str(sequence))
            self._clean(client, shard)

    def _clean(self, client: Any, shard: str) -> None:
        """Remove what attempts outside of the index have left: of writers that died, former snapshots."""
        for attempt in client.smembers(self._key(shard, "attempts")):
            self._remove(client, shard, attempt.decode())

    def _remove(self, client: Any, shard: str, attempt: str) -> None:
        """Chunks are written in order: none at a batch's numbers means none beyond."""
        client.unlink(self._key(shard, attempt, "manifest"))
        start = 0
        while client.unlink(*(self._key(shard, attempt, start + i) for i in range(DELETED_AT_ONCE))):
            start += DELETED_AT_ONCE
        client.srem(self._key(shard, "attempts"), attempt)

    def shards(self) -> Sequence[str]:
        before, after = f"{{{self._prefix}:", "}:index"
        with self._redis("list", "all shards") as client:
            keys = {key.decode() for key in client.scan_iter(match=f"{before}*{after}", count=1000)}
        return sorted(key.removeprefix(before).removesuffix(after) for key in keys)

    def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            with suppress(*FAILURES):
                client.close()

    def _key(self, shard: str, *parts: object) -> str:
        if "{" in shard or "}" in shard:
            raise ConfigError("", f"a shard's name has no braces: {shard}")
        return f"{{{self._prefix}:{shard}}}:" + ":".join(map(str, parts))

    @contextmanager
    def _redis(self, doing: str, shard: str) -> Iterator[Any]:
        """The client, and redis-py's errors as Transient: the server is away, slow, full (OOM), loading, a replica
        by now, or refuses this user. One that refuses the user from the first is a ConfigError."""
        try:
            yield self._opened()
        except FAILURES as error:
            raise Transient(f"store, {doing} of {shard}: {type(error).__name__}: {error}") from error

    def _opened(self) -> Any:
        """The client, made and tried at the first use. Raises ConfigError if it may not do what it must."""
        if self._client is not None:
            return self._client
        client = self._connect()
        try:
            self._try(client)
        except redis.exceptions.NoPermissionError as error:
            raise ConfigError(
                "store.username", f"this user lacks a right that the store needs: {error}"
            ) from error
        except FAILURES as error:
            if any(isinstance(part, redis.AuthenticationError) for part in chain(error)):
                raise ConfigError("store.username", f"Redis refuses this user or password: {error}") from error
            if (refusal := of_tls(error)) is not None:
                raise ConfigError("store.url", f"no TLS with Redis: {refusal}") from error
            raise
        self._client = client
        return client

    def _try(self, client: Any) -> None:
        """One command of each kind. What a full server or a replica refuses may be had later."""
        key = self._key(f"try-{uuid.uuid4().hex}", "index")
        for command in (
            partial(client.set, key, b"", px=1000),
            partial(client.get, key),
            partial(client.eval, "return redis.call('PERSIST', KEYS[1])", 1, key),
            partial(client.unlink, key),
        ):
            try:
                command()
            except redis.exceptions.NoPermissionError:
                raise
            except redis.ResponseError:
                continue


def _connector(url: str, given: Mapping[str, Any], timeout: float, connect_timeout: float) -> Callable[[], Any]:
    """A function that makes the client for this address. Raises ValueError for an address that means nothing."""
    settings: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": connect_timeout,
        "retry": Retry(NoBackoff(), 0),  # the engine decides when to try again
        **given,
    }
    base, _, kind = urlsplit(url).scheme.partition("+")
    if base in ("redis", "rediss") and kind in _SEVERAL:
        return _SEVERAL[kind](url, base, settings)
    if kind or base not in ("redis", "rediss", "unix"):
        raise ValueError("redis://, rediss:// or unix://; redis+sentinel:// or redis+cluster://, rediss+ for TLS")
    if base == "unix":
        settings.pop("socket_connect_timeout")
    client = redis.Redis.from_url(url, **settings)
    return lambda: client


def _sentinel(url: str, base: str, settings: Mapping[str, Any]) -> Callable[[], Any]:
    addresses, options, query = _several(url, base, 26379)
    service = query.get("service")
    if not service:
        raise ValueError("a sentinel address names the master: redis+sentinel://host:26379/0?service=mymaster")
    options |= settings
    watching = {"socket_timeout": options["socket_timeout"], "ssl": options.get("ssl", False)}
    watching |= options.pop("sentinel_kwargs", {})
    sentinel = Sentinel(addresses, sentinel_kwargs=watching)  # type: ignore[no-untyped-call]
    return lambda: sentinel.master_for(service, **options)  # type: ignore[no-untyped-call]


def _cluster(url: str, base: str, settings: Mapping[str, Any]) -> Callable[[], Any]:
    addresses, options, _ = _several(url, base, 6379)
    options |= settings
    options.pop("db", None)
    options.pop("retry")  # of a cluster's client it is what follows a slot to its new node
    nodes = [ClusterNode(*address) for address in addresses]  # type: ignore[no-untyped-call]
    return lambda: RedisCluster(startup_nodes=nodes, **options)


_SEVERAL = {"sentinel": _sentinel, "cluster": _cluster}


def _several(url: str, base: str, port: int) -> tuple[list[tuple[str, int]], dict[str, Any], dict[str, str]]:
    """An address of several hosts: (hosts and ports, settings for redis-py, what is ours in the query)."""
    parts = urlsplit(url)
    credentials, at, hosts = parts.netloc.rpartition("@")
    query = dict(parse_qsl(parts.query))
    ours = {key: query.pop(key) for key in ("service",) if key in query}
    one = urlunsplit((base, f"{credentials}{at}host", parts.path, urlencode(query), ""))
    options = dict(parse_url(one))  # type: ignore[no-untyped-call]
    options.pop("host")
    if options.pop("connection_class", None) is not None:
        options["ssl"] = True
    return [_address(host, port) for host in hosts.split(",")], options, ours


def _address(text: str, port: int) -> tuple[str, int]:
    host, colon, number = text.rpartition(":")
    return (host.strip("[]"), int(number)) if colon and number.isdigit() else (text.strip("[]"), port)
