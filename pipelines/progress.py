"""How far work on many cases is: a bar on a terminal, plain lines elsewhere."""

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

_log = logging.getLogger(__name__)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[str], None]]:
    """Yield a function that takes a line for each case done.

    A line that says `failed` is kept on a terminal; of the others the bar shows what stands before the colon.

    Args:
        what: is done, before the first case is.
        total: how many cases there are.
    """
    if not sys.stderr.isatty():
        done = count(1)
        yield lambda line: _log.info("[%d/%d] %s", next(done), total, line)
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task(what, total=total)

        def tell(line: str) -> None:
            if "failed" in line:
                bar.console.print(line, markup=False)
            bar.update(task, advance=1, description=line.partition(":")[0])

        yield tell
