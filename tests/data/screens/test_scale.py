"""Scales: refused where they are not what was declared, and counts found again behind their logs."""

import anndata
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pertexp.config.errors import DataError
from pertexp.data.screens.scale import LARGEST_FACTOR, log_normalise, recover_counts, verify_scale


def logs_of(counts, depth, target=1e4, dtype=np.float64):
    return sp.csr_matrix(np.log1p(target * np.asarray(counts) / np.reshape(depth, (-1, 1))).astype(dtype))


@st.composite
def shallow_cells(draw):
    """Counts up to 1000 whose row minimum is at most 50, empty cells among them, and any depths and target."""
    shape = (draw(st.integers(1, 6)), draw(st.integers(1, 8)))
    counts = draw(hnp.arrays(np.int64, shape, elements=st.integers(0, 1000)))
    counts[np.arange(shape[0]), draw(hnp.arrays(np.int64, shape[0], elements=st.integers(0, shape[1] - 1)))] = draw(
        hnp.arrays(np.int64, shape[0], elements=st.integers(1, LARGEST_FACTOR))
    )
    counts[draw(hnp.arrays(np.bool_, shape[0]))] = 0
    depth = draw(hnp.arrays(np.float64, shape[0], elements=st.floats(1e2, 1e6)))
    return counts, depth, draw(st.floats(1e2, 1e6))


@settings(max_examples=150, deadline=None)
@given(shallow_cells())
def test_counts_come_back_for_any_depth(cells):
    counts, depth, target = cells
    recovered, failed = recover_counts(logs_of(counts, depth, target))
    divisor = np.maximum(np.gcd.reduce(counts, axis=1), 1)
    assert failed.size == 0
    assert np.array_equal(recovered.toarray(), counts // divisor[:, None])


@pytest.mark.parametrize("smallest", [1, 2, 3, 7, 50])
def test_the_smallest_count_need_not_be_one(smallest):
    counts = np.array([[smallest, 0, smallest + 1, 91, 0, 97]])
    recovered, failed = recover_counts(logs_of(counts, 12345.6, dtype=np.float32))
    assert failed.size == 0
    assert np.array_equal(recovered.toarray(), counts)


def test_a_cell_without_counts_is_reported_and_left_empty():
    counts = np.array([[1, 2, 3], [0, 0, 0], [1, 2, 4]])
    logs = logs_of(counts, [10.0, 10.0, 20.0]).tolil()
    logs[2] = [1.0, np.pi, np.e]
    recovered, failed = recover_counts(logs.tocsr())
    assert failed.tolist() == [2]
    assert np.array_equal(recovered.toarray(), [[1, 2, 3], [0, 0, 0], [0, 0, 0]])


def test_an_odd_cell_does_not_disturb_its_neighbours():
    """The factor is one a cell: a row that needs 3 stands beside rows that need 1."""
    counts = np.array([[1, 5, 9], [3, 5, 7], [1, 1, 1]])
    recovered, _ = recover_counts(logs_of(counts, [900.0, 40.0, 7.0]))
    assert np.array_equal(recovered.toarray(), counts)


def test_no_cells_and_no_counts():
    for shape in ((0, 4), (3, 4)):
        recovered, failed = recover_counts(sp.csr_matrix(shape, dtype=np.float32))
        assert recovered.shape == shape
        assert (recovered.nnz, failed.size) == (0, 0)


def test_counts_of_the_norman_file_come_back(data_dir):
    """Nearly all cells have counts, and they give the file's own logs back at one depth a cell."""
    adata = anndata.read_h5ad(data_dir / "screens" / "norman19_mcfaline23_perturbench_devel.h5ad")
    logs = sp.csr_matrix(adata.X)
    counts, failed = recover_counts(logs)
    assert failed.size <= 1e-3 * adata.n_obs
    kept = np.setdiff1d(np.arange(adata.n_obs), failed)[::20]
    natural, found = np.expm1(logs[kept].toarray().astype(np.float64)), counts[kept].toarray()
    assert np.array_equal(found > 0, natural > 0)
    unit = natural.sum(axis=1, keepdims=True) / found.sum(axis=1, keepdims=True)
    assert np.allclose(natural, found * unit, rtol=1e-5)


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float32, (5, 7), elements=st.integers(0, 10_000).map(float)),
    hnp.arrays(np.float64, 5, elements=st.floats(1e-3, 1e3)),
)
def test_log_normalise_is_log1p_of_scaled_counts(counts, size):
    logs = log_normalise(sp.csr_matrix(counts), size)
    assert logs.dtype == np.float32
    assert logs.format == "csr"
    assert np.allclose(logs.toarray(), np.log1p(counts / size[:, None]), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 3.0], "counts"),
        ([], "counts"),
        ([], "log1p"),
        ([0.3, 25.0], "log1p"),
        ([-3.0, 2.5], "log2fc"),
        ([2**31], "counts"),
    ],
)
def test_values_on_their_scale_pass(values, scale):
    verify_scale(np.array(values), scale, "X")


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        ([1.0, 1.001], "counts"),
        ([-1.0], "counts"),
        ([-1e-3, 0.5], "log1p"),
        ([0.5, 25.1], "log1p"),
        ([np.nan], "log2fc"),
    ],
)
def test_values_off_their_scale_are_refused(values, scale):
    with pytest.raises(DataError, match="raw"):
        verify_scale(np.array(values), scale, "layers['raw']")
