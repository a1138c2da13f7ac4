"""The module as it was installed; `pip install .` or a wheel comes first."""

import pytest

import imagen


@pytest.fixture(scope="session")
def model():
    return imagen.load()
