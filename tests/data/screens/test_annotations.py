"""Gene sets: read as they are written, refused where they are none, and planted where a simulator is the source."""

import numpy as np
import pytest

from pertexp.config.errors import DataError, MismatchError
from pertexp.data.screens.annotations import GeneSets, PlantedSets
from pertexp.data.screens.simulator import SimulatedScreen

SCREEN = SimulatedScreen(n_genes=20, n_perturbations=40, n_controls=20, cells_per_perturbation=2, n_combinations=0)()


def test_a_gmt_is_read(tmp_path):
    (tmp_path / "sets.gmt").write_text("one (GO:1)\t\tA\tB,1.0\tB\n\ntwo\tsaid\tB\tC\tA\t\nempty\t\t\n")
    found = GeneSets(str(tmp_path / "sets.gmt"))(SCREEN)
    assert (found.genes, found.terms) == (("A", "B", "C"), ("one (GO:1)", "two"))
    assert found.marks.toarray().tolist() == [[1, 1], [1, 1], [0, 1]]
    assert found.rows(["C", "X", "A"]).toarray().tolist() == [[0, 1], [0, 0], [1, 1]]


def test_the_gene_ontology_is_read(data_dir):
    found = GeneSets(str(data_dir / "gene" / "go_bp_2021.enrichr.gmt"))(SCREEN)
    assert (len(found.terms), len(found.genes), found.marks.nnz) == (6036, 14937, 197596)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"term A B\n", "line 1"), (b"\n", "names no gene"), (b"\xff\xfe\x00", "no text"), (None, "no file")],
)
def test_what_is_no_gmt_is_refused(content, said, tmp_path):
    path = tmp_path / "sets.gmt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=said):
        GeneSets(str(path))(SCREEN)


def test_planted_sets_say_who_is_near_whom():
    found = PlantedSets()(SCREEN)
    rows = found.rows(SCREEN.truth.target_names).toarray()
    shared = rows @ rows.T
    overlap = shared / (rows.sum(1)[:, None] + rows.sum(1) - shared)
    near = SCREEN.truth.target_embedding @ SCREEN.truth.target_embedding.T
    above = np.triu_indices(len(near), 1)
    assert np.corrcoef(overlap[above], near[above])[0, 1] > 0.8
    assert (found.marks.toarray() == PlantedSets()(SCREEN).marks.toarray()).all()


def test_planted_sets_need_a_planted_truth():
    from dataclasses import replace

    with pytest.raises(MismatchError, match="data/annotation=go"):
        PlantedSets()(replace(SCREEN, truth=None))
