"""What tests run in, and which of the slow ones run where a tenth of them is wanted."""

import os

import pytest
from conftest import pytest_configure, tenth
from lightning.fabric.utilities.rank_zero import rank_zero_only

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


def test_a_slurm_allocation_is_not_seen(monkeypatch):
    assert rank_zero_only.rank == 0  # read when Lightning was imported
    monkeypatch.setenv("SLURM_PROCID", "1")
    pytest_configure()
    assert not [name for name in os.environ if name.startswith("SLURM_")]
