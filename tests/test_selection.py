"""Which of the slow tests run where a tenth of them is wanted."""

import pytest
from conftest import tenth

NAMES = [f"tests/test_a.py::test_b[{number}]" for number in range(95)]


def test_a_tenth_depends_on_the_seed_and_the_names_alone():
    chosen = tenth(NAMES, 0)
    assert len(chosen) == 10
    assert chosen == tenth(reversed(NAMES), 0)
    assert chosen != tenth(NAMES, 1)
    assert set().union(*(tenth(NAMES, seed) for seed in range(200))) == set(NAMES)


@pytest.mark.parametrize(("n", "expected"), [(0, 0), (1, 1), (10, 1), (11, 2)])
def test_a_tenth_is_rounded_up(n, expected):
    assert len(tenth(NAMES[:n], 0)) == expected
