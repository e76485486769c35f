"""Judges the pools' last arrivals in the background, for the views: nothing here changes or delays a decision.

One window at a time is copied by the engine's thread and judged by another, which rests nine times as long as it
worked before the next: a tenth of a core at most. (HiGHS and the simulations let go of the interpreter's lock.)
"""

import threading
import time
from collections.abc import Mapping

from streamd.errors import StreamdError
from streamd.matching.pool import Pool
from streamd.matching.rules import Rule
from streamd.matching.window import Recent
from streamd.views import HindsightView

REST = 9.0  # times the work
RUNS = 16  # simulated outcomes per rule


class Watch:
    """Of one shard. every: arrivals of a pool between two looks; shadows: rules scored beside the acting one."""

    def __init__(self, rule: Rule, shadows: Mapping[str, Rule], every: int) -> None:
        self.rule = rule
        self.shadows = shadows
        self.every = every
        self._found: dict[str, HindsightView] = {}
        self._bug: BaseException | None = None
        self._working: threading.Thread | None = None

    def look(self, pools: Mapping[str, Pool], now: int) -> None:
        """Take the next window that is due, unless one is being judged."""
        if self._working is not None and self._working.is_alive():
            return
        if self._bug is not None:
            raise self._bug
        for name, pool in pools.items():
            if pool.window is not None and pool.window.fresh >= self.every:
                recent = pool.window.take(pool, now)
                if recent is not None:
                    self._working = threading.Thread(target=self._judge, args=(name, recent), daemon=True)
                    self._working.start()
                    return

    def found(self, pool: str) -> HindsightView | None:
        """The newest judgement of a pool."""
        return self._found.get(pool)

    def _judge(self, name: str, recent: Recent) -> None:
        from streamd.matching.hindsight import judge  # for scipy's sake, which a command need not wait for

        began = time.monotonic()
        try:
            self._found[name] = judge(recent, self.rule, self.shadows, RUNS)
        except StreamdError:
            pass  # not solved in time: the last judgement stands
        except BaseException as bug:  # noqa: BLE001  the engine's thread raises it
            self._bug = bug
        time.sleep(REST * (time.monotonic() - began))
