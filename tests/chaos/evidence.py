"""Where a run keeps its files: a run that fails leaves them behind."""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
