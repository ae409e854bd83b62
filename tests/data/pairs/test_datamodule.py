"""Pairs from the command line's side: the presets say what the code's defaults say, and splits fit them."""

import inspect
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf
from pair_runs import SMALL, composed, made

import pertexp.run  # noqa: F401  (its resolvers)
from pertexp.config.errors import MismatchError, RequestError
from pertexp.data.pairs import datamodule
from pertexp.data.pairs.datamodule import PairData
from pertexp.data.pairs.loader import Windows
from pertexp.data.pairs.simulator import SimulatedPairs
from pertexp.data.pairs.splits import HUMAN, LineAndChromosome

SPLITS = ["line_and_chromosome", "chromosome", "line", "random"]


@pytest.mark.parametrize("name", ["ep_pairs", "ep_table", "ep_coordinates", "simulated_pairs"])
def test_every_preset_lists_what_all_pairs_take(name):
    own = set(composed(f"data={name}").data)
    asked = set(inspect.signature(PairData).parameters) - {"kind"}
    assert asked <= own
    assert composed(f"data={name}").data.split._target_.endswith("LineAndChromosome")


def test_values_of_the_configuration_are_the_defaults_of_the_code():
    node = OmegaConf.to_container(composed("data=simulated_pairs").data.simulator)
    node.pop("_target_")
    defaults = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(SimulatedPairs()).items()}
    assert node == defaults
    for split in ("line_and_chromosome", "chromosome"):
        folds = composed("data=ep_pairs", f"data/split={split}").data.split.chromosomes
        assert [tuple(fold) for fold in folds] == list(HUMAN)


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_gives_loaders(split):
    data = made(*SMALL, f"data/split={split}", "data.positives=[0.45,0.55]")
    data.setup("fit")
    train, val, test = (next(iter(loader)) for loader in (
        data.train_dataloader(), data.val_dataloader(), data.test_dataloader()))  # fmt: skip
    for batch, role in ((train, "train"), (val, "val"), (test, "test")):
        assert set(data.design.role[batch["pair"].numpy()]) == {role}
        assert batch["enhancer"].shape[1] == batch["promoter"].shape[1] == 400
    assert len(data.design.split.hash) == 64


def test_one_held_out_line_and_fold_from_the_command_line():
    split = made(*SMALL, "data.split.line=line02", "data.split.fold=3").design.split
    assert (split.fold, split.name) == (8, "line02, chromosomes 12 3 5 4 18")


def test_a_table_from_the_command_line(tmp_path):
    path = tmp_path / "split.tsv"
    path.write_text("cell_line\trole\nline01\ttest\nline02\tval\nline03\ttrain\n")
    data = made(*SMALL, "data/split=pairs_table", f"data.split.path={path}")
    assert set(data.design.role[data.design.pairs.line == 1]) == {"val"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["data=ep_pairs", "data.window=half"], "data.window=half"),
        (["data=ep_pairs", "data.batch_size=0"], "data.batch_size=0"),
        (["data=ep_pairs", "data.positives=0.5"], "data.positives"),
        (["data=ep_coordinates", "data.fasta=my.fa"], "data.path has no value"),
        (["data=ep_coordinates", "data.path=a.tsv", "data.fasta=b.fa", "data.layout=gff"], "data.layout=gff"),
        (["data=simulated_pairs", "data.simulator.noise=2"], "noise=2"),
        (["data=simulated_pairs", "+data.distance=true"], "data.distance is not an option"),
    ],
)
def test_wrong_values_are_refused_before_anything_is_read(words, said):
    with pytest.raises(RequestError, match=said):
        made(*words)


def test_the_real_presets_build_their_design(data_dir, monkeypatch):
    if not (data_dir / "ep").is_dir():
        pytest.skip("no folder ep/ in the data folder")
    monkeypatch.setenv("PERTEXP_DATA", str(data_dir))
    data = made("data=ep_pairs", "data.split.line=IMR90", "data.split.fold=1")
    design = data.design
    assert len(design.pairs) == 9862
    assert {design.lines[number] for number in design.pairs.line[design.index("test")]} == {"IMR90"}
    assert len(design.scored("test")) == len(design.index("test")) - 32
    batch = next(iter(data.train_dataloader()))
    assert (batch["enhancer"].shape, batch["promoter"].shape) == ((64, 1000), (64, 2000))
    assert len(set(batch["line"].tolist())) == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([*SMALL, f"data/split={name}"], "the data hold pairs: type data/split=line_and_chromosome")
        for name in ("unseen_perturbation", "combination", "leave_context_out", "double", "gears_simulation")
    ]
    + [(["data=simulated_screen", f"data/split={name}"], "the data hold a screen: type") for name in SPLITS]
    + [
        ([*SMALL, "data/split=table", "data.split.path=my.csv"], "random or pairs_table"),
        (["data=simulated_screen", "data/split=pairs_table", "data.split.path=my.csv"], "double or table"),
    ],
)
def test_a_split_of_the_other_kind_is_refused_in_one_message(words, said):
    with pytest.raises(MismatchError, match=said):
        _ = made(*words).design


def loaded(monkeypatch, trainer=None, **options):
    """A data module whose samplers and loaders are kept as they are made."""
    made = []
    for name in ("CellBatchSampler", "FixedSteps", "PairLoader"):
        monkeypatch.setattr(datamodule, name, lambda *given, _name=name, **named: made.append((_name, given, named)))
    small = SimulatedPairs(n_lines=4, n_pairs=120, n_enhancers=69, n_promoters=69)
    of = datamodule.SimulatedPairData(name="simulated_pairs", split=LineAndChromosome(), simulator=small, **options)
    of.trainer = trainer
    return of, made


@pytest.mark.parametrize(
    ("trainer", "place"),
    [
        (None, {"rank": 0, "world_size": 1}),
        (SimpleNamespace(global_rank=1, world_size=2), {"rank": 1, "world_size": 2}),
    ],
)
def test_training_pairs_are_sampled_and_held_out_ones_gone_through(trainer, place, monkeypatch):
    chosen = {"batch_size": 9, "support_size": 4, "lines_per_step": 2, "positives": (0.4, 0.6), "loader_seed": 7}
    windows = {"enhancer_length": 50, "promoter_length": 60, "crop": "random", "reverse_complement": True}
    of, made = loaded(monkeypatch, trainer, **chosen, **windows)
    of.train_dataloader()
    (_, (index, line, label), named), (_, loader, _) = made
    assert line is of.design.pairs.line
    assert label is of.design.pairs.label
    assert index.tolist() == of.design.index("train").tolist()
    assert named == {
        "batch_size": 9, "support_size": 4, "lines_per_step": 2, "positives": (0.4, 0.6), "names": of.design.lines,
        "seed": 7, **place,
    }  # fmt: skip
    assert loader[2:] == (Windows(50, 60, random=True, both_strands=True), 7)
    for role, call in (("val", of.val_dataloader), ("test", of.test_dataloader)):
        made.clear()
        call()
        (_, (rows, _, support), named), (_, loader, _) = made
        assert rows.tolist() == of.design.scored(role).tolist()
        assert {number: one.tolist() for number, one in support.items()} == {
            number: one.tolist() for number, one in of.design.support(role).items()
        }
        assert named == {"batch_size": 9, **place}
        assert loader[2:] == (Windows(50, 60, random=False, both_strands=False),)


def test_what_is_scored_is_read_by_one_process_whatever_the_trainer(monkeypatch):
    of, made = loaded(monkeypatch, SimpleNamespace(global_rank=1, world_size=2), support_size=4)
    of.loader("test", 1)
    (_, (rows, _, support), named), _ = made
    assert named == {"batch_size": 64, "rank": 0, "world_size": 1}
    assert rows.tolist() == of.design.scored("test", 1).tolist()
    assert support[0].tolist() == of.design.support("test", 1)[0].tolist()
    made.clear()
    of.loader("test", rows=rows[:3], support={0: rows[3:5]})
    (_, (some, _, given), _), _ = made
    assert (some.tolist(), given[0].tolist()) == (rows[:3].tolist(), rows[3:5].tolist())
