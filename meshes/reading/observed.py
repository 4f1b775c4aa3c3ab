"""VTK tells of trouble on standard error and carries on; here its words are caught."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# VTK has one output window for the whole process.
_LOCK = threading.Lock()


@contextmanager
def observed() -> Iterator[list[str]]:
    """Catch what VTK says inside the block; the list holds its errors, in order, once the block has ended.

    Other warnings are dropped: they tell what VTK's own readers lack, not what the file does.
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
            said = window.GetOutput()  # bytes, where VTK repeats what is no UTF-8
            errors += _errors(said if isinstance(said, str) else said.decode(errors="replace"))


def _errors(output: str) -> list[str]:
    """Return what each error says, without the place in VTK's sources and the address of the object."""
    said, error = [], False
    for line in output.splitlines():
        if line.startswith(("ERROR:", "Warning:", "Generic Warning:", "Debug:")):
            error = line.startswith("ERROR:")
        elif line.strip():
            words = line.split("): ", 1)[-1].strip()
            # The legacy reader only warns that the data ended early, and goes on with what memory held.
            if error or words.startswith("Error"):
                said.append(words)
    return said
