"""The HTTP server in a thread beside the engines. Its address is bound before anything else starts."""

import errno
import socket
import threading
from collections.abc import Callable, Sequence

import uvicorn

from streamd.config import Config, secret
from streamd.errors import ConfigError, StreamdError, Transient
from streamd.http.app import Ask, Shown, app
from streamd.http.operating import Operator
from streamd.metrics import registry
from streamd.views import EngineView

GRACE = 2  # seconds a stop waits for requests under way


class HttpServer:
    """Health, metrics and the API. Making it binds the address.

    digest: of the running configuration, for the metrics. alive: why the process is not alive, empty if it is.
    ask: hands a question to a pipeline; patience: seconds its answer may take. operator: takes the
    operator's commands; None: they are not taken.
    Raises ConfigError if the address cannot be had on this machine or the token cannot be read, and Transient
    (exit 75) if the port is in use: as a rule by the process before this one, which is still draining.
    """

    def __init__(
        self,
        config: Config,
        digest: Callable[[], str],
        views: Callable[[], Sequence[EngineView]],
        alive: Callable[[], str],
        ask: Ask,
        patience: float = 5.0,
        operator: Operator | None = None,
    ) -> None:
        token = secret(config.http.token_file, key="http.token_file")
        metrics = registry(views, digest)
        shown = Shown(config.group, config.worker.name, views, alive, metrics, ask, patience, operator)
        self._socket = _bind(config.http.host, config.http.port)
        settings = uvicorn.Config(
            app(shown, token),
            http="h11",
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
        self._server = uvicorn.Server(settings)
        self._thread = threading.Thread(target=self._serve, name="http", daemon=True)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    @property
    def url(self) -> str:
        host = str(self._socket.getsockname()[0])
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"

    def start(self) -> None:
        """Requests that come before the server is up wait in the socket."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is under way, for two seconds at most, then close. May be called without `start`."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(GRACE + 1)
        self._socket.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._socket])


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server((str(address[0]), port), family=family, backlog=128)
    except OSError as error:
        raise _refusal(host, port, error) from None


def _refusal(host: str, port: int, error: OSError) -> StreamdError:
    if error.errno == errno.EADDRINUSE:
        return Transient(f"http.port: {host}:{port} is in use by another process")
    if error.errno == errno.EACCES:
        return ConfigError("http.port", f"this user may not listen on port {port}")
    return ConfigError("http.host", f"cannot listen on {host}: {error.strerror}")
