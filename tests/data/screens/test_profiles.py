"""Profiles against plain loops over cells, and Welch's t against scipy."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp

from pertexp.data.screens.profiles import (
    Units,
    control_profiles,
    group_sums,
    halves,
    membership,
    profiles,
    unit_groups,
    unit_profiles,
)
from pertexp.data.screens.screen import Screen

UNITS = Units(np.array([1, 2, 2, 3]), np.array([0, 0, 1, 1]))


def screen(scale="counts", n_cells=240, seed=0):
    """Three perturbations and control in two contexts; perturbation 3 has one cell in context 1."""
    rng = np.random.default_rng(seed)
    perturbation, context = rng.integers(0, 4, n_cells), rng.integers(0, 2, n_cells)
    lone = np.flatnonzero((perturbation == 3) & (context == 1))
    perturbation[lone[1:]] = 0
    expression = rng.poisson(rng.gamma(1.0, 2.0, (n_cells, 9))).astype(np.float32)
    expression[:, 8] = 0
    if scale != "counts":
        expression = np.log1p(expression * rng.uniform(0.5, 2.0, (n_cells, 1))).astype(np.float32)
    return Screen(
        expression=sp.csr_matrix(expression),
        scale=scale,
        genes=np.array([f"G{number}" for number in range(9)]),
        perturbations=("control", "A", "A+B", "B"),
        perturbation=perturbation,
        contexts=("k562", "A172"),
        context=context,
    )


def sizes(of, seed=1):
    return np.exp(np.random.default_rng(seed).normal(0, 0.5, of.n_cells))


def cells_of(of, perturbation, context):
    return [cell for cell in range(of.n_cells) if (of.perturbation[cell], of.context[cell]) == (perturbation, context)]


def profile_by_hand(of, size, cells):
    dense = of.expression.toarray().astype(np.float64)
    if of.scale == "counts":
        return np.log1p(sum(dense[cell] for cell in cells) / sum(size[cell] for cell in cells))
    return sum(dense[cell] for cell in cells) / len(cells)


@pytest.mark.parametrize("scale", ["counts", "log1p", "log2fc"])
def test_profiles_are_those_of_a_loop(scale):
    of = screen(scale)
    size = sizes(of)
    by_hand = [
        profile_by_hand(of, size, cells_of(of, *unit)) for unit in zip(UNITS.perturbation, UNITS.context, strict=True)
    ]
    assert np.allclose(unit_profiles(of, size, UNITS), by_hand, rtol=1e-12, atol=1e-14)
    controls = [profile_by_hand(of, size, cells_of(of, 0, context)) for context in (0, 1)]
    assert np.allclose(control_profiles(of, size), controls, rtol=1e-12, atol=1e-14)


def test_sums_and_numbers_of_cells():
    of = screen()
    size = sizes(of)
    sums = group_sums(of, size, unit_groups(of, UNITS), len(UNITS))
    lone = cells_of(of, 3, 1)
    assert len(lone) == 1
    assert np.array_equal(sums.total[3], of.expression[lone[0]].toarray().ravel())
    assert (sums.exposure[3], sums.cells[3]) == (size[lone[0]], 1)
    assert sums.cells.tolist() == [len(cells_of(of, *unit)) for unit in zip(*vars(UNITS).values(), strict=True)]


def test_a_mask_leaves_cells_out():
    of = screen()
    some = np.arange(of.n_cells) % 3 == 0
    groups = unit_groups(of, UNITS, some)
    assert (groups[~some] == -1).all()
    assert np.array_equal(groups[some], unit_groups(of, UNITS)[some])


def test_membership_of_cells_in_no_group():
    indicator = membership(np.array([1, -1, 0, 1]), 3)
    assert indicator.toarray().tolist() == [[0, 0, 1, 0], [1, 0, 0, 1], [0, 0, 0, 0]]


def test_the_order_of_cells_does_not_matter():
    of = screen()
    size, order = sizes(of), np.random.default_rng(3).permutation(of.n_cells)
    shuffled = of.take_cells(order)
    assert np.allclose(unit_profiles(shuffled, size[order], UNITS), unit_profiles(of, size, UNITS), rtol=1e-12)


def test_halves_are_disjoint_and_cover():
    """Each cell has a gene of its own, which shows in which half it lies."""
    of = screen("log1p", n_cells=60)
    of = replace(of, expression=sp.eye(60, format="csr", dtype=np.float32), genes=np.arange(60).astype(str))
    units = UNITS.take(np.arange(3))
    first, second = halves(of, np.ones(60), units, seed=0)
    for row, unit in enumerate(zip(units.perturbation, units.context, strict=True)):
        in_first, in_second = set(np.flatnonzero(first[row])), set(np.flatnonzero(second[row]))
        assert not in_first & in_second
        assert in_first | in_second == set(cells_of(of, *unit))
        assert len(in_first) - len(in_second) in (0, 1)


def test_halves_depend_on_the_seed_alone():
    of = screen()
    size, units = sizes(of), UNITS.take(np.arange(3))
    once, again, other = (halves(of, size, units, seed) for seed in (4, 4, 5))
    assert np.array_equal(once[0], again[0])
    assert np.array_equal(once[1], again[1])
    assert not np.array_equal(once[0], other[0])


def test_halves_do_not_exist_for_one_cell():
    of = screen()
    assert halves(of, sizes(of), UNITS, seed=0) is None


def test_profiles_of_exposures_far_apart_stay_finite():
    of = screen()
    size = np.where(np.arange(of.n_cells) % 2, 1e-6, 1e6)
    sums = group_sums(of, size, unit_groups(of, UNITS), len(UNITS))
    assert np.isfinite(profiles(of, sums)).all()
