"""Fixtures that every test may ask for: the data beside the checkout, randomness, device and precision."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
PRECISIONS = {"float32": torch.float32, "float64": torch.float64}

# The same examples on every run, so that a failure on one machine is a failure on all; compiling, reading files and
# busy machines make single examples slow.
settings.register_profile("anchorfield", deadline=None, derandomize=True, max_examples=30, database=None)
settings.load_profile("anchorfield")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", help="torch device that tests of operators run on: cpu, cuda")
    parser.addoption("--precision", default="float32", choices=sorted(PRECISIONS), help="precision of operators")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Find the RANS data and public files; tests that need them are skipped where they are not there."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the shared data are not beside the checkout ({SHARED_DATA})")
    return SHARED_DATA


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(20260131)


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return PRECISIONS[request.config.getoption("--precision")]
