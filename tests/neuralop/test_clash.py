"""What happens beside `neuraloperator`, whose package has the same name."""

import pytest

import neuralop
from neuralop import clash as module
from neuralop.clash import clash


def test_quiet_in_an_environment_of_its_own():
    assert clash() is None
    assert neuralop.Points is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing_of_this_name'"):
        _ = neuralop.nothing_of_this_name
    assert not hasattr(neuralop, "__wrapped__")


def test_a_name_of_theirs_says_what_to_do():
    with pytest.raises(ImportError, match=r"no 'FNO'.*'neuraloperator' also installs.*two separate environments"):
        from neuralop import FNO  # noqa: F401
    with pytest.raises(ImportError, match="two separate environments"):
        from neuralop import models  # noqa: F401


def test_one_sentence_when_both_are_installed(monkeypatch):
    monkeypatch.setattr(module, "version", lambda name: "2.0.0")
    problem = clash()
    assert problem is not None
    assert problem.startswith("neuraloperator 2.0.0 is installed here.")
    with pytest.raises(ImportError, match="two separate environments"):
        _ = neuralop.nothing_of_this_name
