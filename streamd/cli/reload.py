"""`streamd reload`: the running workers read their configuration file again; what can change, does."""

from collections.abc import Sequence
from typing import TypeVar

import msgspec
import typer
from msgspec import Struct
from msgspec.structs import replace

from streamd.cli import team
from streamd.cli.operating import Reached, Urls, Workers, addresses, request
from streamd.cli.options import ConfigFile, Json, load, note, print_json
from streamd.cli.promoted import Otherwise, Promoted, otherwise, promoted
from streamd.config import Config, secret, without_secrets, written
from streamd.errors import EXIT_FAILURE, Refused, Transient
from streamd.http.app import Pipelines
from streamd.http.operating import Configured, Reload
from streamd.operating.reloading import Reloaded, compare

T = TypeVar("T")


class Answer(Struct, frozen=True):
    """Of one worker."""

    worker: Reached
    reloaded: Reloaded


class Difference(Answer, frozen=True):
    """What a reload would do to a worker, what promotions left to be changed in the file, and what would pause."""

    promoted: Sequence[Promoted] = ()
    otherwise: Sequence[Otherwise] = ()


def reload(config: ConfigFile = None, url: Urls = None, workers: Workers = 1, json: Json = False) -> None:
    """Let the running workers read their configuration file again. What needs a restart is named, and left.

    SIGHUP does the same. Exit 1 if a file was refused, a key needs a restart, or a worker does not answer.
    """
    loaded = load(config)
    token = secret(loaded.http.token_file, key="http.token_file")
    answers = [ask(one, token) for one in addresses(loaded, url, workers)]
    if not answers:
        raise Refused("there is no address to ask at: [http] is off or its port is 0; name a worker with --url")
    if json:
        print_json(answers)
    else:
        _print(answers)
    if any(a.worker.error or a.reloaded.error or a.reloaded.refused for a in answers):
        raise typer.Exit(EXIT_FAILURE)


def ask(url: str, token: str | None) -> Answer:
    """Let one worker reload."""
    try:
        status, body = request(url, "POST", "/v1/reload", token)
    except Transient as failure:
        return Answer(Reached(url, error=str(failure)), Reloaded())
    if status == 0:
        return Answer(Reached(url, error="nobody answers there"), Reloaded())
    try:
        found = msgspec.json.decode(body, type=Reload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Answer(Reached(url, error=f"answers {status}; is it streamd?"), Reloaded())
    return Answer(Reached(url, found.worker), found.reloaded)


def against_live(config: Config, url: str) -> Difference:
    """What a reload to this configuration would do to a running worker; its error says why it gave no answer."""
    try:
        live, shown = (
            _asked(config, url, "/v1/config", Configured),
            _asked(config, url, "/v1/pipelines", Pipelines),
        )
    except (Refused, Transient) as failure:
        return Difference(Reached(url, error=str(failure)), Reloaded())
    told = without_secrets(written(_as_of(config, live)))
    found = compare(live.config, told)
    if shown.group != config.group:
        return Difference(Reached(url, live.worker), found)
    left, other = promoted(config, shown.pipelines), otherwise(config, shown.pipelines)
    return Difference(Reached(url, live.worker), found, left, other)


def _as_of(config: Config, live: Configured) -> Config:
    """The file as this worker reads it: each has its own name, one of several its own port."""
    name, port = live.config["worker"]["name"], live.config["http"]["port"]
    index = name.rpartition("-")[2]
    own = team.member(config, int(index)) if index.isdigit() else config
    same = own if own.http.port == port else config
    return replace(same, worker=replace(config.worker, name=name))


def _asked(config: Config, url: str, path: str, kind: type[T]) -> T:
    status, body = request(url, "GET", path, secret(config.http.token_file, key="http.token_file"))
    if status == 0:
        raise Refused("nobody answers there")
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Refused(f"answers {status}; is it streamd?") from None


def _print(answers: Sequence[Answer]) -> None:
    for answer in answers:
        who = answer.worker.worker or answer.worker.url
        if answer.worker.error or answer.reloaded.error:
            note(f"{who}: {answer.worker.error or f'{answer.reloaded.error}; nothing was changed'}")
            continue
    changed = [answer for answer in answers if not answer.worker.error and not answer.reloaded.error]
    print_together(changed, "changed", "not changed, and needs a restart")


def print_together(answers: Sequence[Answer], live: str, restart: str) -> None:
    """A line once, with all the workers it is of."""
    said: dict[str, list[str]] = {}
    for answer in answers:
        for line in sentences(answer.reloaded, live, restart):
            said.setdefault(line, []).append(answer.worker.worker)
    for line, who in said.items():
        print(f"{', '.join(who)}: {line}")


def sentences(found: Reloaded, live: str, restart: str) -> list[str]:
    """What became, or would become, of the keys."""
    lines = [f"{live}: {', '.join(found.applied)}"] if found.applied else []
    lines += [f"{restart}: {', '.join(found.refused)}"] if found.refused else []
    return lines or ["nothing differs"]
