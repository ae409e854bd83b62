"""Options of a prediction: they belong to the task of the model, are typed, and those of others are refused."""

from dataclasses import dataclass, fields

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import pertexp.predict  # noqa: F401  (its resolver)
from pertexp.config.errors import RequestError
from pertexp.config.search_path import config_folder
from pertexp.inference.pairs import ColumnOptions
from pertexp.inference.predicting import Predicting
from pertexp.inference.screens import ProfileOptions
from pertexp.tasks.pairs import PAIRS
from pertexp.tasks.screens import SCREENS

OF_PROFILES, OF_IMPACTS = (SCREENS.evaluators[output].predicting for output in ("profile", "impact"))
OF_PAIRS = PAIRS.evaluators["probability"].predicting
ALL = (OF_PROFILES, OF_IMPACTS, OF_PAIRS)


def config(*words: str) -> dict:
    with initialize_config_dir(config_folder(), version_base="1.3"):
        return OmegaConf.to_container(compose("predict", ["ckpt=x", *words]))


def test_lines_that_are_typed_reach_their_options():
    found = OF_PROFILES.asked(
        config("perturbations=[A,A+B]", "cells=7", "data.path=new.h5ad", "data.where={cell: [a]}")
    )
    assert isinstance(found, ProfileOptions)
    assert (found.perturbations, found.cells, found.genes, found.seed) == (["A", "A+B"], 7, "refuse", 0)
    assert (found.data.path, found.data.where, found.data.scale) == ("new.h5ad", {"cell": ["a"]}, None)
    pairs = OF_PAIRS.asked(config("data.path=new.tsv", "data.columns.cell_line=tissue", "draws=3", "support=more.tsv"))
    assert (pairs.data.path, pairs.data.columns.cell_line, pairs.draws, pairs.support) == (
        "new.tsv", "tissue", 3, "more.tsv",
    )  # fmt: skip
    assert {field.name for field in fields(pairs.data.columns)} == {field.name for field in fields(ColumnOptions)}
    assert OF_IMPACTS.asked(config("contexts=[K562]")).contexts == ["K562"]


@pytest.mark.parametrize(("predicting", "word", "said"), [
    (OF_PROFILES, "cells=0", "cells=0: input should be greater than or equal to 1"),
    (OF_PROFILES, "cells=many", "cells=many: input should be a valid integer"),
    (OF_PROFILES, "genes=some", "genes=some: input should be 'refuse' or 'shared'"),
    (OF_PROFILES, "data.scale=logs", "data.scale=logs: input should be 'counts', 'log1p' or 'log2fc'"),
    (OF_IMPACTS, "perturbations=A", "perturbations=A: expected a list: type 'perturbations=[A]'"),
    (OF_PAIRS, "draws=0", "draws=0: input should be greater than or equal to 1"),
    (OF_PAIRS, "data.coordinates=two_based", "data.coordinates=two_based: input should be 'zero_based' or 'one_based'"),
])  # fmt: skip
def test_a_value_of_another_type_is_refused_by_the_name_that_is_typed(predicting, word, said):
    with pytest.raises(RequestError) as refused:
        predicting.asked(config(word))
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(("predicting", "word"), [
    (OF_PROFILES, "draws=3"), (OF_PROFILES, "data.columns.chrom=c"), (OF_PROFILES, "data.coordinates=one_based"),
    (OF_IMPACTS, "cells=3"), (OF_IMPACTS, "data.path=x.h5ad"), (OF_IMPACTS, "genes=shared"), (OF_IMPACTS, "+support=x"),
    (OF_PAIRS, "perturbations=[A]"), (OF_PAIRS, "cells=3"), (OF_PAIRS, "data.scale=counts"),
])  # fmt: skip
def test_options_of_other_models_are_refused_with_those_of_this_one(predicting, word):
    name = word.lstrip("+").partition("=")[0]
    with pytest.raises(RequestError) as refused:
        predicting.refuse_options_of(ALL, ["ckpt=x", word])
    said = str(refused.value)
    assert said.startswith(f"{name} is not an option for a model of {predicting.subject}: remove it")
    assert said.endswith(f"takes {', '.join(sorted(predicting.names))}.")


def test_what_is_shared_and_what_is_its_own_is_not_refused():
    shared = ["ckpt=x", "out=y", "seed=3", "hydra.run.dir=z"]
    OF_PROFILES.refuse_options_of(ALL, [*shared, "data.path=y", "cells=3", "data.where={a: b}"])
    OF_PAIRS.refuse_options_of(ALL, [*shared, "data.path=y", "data.columns.chrom=c", "draws=2"])
    OF_IMPACTS.refuse_options_of(ALL, [*shared, "perturbations=[A]"])
    assert "seed" not in OF_PROFILES.names | OF_PAIRS.names
    assert OF_IMPACTS.names == {"perturbations", "contexts"}


def test_a_task_of_another_package_brings_options_of_its_own():
    @dataclass(frozen=True)
    class Options:
        draws: int
        colour: str = "red"

    predicting = Predicting("toys", Options, (".csv",), lambda trained, asked: None)  # noqa: ARG005
    assert predicting.asked(config("+colour=blue")) == Options(5, "blue")
    assert predicting.asked(config()) == Options(5)
    with pytest.raises(RequestError, match="colour is not an option for a model of a screen"):
        OF_PROFILES.refuse_options_of([predicting], ["+colour=blue"])
