"""Cell-cycle phases: the gene lists, and scanpy's scores."""

import numpy as np
import pytest
import scipy.sparse as sp
from scipy.stats import rankdata

from pertexp.config.errors import DataError
from pertexp.data.screens.cell_cycle import read_cell_cycle_genes, score_phases
from pertexp.data.screens.gene_symbols import RENAMED

S_GENES = [f"S{number}" for number in range(12)]
G2M_GENES = [f"M{number}" for number in range(14)]
PANEL = [*S_GENES, *G2M_GENES, *(f"X{number}" for number in range(174))]


@pytest.fixture
def gene_list(data_dir):
    """Return the path of a list of genes by its name; skip the test where it is not there."""

    def path_of(name):
        path = data_dir / "gene" / name
        return path if path.is_file() else pytest.skip(f"no {path}: set PERTEXP_DATA to the folder of test data")

    return path_of


def cycling(panel, s_genes, g2m_genes, n_cells=300, seed=0):
    """Counts whose S or G2M genes are raised fivefold in the cells of that phase, as log1p."""
    rng = np.random.default_rng(seed)
    phase = rng.integers(0, 3, n_cells)
    mean = np.tile(rng.uniform(0.5, 3.0, len(panel)), (n_cells, 1))
    for code, genes in ((1, s_genes), (2, g2m_genes)):
        mean[np.ix_(phase == code, np.isin(panel, genes))] *= 5.0
    return sp.csr_matrix(np.log1p(rng.poisson(mean)).astype(np.float32)), phase


def phases_by_hand(dense, panel, s_genes, g2m_genes, n_bins=25):
    """Scores of Satija et al. 2015 for lists long enough that all reference genes of a bin are taken."""
    bins = rankdata(dense.mean(axis=0), method="min") // round(len(panel) / (n_bins - 1))
    scores = []
    for genes in (s_genes, g2m_genes):
        listed = np.isin(panel, genes)
        reference = np.isin(bins, bins[listed]) & ~listed
        scores.append(dense[:, listed].mean(axis=1) - dense[:, reference].mean(axis=1))
    s, g2m = scores
    return np.where((s < 0) & (g2m < 0), 0, np.where(g2m > s, 2, 1))


def test_phases_are_the_scores_by_hand():
    log_expression, _ = cycling(PANEL, S_GENES, G2M_GENES)
    expected = phases_by_hand(log_expression.toarray().astype(float), PANEL, S_GENES, G2M_GENES)
    phases = score_phases(log_expression, PANEL, S_GENES, G2M_GENES)
    assert phases.dtype == np.int64
    assert np.array_equal(phases, expected)
    assert set(phases) == {0, 1, 2}


def test_planted_phases_are_found():
    log_expression, planted = cycling(PANEL, S_GENES, G2M_GENES)
    phases = score_phases(log_expression, PANEL, S_GENES, G2M_GENES)
    assert (phases == planted)[planted > 0].mean() > 0.99


def test_cell_order_moves_with_the_cells():
    log_expression, _ = cycling(PANEL, S_GENES, G2M_GENES)
    order = np.random.default_rng(1).permutation(log_expression.shape[0])
    phases = score_phases(log_expression, PANEL, S_GENES, G2M_GENES)
    assert np.array_equal(score_phases(log_expression[order], PANEL, S_GENES, G2M_GENES), phases[order])


def test_the_input_and_the_global_random_state_are_left_alone():
    log_expression, _ = cycling(PANEL, S_GENES, G2M_GENES)
    before = log_expression.copy()
    np.random.seed(7)  # noqa: NPY002
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(7)  # noqa: NPY002
    score_phases(log_expression, PANEL, S_GENES, G2M_GENES)
    assert np.array_equal(np.random.random(3), expected)  # noqa: NPY002
    assert (before != log_expression).nnz == 0


def test_old_symbols_on_the_panel_or_in_the_list_are_the_same_genes():
    s_genes, g2m_genes = ["MLF1IP", *S_GENES], ["FAM64A", "HN1", *G2M_GENES]
    old = ["MLF1IP", "FAM64A", "HN1", *PANEL]
    log_expression, _ = cycling(old, s_genes, g2m_genes)
    new = [RENAMED.get(gene, gene) for gene in old]
    phases = score_phases(log_expression, new, s_genes, g2m_genes)
    expected = phases_by_hand(log_expression.toarray().astype(float), old, s_genes, g2m_genes)
    assert np.array_equal(phases, expected)
    current = [[RENAMED.get(gene, gene) for gene in genes] for genes in (s_genes, g2m_genes)]
    assert np.array_equal(score_phases(log_expression, old, *current), phases)


def test_a_panel_with_both_symbols_keeps_the_current_one():
    panel = ["MLF1IP", "CENPU", *PANEL]
    log_expression, _ = cycling(panel, ["CENPU", *S_GENES], G2M_GENES)
    expected = phases_by_hand(log_expression.toarray().astype(float), panel, ["CENPU", *S_GENES], G2M_GENES)
    assert np.array_equal(score_phases(log_expression, panel, ["MLF1IP", *S_GENES], G2M_GENES), expected)


def test_too_few_genes_are_counted():
    log_expression, _ = cycling(PANEL, S_GENES, G2M_GENES)
    with pytest.raises(DataError, match=r"200 genes has 4 of 6 S genes and 14 of 14 G2/M genes, phases need 5"):
        score_phases(log_expression, PANEL, [*S_GENES[:4], "A", "B"], G2M_GENES)
    with pytest.raises(DataError, match=r"12 of 12 S genes and 0 of 1"):
        score_phases(log_expression, PANEL, S_GENES, ["A"])


def test_a_panel_of_cycle_genes_alone_has_no_reference():
    panel = [*S_GENES, *G2M_GENES]
    log_expression, _ = cycling(panel, S_GENES, G2M_GENES)
    with pytest.raises(DataError, match="no reference genes"):
        score_phases(log_expression[:, :12], panel[:12], S_GENES, S_GENES)


def test_a_line_list_splits_at_its_43rd_line(tmp_path):
    path = tmp_path / "genes.txt"
    lines = [f"A{number}" for number in range(42)] + ["MLF1IP", "B0", "HJURP", "HJURP", "HN1"]
    path.write_text("\n".join(lines) + "\n\n")
    s_genes, g2m_genes = read_cell_cycle_genes(path)
    assert s_genes == (*lines[:42], "CENPU")
    assert g2m_genes == ("B0", "HJURP", "JPT1")


@pytest.mark.parametrize("names", [("G1/S", "G2/M"), ("S", "G2M"), ("phase_S", "phase_G2_M"), ("S phase", "g2/m")])
def test_gene_sets_are_found_by_name_in_any_order(tmp_path, names):
    path = tmp_path / "sets.gmt"
    path.write_text(f"APOPTOSIS\tx\tTP53\n{names[1]}\t\tFAM64A\tTOP2A\n{names[0]}\tcycle\tPCNA\tMCM5\tPCNA\t\n")
    assert read_cell_cycle_genes(path) == (("PCNA", "MCM5"), ("PIMREG", "TOP2A"))


def test_lists_that_are_no_lists(tmp_path):
    path = tmp_path / "sets.gmt"
    with pytest.raises(DataError, match=r"does not exist.*data\.phase_genes="):
        read_cell_cycle_genes(path)
    path.write_text("HALLMARK_G2M_CHECKPOINT\t\tTOP2A\nHALLMARK_E2F_TARGETS\t\tMCM5\n")
    with pytest.raises(DataError, match="hold 0 sets named for S and 1 for G2/M among HALLMARK_G2M_CHECKPOINT"):
        read_cell_cycle_genes(path)
    short = tmp_path / "genes.txt"
    short.write_text("\n".join(f"A{number}" for number in range(43)))
    with pytest.raises(DataError, match="has 43 lines, the first 43 are S"):
        read_cell_cycle_genes(short)


def test_the_list_of_tirosh_2016(gene_list):
    s_genes, g2m_genes = read_cell_cycle_genes(gene_list("cell_cycle_tirosh2016.txt"))
    assert (len(s_genes), len(g2m_genes)) == (43, 54)
    assert (s_genes[0], s_genes[-1], g2m_genes[0]) == ("MCM5", "E2F8", "HMGB2")
    assert {"CENPU"} <= set(s_genes)
    assert {"PIMREG", "JPT1", "HJURP"} <= set(g2m_genes)
    assert not set(RENAMED) & {*s_genes, *g2m_genes}
    assert set(read_cell_cycle_genes(gene_list("cell_cycle_seurat2019.gmt"))[1]) == set(g2m_genes)


def test_real_lists_find_planted_phases(gene_list):
    s_genes, g2m_genes = read_cell_cycle_genes(gene_list("cell_cycle_tirosh2016.txt"))
    panel = [*s_genes[::2], *g2m_genes[::3], *(f"X{number}" for number in range(200))]
    log_expression, planted = cycling(panel, s_genes, g2m_genes)
    phases = score_phases(log_expression, panel, s_genes, g2m_genes)
    assert (phases == planted)[planted > 0].mean() > 0.99
