"""The design: what is learnt comes from training and control rows, and from no others."""

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from places import ROOT

from pertexp.config.errors import DataError, MismatchError
from pertexp.config.instantiate import build
from pertexp.data.screens.design import DesignOptions, build_design
from pertexp.data.screens.embeddings import TableFile, TrainingPca
from pertexp.data.screens.screen import Screen, members
from pertexp.data.screens.simulator import SimulatedScreen
from pertexp.data.screens.splits import Combination, DoubleHoldOut, LeaveContextOut, UnseenPerturbation
from pertexp.models.nbglm.initial import closed_form, facts_of

CONF = str(ROOT / "conf")
SPLITS = {
    "unseen_perturbation": UnseenPerturbation(val_fraction=0.2),
    "combination": Combination(seen=1, folds=2, val_fraction=0.2),
    "leave_context_out": LeaveContextOut(val_fraction=0.2),
    "double": DoubleHoldOut(val_fraction=0.2),
    "subset": UnseenPerturbation(val_fraction=0.2, n_train=6),
}


@pytest.fixture(scope="module")
def screen():
    """1,500 cells, 160 genes, two contexts; some are genes of the cell cycle; the truth is forgotten."""
    simulate = SimulatedScreen(
        n_genes=160, n_perturbations=20, n_combinations=6, cells_per_perturbation=25, n_controls=200, n_contexts=2
    )
    simulated = replace(simulate(), truth=None)
    genes = simulated.genes.astype(object)
    outside = np.flatnonzero(~np.isin(genes, [part for name in simulated.perturbations for part in members(name)]))
    genes[outside[:16]] = [f"S{number}" for number in range(8)] + [f"M{number}" for number in range(8)]
    return replace(simulated, genes=genes.astype(str))


@pytest.fixture(scope="module")
def cycle_list(tmp_path_factory):
    path = tmp_path_factory.mktemp("lists") / "cycle.gmt"
    sets = {"S": [f"S{number}" for number in range(8)], "G2M": [f"M{number}" for number in range(8)]}
    path.write_text("".join("\t".join([name, "", *genes]) + "\n" for name, genes in sets.items()))
    return str(path)


def options(**changes):
    defaults = {
        "split": SPLITS["unseen_perturbation"],
        "gene_embedding": TrainingPca(dimensions=5),
        "perturbation_embedding": TrainingPca(dimensions=4, fallback="mean"),
    }
    return DesignOptions(**{**defaults, **changes})


def marked(screen, cells):
    """Half of the genes of these cells fifty times as high, some two thousand times; depths as they were."""
    weight = np.ones((screen.n_cells, screen.n_genes), dtype=np.float32)
    weight[np.ix_(cells, np.arange(0, screen.n_genes, 2))] = 50
    weight[np.ix_(cells[::3], np.arange(0, screen.n_genes, 4))] = 2000
    dense = (screen.expression.toarray() + (weight > 1)) * weight
    return replace(screen, expression=sp.csr_matrix(dense.astype(np.float32)))


def learnt(design, ridge=1.0):
    """All that a model or a baseline takes from the data, by name."""
    training = design.training
    fitted = design.cells("train", "control")
    found = {
        "genes": design.screen.genes,
        "size_factor": design.size_factor,
        "units": np.stack([training.units.perturbation, training.units.context]),
        "values": training.values,
        "control": training.control,
        "effects": training.effects,
        "mean_effect": training.mean_effect,
        "gene_embedding": training.gene_embedding,
        "perturbation_embedding": training.perturbation_embedding,
        "split": np.array([design.split.hash]),
        "missing": np.array(design.notes["targets_without_embedding"]),
    }
    if design.screen.phase is not None:
        found["phase"] = design.screen.phase[fitted]
    if design.screen.scale == "counts":
        facts = facts_of(design, design.size_factor, 0.5, cell_cycle=design.screen.phase is not None)
        fit = closed_form(design, design.size_factor, facts, 0.5, ridge)
        found |= {name: value.numpy() for name, value in vars(facts).items() if isinstance(value, torch.Tensor)}
        found |= {"kernel": fit.kernel, "bias": fit.bias}
    return found


def changed(one, other):
    assert one.keys() == other.keys()
    return {name for name in one if not np.array_equal(one[name], other[name])}


HELD_OUT = [(split, role) for split in SPLITS for role in ("test", "val", "held_out_control")]


@pytest.mark.parametrize(
    ("split", "role"), [*HELD_OUT, *((split, "excluded") for split in ("combination", "double", "subset"))]
)
def test_rows_held_out_change_nothing_that_is_learnt(screen, cycle_list, split, role):
    """Bit for bit: genes chosen, depths, phases, profiles, embeddings, θ, control means, the closed form."""
    chosen = options(split=SPLITS[split], n_top_genes=40, phase_genes=cycle_list)
    before = build_design(screen, chosen)
    cells = np.flatnonzero(before.role == role)
    assert cells.size >= 25
    after = build_design(marked(screen, cells), chosen)
    assert changed(learnt(before), learnt(after)) == set()
    assert (after.role == before.role).all()


@pytest.mark.parametrize("role", ["test", "val", "held_out_control"])
def test_rows_held_out_change_nothing_on_the_log_scale(screen, role):
    chosen = options(normalize=True, n_top_genes=40)
    before = build_design(screen, chosen)
    after = build_design(marked(screen, np.flatnonzero(before.role == role)), chosen)
    assert changed(learnt(before), learnt(after)) == set()


def test_the_mark_is_seen_where_it_may_be(screen, cycle_list):
    """Without this the leak tests could pass by blindness: the same mark on training rows moves nearly everything."""
    chosen = options(n_top_genes=40, phase_genes=cycle_list)
    before = build_design(screen, chosen)
    after = build_design(marked(screen, np.flatnonzero(before.role == "train")), chosen)
    assert changed(learnt(before), learnt(after)) >= {"genes"}
    whole = options(phase_genes=cycle_list)
    before = build_design(screen, whole)
    train, control, val = (marked(screen, np.flatnonzero(before.role == role)) for role in ("train", "control", "val"))
    moved = changed(learnt(before), learnt(build_design(train, whole)))
    assert moved >= {"values", "mean_effect", "gene_embedding", "perturbation_embedding", "phase", "kernel", "bias"}
    moved = changed(learnt(before), learnt(build_design(control, whole)))
    assert moved >= {"control", "effects", "theta", "log_control_mean"}
    assert not np.array_equal(build_design(val, whole).training.validation_values, before.training.validation_values)


def test_depth_is_relative_to_the_median_of_training_and_control(screen):
    design = build_design(screen, options())
    fitted = design.cells("train", "control")
    assert np.array_equal(design.size_factor, screen.depth / np.median(screen.depth[fitted]))
    assert np.median(design.size_factor[fitted]) == 1
    deeper = replace(screen, depth=np.where(design.cells("test"), 100 * screen.depth, screen.depth))
    assert np.array_equal(build_design(deeper, options()).size_factor[fitted], design.size_factor[fitted])


def test_the_order_of_cells_does_not_matter(screen):
    """But for which control cells are held out: those are drawn by their order in a context, here kept."""
    order = np.random.default_rng(0).permutation(screen.n_cells)
    control = np.flatnonzero(screen.perturbation[order] == 0)
    order[control] = np.sort(order[control])
    design, shuffled = build_design(screen, options()), build_design(screen.take_cells(order), options())
    assert np.array_equal(shuffled.role, design.role[order])
    assert shuffled.split.hash == design.split.hash
    assert np.allclose(shuffled.training.values, design.training.values, rtol=1e-12)


def test_mean_effect_by_context(screen):
    design = build_design(screen, options(split=SPLITS["leave_context_out"]))
    training = design.training
    seen = training.units.context[0]
    assert (training.units.context == seen).all()
    assert np.allclose(training.mean_effect, training.effects.mean(axis=0)[None])
    both = build_design(screen, options()).training
    for context in (0, 1):
        assert np.allclose(both.mean_effect[context], both.effects[both.units.context == context].mean(axis=0))


def test_training_units_have_the_profiles_of_their_cells(screen):
    training = build_design(screen, options()).training
    dense, size = screen.expression.toarray().astype(np.float64), screen.depth
    size = build_design(screen, options()).size_factor
    for row in (0, len(training.units) - 1):
        unit = training.units.perturbation[row], training.units.context[row]
        cells = (screen.perturbation == unit[0]) & (screen.context == unit[1])
        assert np.allclose(training.values[row], np.log1p(dense[cells].sum(axis=0) / size[cells].sum()))


def test_the_record_counts_training_perturbations_once_in_all_contexts(screen):
    design = build_design(screen, options(split=SPLITS["subset"]))
    record = design.record()
    assert record.training_perturbations == 6
    assert record.units_by_role["train"] == len(design.training.units) == 12
    assert record.units_by_role["excluded"] > 0


def test_small_groups_are_left_out_and_listed(screen, caplog):
    name, context = screen.perturbations[3], screen.contexts[1]
    group = np.flatnonzero((screen.perturbation == 3) & (screen.context == 1))
    thinned = screen.take_cells(np.delete(np.arange(screen.n_cells), group[4:]))
    design = build_design(thinned, options(min_cells=5))
    assert design.notes["groups_below_min_cells"] == [f"{name} in {context}: 4"]
    assert design.screen.n_cells == thinned.n_cells - 4
    assert f"{name} in {context}: 4" in caplog.text
    assert build_design(thinned, options(min_cells=4)).notes["groups_below_min_cells"] == []


def test_a_perturbation_below_min_cells_is_no_unit(screen):
    few = np.flatnonzero(screen.perturbation == 5)
    thinned = screen.take_cells(np.delete(np.arange(screen.n_cells), few[1:]))
    design = build_design(thinned, options(min_cells=2))
    assert screen.perturbations[5] not in design.screen.perturbations
    assert screen.perturbations[5] not in set(design.split.table["perturbation"])


def test_nothing_large_enough_is_refused(screen):
    with pytest.raises(DataError, match=r"no group has 9999 cells: type a smaller data\.min_cells"):
        build_design(screen, options(min_cells=9999))


def test_a_context_without_controls_is_refused(screen):
    bare = screen.take_cells((screen.perturbation > 0) | (screen.context == 0))
    with pytest.raises(DataError, match=rf"1 contexts have no control cells \(for example {screen.contexts[1]}\)"):
        build_design(bare, options())


def test_a_cell_without_counts_has_no_size_factor(screen):
    empty = replace(screen, depth=np.where(np.arange(screen.n_cells) == 7, 0.0, screen.depth))
    with pytest.raises(DataError, match=r"1 cells hold no counts.*data\.depth_key="):
        build_design(empty, options())


def test_normalize_gives_log1p_at_the_median_depth(screen):
    counts, logs = build_design(screen, options()), build_design(screen, options(normalize=True))
    assert logs.screen.scale == "log1p"
    assert (logs.size_factor == 1).all()
    expected = np.log1p(screen.expression.toarray() / counts.size_factor[:, None])
    assert np.allclose(logs.screen.expression.toarray(), expected, rtol=1e-6)
    for context in (0, 1):
        control = (logs.role == "control") & (screen.context == context)
        assert np.allclose(logs.training.control[context], expected[control].mean(axis=0), rtol=1e-5)
    with pytest.raises(MismatchError, match=r"data\.normalize=false"):
        build_design(logs.screen, options(normalize=True))


def test_top_genes_are_variable_or_perturbed(screen):
    """Bursty genes among Poisson genes of like means are chosen, targets stay, and depths are those of all genes."""
    rng = np.random.default_rng(0)
    mean = np.geomspace(1, 20, screen.n_genes)
    targets = {part for name in screen.perturbations for part in members(name)} & set(screen.genes)
    outside = np.flatnonzero(~np.isin(screen.genes, sorted(targets)))[5::25]
    burst = np.where(np.isin(np.arange(screen.n_genes), outside), 10 * (rng.random((screen.n_cells, 1)) < 0.1), 1)
    counts, bursty = rng.poisson(mean * burst), set(screen.genes[outside])
    flat = replace(screen, expression=sp.csr_matrix(counts.astype(np.float32)), depth=np.full(screen.n_cells, 1e4))
    design = build_design(flat, options(n_top_genes=len(bursty)))
    chosen = set(design.screen.genes) - targets
    assert targets < set(design.screen.genes)
    assert len(chosen) == len(bursty)
    assert len(chosen & bursty) >= len(bursty) - 1  # one may lie in a bin of means where all genes vary as much
    assert (design.screen.depth == 1e4).all()
    assert design.training.values.shape[1] == design.training.gene_embedding.shape[0] == design.screen.n_genes


def test_as_many_top_genes_as_there_are_is_all(screen):
    assert build_design(screen, options(n_top_genes=screen.n_genes)).screen.n_genes == screen.n_genes


def fold_changes(n_perturbations=12, n_replicates=2):
    """One row a contrast and a control row of zeros, as bulk fold changes come."""
    effects = np.random.default_rng(0).normal(size=(n_perturbations, 20))
    rows = np.vstack([np.zeros((1, 20)), np.repeat(effects, n_replicates, axis=0)]).astype(np.float32)
    names = ("control", *(f"G{number:02d}" for number in range(n_perturbations)))
    return effects, Screen(
        expression=sp.csr_matrix(rows),
        scale="log2fc",
        genes=np.array([f"G{number:02d}" for number in range(20)]),
        perturbations=names,
        perturbation=np.concatenate([[0], np.repeat(np.arange(1, n_perturbations + 1), n_replicates)]),
        contexts=("all",),
        context=np.zeros(len(rows), dtype=np.int64),
    )


def test_fold_changes_pass_through():
    effects, bulk = fold_changes()
    design = build_design(bulk, options(min_cells=1))
    assert design.profile_scale == "mean of log2 fold changes"
    assert (design.size_factor == 1).all()
    assert not design.training.control.any()
    assert np.allclose(design.training.effects, effects[design.training.units.perturbation - 1], rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"normalize": True}, "data.normalize=false"),
        ({"phase_genes": "any.txt"}, "data.phase_genes=null"),
        ({"n_top_genes": 5}, "data.n_top_genes=null"),
    ],
)
def test_what_fold_changes_do_not_have(changes, sentence):
    with pytest.raises(MismatchError, match=sentence):
        build_design(fold_changes()[1], options(min_cells=1, **changes))


def test_phases_come_from_a_list_or_a_column_not_both(screen, cycle_list):
    design = build_design(screen, options(phase_genes=cycle_list))
    assert set(design.screen.phase) <= {0, 1, 2}
    assert design.screen.phase.shape == (screen.n_cells,)
    with pytest.raises(MismatchError, match=r"data\.phase_key and from data\.phase_genes"):
        build_design(design.screen, options(phase_genes=cycle_list))


def test_planted_phases_are_scored_in_every_role(screen, cycle_list):
    phase = np.random.default_rng(0).integers(0, 3, screen.n_cells)
    dense = screen.expression.toarray()
    for code, letter in ((1, "S"), (2, "M")):
        listed = np.array([name[0] == letter and name[1:].isdigit() for name in screen.genes])
        dense[:, listed] = (dense[:, listed] + 1) * np.where((phase == code)[:, None], 8, 1)
    cycling = replace(screen, expression=sp.csr_matrix(dense))
    design = build_design(cycling, options(phase_genes=cycle_list))
    for role in ("train", "val", "test", "control"):
        cells = design.role == role
        assert (design.screen.phase == phase)[cells & (phase > 0)].mean() > 0.95


def test_targets_without_embedding_are_named(screen, tmp_path, caplog):
    targets = sorted({part for name in screen.perturbations for part in members(name)})
    path = tmp_path / "table.csv"
    path.write_text("gene,x\n" + "".join(f"{target},1\n" for target in targets[1:]))
    design = build_design(screen, options(perturbation_embedding=TableFile(path=str(path))))
    assert design.notes["targets_without_embedding"] == targets[:1]
    assert design.notes["embedding_fallback"] == "zero"
    assert f"get 'zero': {targets[0]}" in caplog.text


def test_seen_members_are_counted_by_definition(screen):
    design = build_design(screen, options(split=SPLITS["combination"]))
    trained = {part for index in design.training.units.perturbation for part in members(screen.perturbations[index])}
    units = design.units("test")
    expected = [sum(part in trained for part in members(screen.perturbations[index])) for index in units.perturbation]
    assert design.seen_members().tolist() == expected


# ---- the presets, on the files that they are made for ---------------------------------------------------------------

K562, GLIOMA = ("k562",), ("A172", "T98G", "U87MG", "k562")
PBMC = ("B cells", "CD14+ Monocytes", "CD4 T cells", "CD8 T cells", "FCGR3A+ Monocytes")
PRESETS = {  # cells, genes, perturbations with control, contexts
    "norman_mini": (3375, 500, 34, ("all",)),
    "norman_mcfaline_mini": (5961, 500, 34, GLIOMA),
    "papalexi": (20729, 299, 26, ("all",)),
    "papalexi_merged": (7108, 585, 26, ("all",)),
    "kang": (1556, 1267, 2, PBMC),
    "datlinger": (7500, 2000, 21, ("stimulated", "unstimulated")),
}


def data_node(folder, data_dir, *overrides):
    """The data part of a composed configuration, as `python -m pertexp.run` builds it."""
    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(CONF, version_base="1.3"):
        patch.setenv("PERTEXP_DATA", str(data_dir))
        patch.setenv("PERTEXP_SWEEP", "test")
        node = compose("run", overrides=[f"paths.run_dir={folder}", *overrides])
        OmegaConf.resolve(node.data)
        return node.data


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_reads_its_file(tmp_path, data_dir, name):
    """Numbers of the papers' files; every cell is read, on the count scale, with the size factors around 1."""
    design = build(data_node(tmp_path, data_dir, f"data={name}"), "data").design
    screen = design.screen
    assert (screen.n_cells, screen.n_genes, len(screen.perturbations), screen.contexts) == PRESETS[name]
    assert screen.scale == "counts"
    assert np.array_equal(screen.expression.data, np.rint(screen.expression.data))
    assert np.median(design.size_factor[design.cells("train", "control")]) == 1
    assert {"train", "val", "test", "control"} <= set(design.role)
    listed = {line.split()[1].split("/")[-1]: line.split()[0] for line in sums_of(data_dir)}
    assert listed.get(screen.provenance["file"], screen.provenance["sha256"]) == screen.provenance["sha256"]


def sums_of(data_dir):
    path = data_dir / "screens" / "SHA256SUMS"
    return path.read_text().splitlines() if path.is_file() else []


def test_singles_doubles_and_depths_of_norman(tmp_path, data_dir):
    design = build(data_node(tmp_path, data_dir, "data=norman_mini"), "data").design
    screen = design.screen
    assert [sum(len(members(name)) == arity for name in screen.perturbations) for arity in (1, 2)] == [18, 15]
    assert design.notes["counts_recovered"] == 3375
    panel = np.asarray(screen.expression.sum(axis=1)).ravel()
    assert (screen.depth > panel).mean() > 0.99  # depth of the whole transcriptome, not of the panel
    assert np.corrcoef(np.log(screen.depth), np.log1p(panel))[0, 1] > 0.5


def test_guides_of_datlinger_fold_to_genes(tmp_path, data_dir):
    folded = build(data_node(tmp_path, data_dir, "data=datlinger"), "data").read()
    guides = build(data_node(tmp_path, data_dir, "data=datlinger", "data.fold_guides=null"), "data").read()
    assert (len(folded.perturbations), len(guides.perturbations)) == (21, 41)
    assert {name.rsplit("_", 1)[0] for name in guides.perturbations[1:]} == set(folded.perturbations[1:])


def test_a_preset_is_the_general_screen_with_its_options_set(tmp_path, data_dir):
    preset = data_node(tmp_path, data_dir, "data=norman_mini")
    typed = [f"data.{key}={preset[key]}" for key in ("path", "perturbation_key", "control", "scale", "depth_key")]
    general = data_node(
        tmp_path, data_dir, "data=screen", *typed, "data.where={cell_type: [k562]}", "data.recover_counts=true"
    )
    assert changed(learnt(build(preset, "data").design), learnt(build(general, "data").design)) == set()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_without_its_file_says_what_to_get(tmp_path, name):
    node = data_node(tmp_path, tmp_path, f"data={name}")
    with pytest.raises(DataError, match=r"no file .*: get [\w.]+\.h5ad \(.+\) into the folder screens/ .*PERTEXP_DATA"):
        build(node, "data").read()


@pytest.mark.parametrize("where", ["data.where={cell_type: k562}", "+data.where.cell_type=[k562]"])
def test_where_may_be_typed(tmp_path, data_dir, where):
    node = data_node(tmp_path, data_dir, "data=norman_mcfaline_mini", where)
    assert build(node, "data").read().n_cells == 3375


def test_test_units_that_are_not_kept_are_excluded_from_the_fold_in_use_alone(screen):
    design = build_design(screen, options(split=UnseenPerturbation(val_fraction=0.2, fold=1)))
    units = design.units("test")
    kept = np.arange(len(units.perturbation)) % 3 != 0
    fewer = design.testing(kept)
    left = fewer.units("test")
    np.testing.assert_array_equal(left.perturbation, units.perturbation[kept])
    np.testing.assert_array_equal(left.context, units.context[kept])
    before, after = design.split.table, fewer.split.table
    changed = before[(before["role"] != after["role"]) | (before["seen"] != after["seen"])]
    assert len(changed) == (~kept).sum()
    assert set(changed["fold"]) == {1}
    now = after.loc[changed.index]
    assert (set(now["role"]), set(now["seen"]), fewer.split.fold) == ({"excluded"}, {-1}, 1)
    gone = np.isin(design.role, "test") & ~np.isin(fewer.role, "test")
    assert set(fewer.role[gone]) == {"excluded"}
    np.testing.assert_array_equal(fewer.role[~gone], design.role[~gone])
