"""A Kafka user with the rights of deploy/README.md, and without each of them, at a broker that asks for them."""

import json
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from streamd import config as configuration
from streamd import wiring
from streamd.cli.topics import create
from streamd.config import Config
from streamd.errors import ConfigError
from streamd.ports import Log, Output
from tests.integration.engines import run_engine
from tests.servers import Unavailable, kafka
from tests.servers.fixtures import missing
from tests.servers.process import free_port

pytestmark = pytest.mark.kafka
DEADLINE = 30.0
KEYS = """
group = "{group}"
[log]
kind = "kafka"
client = "{client}"
brokers = ["{broker}"]
{user}
[pipeline.p]
task = "classify"
events = "{group}-events"
learner = {{ kind = "linear" }}
"""
USER = """[log.security]
mechanism = "PLAIN"
username = "dora"
password_file = "password"
"""


@pytest.fixture(scope="module")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Addresses of one broker: for who may do everything, and for who needs rights."""
    free, guarded = free_port(), free_port()
    login = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    settings = {
        **kafka.listeners({"PLAINTEXT": free, "GUARDED": guarded}, {"GUARDED": "SASL_PLAINTEXT"}),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.guarded.plain.sasl.jaas.config": f'{login} user_dora="secret";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    try:
        broker = kafka.start(tmp_path_factory.mktemp("guarded"), free, settings)
    except Unavailable as reason:
        missing(reason)
    yield broker.address, f"127.0.0.1:{guarded}"
    broker.stop()


def settings(client: str, broker: str, user: str, folder: Path) -> Config:
    (folder / "password").write_text("secret")
    text = KEYS.format(group=f"rights-{client}", client=client, broker=broker, user=user)
    return configuration.resolve(configuration.parse(text), folder)


def needed(config: Config) -> list[AclBinding]:
    """What deploy/README.md names, without what other rights imply (Describe), and what is for making topics."""
    pipeline, group = config.pipeline["p"], config.group
    topics = {pipeline.events: ("READ",), f"{group}.p.journal": ("READ", "WRITE", "DELETE")}
    topics |= dict.fromkeys(pipeline.outputs.values(), ("READ", "WRITE"))
    return [
        *(right(ResourceType.TOPIC, topic, operation) for topic, all_ in topics.items() for operation in all_),
        right(ResourceType.GROUP, f"{group}.", "READ", ResourcePatternType.PREFIXED),
        right(ResourceType.TRANSACTIONAL_ID, f"{group}.", "WRITE", ResourcePatternType.PREFIXED),
    ]


def right(
    kind: ResourceType, name: str, operation: str, pattern: ResourcePatternType = ResourcePatternType.LITERAL
) -> AclBinding:
    allow = AclPermissionType.ALLOW
    return AclBinding(kind, name, pattern, "User:dora", "*", AclOperation[operation], allow)


def give(admin: AdminClient, rights: list[AclBinding]) -> None:
    for done in admin.create_acls(rights).values():
        done.result(30)


def take(admin: AdminClient, given: AclBinding) -> None:
    fields = ("restype", "name", "resource_pattern_type", "principal", "host", "operation", "permission_type")
    for done in admin.delete_acls([AclBindingFilter(*(getattr(given, field) for field in fields))]).values():
        assert len(done.result(30)) == 1


def refused(log: Log) -> str:
    """Why a log is not opened, the key first; empty if it is."""
    try:
        log.open()
    except ConfigError as error:
        return str(error)
    finally:
        log.close(leave=False)
    return ""


def until_refused(config: Config, as_wanted: bool) -> str:
    """A broker hears of a right a little after it was given or taken."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        reason = refused(wiring.log(config, "p"))
        if bool(reason) is as_wanted:
            return reason
    pytest.fail(f"refused in the end: {reason!r}")


def judged(config: Config) -> list[str]:
    """The ids of the predictions."""
    with closing(wiring.client(config)) as outside:
        found = outside.read(config.pipeline["p"].predictions_topic, 0, 0, 100)
    return [json.loads(record.value or b"")["id"] for record in found]


def fill(config: Config, first: int, end: int) -> None:
    events = [json.dumps({"id": str(i), "features": {"x": i}, "label": "a"}).encode() for i in range(first, end)]
    with closing(wiring.client(config)) as outside:
        outside.append(config.pipeline["p"].events, [Output("", b"k", event, 1000) for event in events])


@pytest.mark.parametrize("client", ["kafka-python", "confluent"])
def test_the_documented_rights_are_enough_and_a_start_without_one_is_refused(
    brokers: tuple[str, str], client: str, tmp_path: Path
) -> None:
    free, guarded = brokers
    owner, config = settings(client, free, "", tmp_path), settings(client, guarded, USER, tmp_path)
    with closing(wiring.client(owner)) as outside:
        create(owner, outside, partitions=1)
        outside.create(f"{config.group}.p.journal", 1)
    rights, admin = needed(config), AdminClient({"bootstrap.servers": free})
    give(admin, rights)
    until_refused(config, False)

    for first in (0, 5):  # the second begins with what the first has left
        fill(owner, first, first + 5)
        run_engine(config)
        assert judged(owner) == [str(i) for i in range(first + 5)]
    log = wiring.log(config, "p")
    log.open()
    log.trim_journal(0, log.journal_end(0), int(time.time() * 1000))
    log.close(leave=True)

    for lacking in rights:
        take(admin, lacking)
        reason = until_refused(config, True)
        assert reason.startswith("log.security.username"), (lacking, reason)
        give(admin, [lacking])
        until_refused(config, False)
    assert judged(owner) == [str(i) for i in range(10)]
