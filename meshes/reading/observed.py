"""VTK tells of trouble on standard error and carries on; here its words are caught."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# VTK has one output window for the whole process.
_LOCK = threading.Lock()


@contextmanager
def observed() -> Iterator[list[str]]:
    """Catch what VTK says inside the block; the list holds its errors, in order, once the block has ended.

    Warnings are dropped: VTK warns of what its own readers lack, not of the file.
    """
    from vtkmodules.vtkCommonCore import vtkLogger, vtkOutputWindow, vtkStringOutputWindow

    errors: list[str] = []
    with _LOCK:
        window, before = vtkStringOutputWindow(), vtkOutputWindow.GetInstance()
        verbosity = vtkLogger.GetCurrentVerbosityCutoff()
        vtkOutputWindow.SetInstance(window)
        vtkLogger.SetStderrVerbosity(vtkLogger.VERBOSITY_OFF)
        try:
            yield errors
        finally:
            vtkLogger.SetStderrVerbosity(verbosity)
            vtkOutputWindow.SetInstance(before)
            errors += _errors(window.GetOutput())


def _errors(output: str) -> list[str]:
    """Return what each error says, without the place in VTK's sources and the address of the object."""
    said, keep = [], False
    for line in output.splitlines():
        if line.startswith(("ERROR:", "Warning:", "Generic Warning:", "Debug:")):
            keep = line.startswith("ERROR:")
        elif keep and line.strip():
            said.append(line.split("): ", 1)[-1].strip())
    return said
