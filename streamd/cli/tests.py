"""`streamd test CONFIG`: the expectations beside a configuration, for a team's CI."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from streamd import config as configuration
from streamd import wiring
from streamd.cli.options import Json, print_json
from streamd.config import Config
from streamd.errors import EXIT_FAILURE, ConfigError
from streamd.operating.expecting import Test, Tests, Topics, failures


class Result(Struct, frozen=True):
    """Of one test. failures: a sentence each."""

    test: str
    pipeline: str
    failures: Sequence[str]


def run_tests(
    config: Annotated[Path, typer.Argument(help="The configuration.")],
    tests: Annotated[
        Path | None, typer.Option(help="The expectations. [default: NAME.tests.toml beside NAME.toml]")
    ] = None,
    json: Json = False,
) -> None:
    """Run the tests of a configuration, each on a fresh pipeline in memory; exit 1 if one fails."""
    loaded = configuration.load(config)
    wiring.check(loaded)
    found = read(tests or config.with_suffix(".tests.toml"))
    wiring.warm_up(loaded)
    results = [_run(loaded, one, f"test[{number}]") for number, one in enumerate(found)]
    if json:
        print_json(results)
    else:
        _print(results)
    if any(one.failures for one in results):
        raise typer.Exit(EXIT_FAILURE)


def read(path: Path) -> Sequence[Test]:
    """The tests in a file. Raises ConfigError with the path of the key."""
    try:
        tree = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("", f"{path} cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError("", f"{path} is not TOML: {error}") from None
    found = configuration.convert(tree, Tests, "").test
    if not found:
        raise ConfigError("test", "at least one [[test]]")
    return found


def _run(config: Config, one: Test, path: str) -> Result:
    names = list(config.pipeline)
    name = one.pipeline or names[0]
    if name not in names or (not one.pipeline and len(names) > 1):
        raise ConfigError(f"{path}.pipeline", f"one of {', '.join(names)}")
    own = config.pipeline[name]
    _, fresh = wiring.shards(config, name)
    topics = Topics(own.inputs, own.events, own.answers, own.outputs["dead letters"])
    return Result(one.name, name, failures(one, fresh(0), topics, path))


def _print(results: Sequence[Result]) -> None:
    for one in results:
        print(f"{'FAILED' if one.failures else 'passed'}  {one.pipeline}: {one.test}")
        for reason in one.failures:
            print(f"        {reason}")
    failed = sum(bool(one.failures) for one in results)
    print(f"{len(results) - failed} of {len(results)} tests passed")
