"""The Kafka implementations of the port `Log`, for the suite of laws."""

from collections.abc import Callable, Sequence

from connectors.kafka_client import KafkaLogClient
from connectors.kafka_cluster import Cluster
from connectors.kafka_settings import Membership, Security
from streamd.ports import Log, LogClient


class KafkaHarness:
    """make: `KafkaLog` or `ConfluentLog`, which take the same arguments."""

    def __init__(self, broker: str, make: Callable[..., Log]) -> None:
        self._broker = broker
        self._make = make

    def make_log(self, group: str, inputs: Sequence[str]) -> Log:
        return self._make(
            Membership(
                brokers=[self._broker],
                group=group,
                worker="w0",
                inputs=tuple(inputs),
                journal=f"{group}.journal",
                probe_interval=0.2,
                session_timeout=3.0,
            )
        )

    def make_client(self) -> LogClient:
        return KafkaLogClient([self._broker])

    def truncate(self, topic: str, partition: int, below: int) -> None:
        cluster = Cluster([self._broker], Security(), 10.0)
        cluster.trim(topic, partition, below)
        cluster.close()
