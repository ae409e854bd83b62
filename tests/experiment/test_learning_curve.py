"""`experiment=learning_curve`, from the command to the page."""

import pandas as pd
import pytest
from command import TINY, Ran, command
from one_answer import assert_one_answer
from pages import Page
from pair_runs import STAND_IN

pytestmark = [pytest.mark.medium, pytest.mark.usefixtures("outputs")]

CURVE = ("-m", "experiment=learning_curve")


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Ran:
    """Fifteen perturbations, of which one of two folds tests eight and trains on six: 64 is the same as all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PERTEXP_OUTPUTS", str(tmp_path_factory.mktemp("outputs")))
        ran = command(
            *CURVE, *TINY, "trainer.max_epochs=1", "data.split.folds=2", "data.split.n_train=2,64,null",
        )  # fmt: skip
    assert ran.code == 0, ran.err
    return ran


def test_the_table_has_a_row_for_each_number(done):
    table = pd.read_csv(done.folder)
    own = table[table["role"] == "model"]
    assert sorted(own["data.split.n_train"].fillna("null").astype(str)) == ["2.0", "null"]
    assert ": not counted: data.split.n_train=64 keeps all of the 6 training perturbations, as " in done.out


def test_test_units_are_those_of_the_whole_split_and_the_hash_is_not(done):
    splits = [pd.read_parquet(path) for path in done.folder.parent.glob("*/split.parquet")]
    tested = {
        frozenset(table.loc[table["role"] == "test", ["perturbation", "fold"]].itertuples(index=False, name=None))
        for table in splits
    }
    assert len(tested) == 1
    hashes = [pd.read_json(path, typ="series")["split_hash"] for path in done.folder.parent.glob("*/data.json")]
    assert sorted(hashes.count(one) for one in set(hashes)) == [1, 2]


def test_console_files_and_page_say_the_same(done):
    comparisons = assert_one_answer(done)
    growth = comparisons[comparisons["basis"] == "setting"].iloc[0]
    assert (growth["model"], growth["reference"]) == ("nbglm data.split.n_train=null", "nbglm data.split.n_train=2")
    assert growth["n"] == 8


def test_the_page_holds_the_curve(done):
    page = Page(done.folder.parent / "report.html")
    assert "pearson_delta ↑ over the number of training perturbations" in page.text
    drawn = [one["aria-label"] for one in page.named("svg") if "by number of training" in (one["aria-label"] or "")]
    assert len(drawn) == 1
    assert drawn[0].startswith("pearson_delta of nbglm by number of training perturbations: 2: ")
    assert "more training perturbations" in page.text
    assert "over what was swept" not in page.text  # one figure, not two


@pytest.mark.parametrize("words", [("data=simulated_pairs", *STAND_IN), ("data=simulated_pairs", "model=prism")])
def test_pairs_are_refused_in_one_message(words):
    refused = command(*CURVE, *words)
    assert refused.code == 2
    assert len(refused.err.strip().splitlines()) == 1
    assert "data.split.n_train, which experiment=learning_curve sweeps, is an option of the splits of screens" in (
        refused.err
    )
    assert "type data=simulated_screen" in refused.err
