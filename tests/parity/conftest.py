"""Fixtures of the tests of symbolic shapes: each test runs on torch's modules and on symfx's."""

import pytest
from both import BOTH, name_of


@pytest.fixture(params=BOTH, ids=name_of)
def m(request):
    return request.param


@pytest.fixture
def env(m):
    return m.ShapeEnv()
