"""`streamd predict` and `streamd explain`: ask the live model of a daemon that runs. It learns nothing from it."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
import typer
from rich.text import Text

from streamd.cli.operating import Partition, Urls, Workers, addresses, request
from streamd.cli.options import ConfigFile, Json, console, load
from streamd.config import Config, secret
from streamd.errors import BadRecord, NotFound, StreamdError, Transient
from streamd.learners.ss3.explain import Explanation, as_html

Name = Annotated[str, typer.Argument(metavar="PIPELINE", help="Whom to ask.")]
Event = Annotated[str, typer.Argument(help="A text, or an event as JSON; - reads it from stdin.")]
Key = Annotated[str | None, typer.Option(help="Of a record: ask the shard that would get it.")]
REFUSED: dict[int, Callable[[str], StreamdError]] = {400: BadRecord, 404: NotFound, 413: BadRecord, 503: Transient}


def predict(
    pipeline: Name,
    event: Event,
    key: Key = None,
    partition: Partition = None,
    url: Urls = None,
    workers: Workers = 1,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """What the live model says of an event, and the main reasons."""
    loaded = load(config)
    raw = ask(loaded, pipeline, "predict", event, key, partition, addresses(loaded, url, workers))
    sys.stdout.write(raw.decode() + "\n") if json else _print(msgspec.json.decode(raw))


def explain(
    pipeline: Name,
    event: Event,
    key: Key = None,
    partition: Partition = None,
    html: Annotated[Path | None, typer.Option(help="Write a page with the text in colour here.")] = None,
    url: Urls = None,
    workers: Workers = 1,
    config: ConfigFile = None,
    json: Json = False,
) -> None:
    """What the live model says of an event, with the whole reason: of a text, word by word."""
    loaded = load(config)
    raw = ask(loaded, pipeline, "explain", event, key, partition, addresses(loaded, url, workers))
    told = msgspec.json.decode(raw)
    tree = msgspec.convert(told["tree"], Explanation) if "tree" in told else None
    if html is not None:
        if tree is None:
            raise NotFound(f"the learner of {pipeline} has no text to show in colour")
        html.write_text(as_html(tree, title=pipeline), encoding="utf-8")
    if json:
        sys.stdout.write(raw.decode() + "\n")
    else:
        _print(told)
        if tree is not None:
            _print_tree(tree)


def ask(
    config: Config,
    pipeline: str,
    kind: str,
    event: str,
    key: str | None,
    partition: int | None,
    where: Sequence[str],
) -> bytes:
    """The answer of the first worker that has the shard. Raises StreamdError if none has, or it is refused."""
    asked = {name: value for name, value in (("key", key), ("partition", partition)) if value is not None}
    path = f"/v1/pipelines/{pipeline}/{kind}{'?' + urlencode(asked) if asked else ''}"
    token = secret(config.http.token_file, key="http.token_file")
    refused: StreamdError = Transient(f"no daemon answers at {', '.join(where) or 'any address'}")
    given = body_of(event)
    for url in where:
        try:
            status, body = request(url, "POST", path, token, given)
        except Transient as failure:  # another one may have the shard
            refused = failure
            continue
        if status == 200:
            return body
        if status:
            refused = REFUSED.get(status, StreamdError)(_reason(status, body))
        if status in (400, 413):
            break
    raise refused


def body_of(event: str) -> bytes:
    """An event as JSON: what looks like an object is one, everything else is a text."""
    given = sys.stdin.read() if event == "-" else event
    return given.encode() if given.lstrip().startswith("{") else msgspec.json.encode({"text": given})


def _reason(status: int, body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["error"])
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
        return f"the answer is {status}; is it streamd?"


def _print(told: dict[str, Any]) -> None:
    out = console()
    label = told.get("label", told.get("value", told.get("path")))
    out.print(
        Text(", ".join(label) if isinstance(label, list) else "unknown" if label is None else str(label), "bold")
    )
    for name, p in told.get("p", {}).items():
        out.print(f"  {p:.3f}  {name}")
    for reason in told.get("why", []):
        out.print(Text(f"  {reason[0]}: {msgspec.json.encode(reason[1:]).decode()[1:-1]}", "dim"))


def _print_tree(tree: Explanation) -> None:
    """Each sentence with its sum, under it its words with their confidence for their strongest category."""
    out = console()
    for sentence in (sentence for paragraph in tree.paragraphs for sentence in paragraph.sentences):
        out.print(
            Text("".join(term.text for term in sentence.terms).strip()), Text(_most(tree, sentence.cv), "bold")
        )
        for term in sentence.terms:
            if term.cv and max(term.cv) > 0.0:
                out.print(f"    {term.term}  {_most(tree, term.cv)}")


def _most(tree: Explanation, cv: Sequence[float]) -> str:
    if not cv or max(cv) <= 0.0:
        return ""
    c = max(range(len(cv)), key=cv.__getitem__)
    return f"{tree.categories[c]} {cv[c]:.3f}"
