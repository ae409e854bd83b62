"""What a data module of a screen asks of its batch layout."""

from types import SimpleNamespace

import pytest
from small_screen import data

from pertexp.data.screens.batch_layouts import CellBatches, Dealing
from pertexp.data.screens.splits import UnseenPerturbation


class Layout(CellBatches):
    """Keeps what it is asked for."""

    def __init__(self):
        super().__init__()
        object.__setattr__(self, "asked", [])

    def require(self, design):
        self.asked.append(design)

    def loader(self, design, roles, dealing):
        self.asked.append((design, roles, dealing))
        return "loader"


@pytest.mark.parametrize(("trainer", "place"), [(None, (0, 1)), (SimpleNamespace(global_rank=2, world_size=3), (2, 3))])
def test_roles_order_seed_and_process_reach_the_layout(trainer, place):
    of = data(batches=Layout(), batch_size=7, loader_seed=5)
    of.trainer = trainer
    assert (of.train_dataloader(), of.val_dataloader()) == ("loader", "loader")
    rank, world_size = place
    dealing = {"batch_size": 7, "seed": 5, "rank": rank, "world_size": world_size}
    assert of.batches.asked == [
        of.design,
        (of.design, ("train", "control"), Dealing(**dealing, shuffle=True)),
        (of.design, ("val",), Dealing(**dealing, shuffle=False)),
    ]


def test_the_design_is_built_once_and_required_by_the_layout():
    of = data(batches=Layout())
    of.setup("fit")
    assert of.design is of.design
    assert of.batches.asked == [of.design]
    assert of.has_validation == bool((of.design.role == "val").any()) is True


def test_without_validation_there_is_no_loader_of_it():
    of = data(split=UnseenPerturbation(folds=4, val_fraction=0.0))
    assert not of.has_validation
    assert of.val_dataloader() == []
