"""A real headless Chromium, driven over the WebDriver protocol by Debian's packages `chromium` and
`chromium-driver`; the few commands the tests need are plain HTTP, so no client library is."""

import base64
import json
import shutil
import urllib.request
from pathlib import Path
from typing import Any

from tests.servers import Unavailable
from tests.servers.process import free_port, kill, spawn, wait_until

START = 60.0  # seconds
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the protocol's name for one
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--window-size=1000,1100",
]


class Browser:
    """One session. Raises Unavailable where Chromium is not installed."""

    def __init__(self, directory: Path) -> None:
        driver, chromium = shutil.which("chromedriver"), shutil.which("chromium")
        if driver is None or chromium is None:
            raise Unavailable(
                "no chromium and chromedriver on the PATH (Debian's packages of these names have them)"
            )
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        log = directory / "chromedriver.log"
        self._process = spawn([driver, f"--port={port}"], log)
        wait_until(self._ready, self._process, log, START)
        options = {"binary": chromium, "args": [*ARGUMENTS, f"--user-data-dir={directory / 'profile'}"]}
        asked = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self._session = f"/session/{self._ask('POST', '/session', asked)['sessionId']}"

    def open(self, url: str) -> None:
        self._ask("POST", f"{self._session}/url", {"url": url})

    def type(self, selector: str, text: str) -> None:
        """Type into the first element that a CSS selector finds."""
        found = {"using": "css selector", "value": selector}
        element = self._ask("POST", f"{self._session}/element", found)[ELEMENT]
        self._ask("POST", f"{self._session}/element/{element}/value", {"text": text})

    def run(self, script: str, *arguments: object) -> Any:
        """What a function body returns in the page."""
        asked = {"script": script, "args": list(arguments)}
        return self._ask("POST", f"{self._session}/execute/sync", asked)

    def wait(self, script: str, timeout: float = START) -> Any:
        """What a function body returns in the page, once that is something."""
        asked = {
            "script": "const done = arguments[arguments.length - 1];"
            f"const look = () => {{ const found = (() => {{ {script} }})();"
            "found ? done(found) : setTimeout(look, 20); }; look();",
            "args": [],
        }
        self._ask("POST", f"{self._session}/timeouts", {"script": int(timeout * 1000)})
        return self._ask("POST", f"{self._session}/execute/async", asked)

    def picture(self) -> bytes:
        """The page as a PNG."""
        return base64.b64decode(self._ask("GET", f"{self._session}/screenshot"))

    def complaints(self) -> list[str]:
        """What the page's script could not do, by the browser's own log."""
        said = self._ask("POST", f"{self._session}/se/log", {"type": "browser"})
        return [line["message"] for line in said if line["level"] == "SEVERE"]

    def stop(self) -> None:
        try:
            self._ask("DELETE", self._session)
        finally:
            kill(self._process)

    def _ready(self) -> bool:
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except OSError:
            return False

    def _ask(self, method: str, path: str, body: "dict[str, Any] | None" = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, method=method)
        with urllib.request.urlopen(request, timeout=2 * START) as answer:
            return json.load(answer)["value"]
