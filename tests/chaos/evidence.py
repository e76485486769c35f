"""How a run tells what it found, and where it keeps its files: one that fails leaves them behind."""

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def kept_if_wrong() -> Iterator[Path]:
    """A folder that is removed at the end. If the run ends by an exception, SystemExit included, it stays, and
    stderr says where."""
    folder = Path(tempfile.mkdtemp(prefix="streamd-chaos-"))
    try:
        yield folder
    except BaseException:
        print(f"what the run left is in {folder}", file=sys.stderr, flush=True)
        raise
    shutil.rmtree(folder)


def tell(report: Mapping[str, Any], wrong: str = "wrong") -> None:
    """Print a report as JSON. Raises SystemExit with 1 if its list of what is wrong has something in it."""
    json.dump(report, sys.stdout, indent=1)
    print()
    if report[wrong]:
        sys.exit(1)
