"""Small runs on pairs: their configuration, their data, and the command with a stand-in model."""

from command import Ran, command
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from places import ROOT

import pertexp.run  # noqa: F401  (its resolvers)
from pertexp.config.instantiate import build
from pertexp.data.pairs.datamodule import PairData

SMALL = [
    "data=simulated_pairs", "data.simulator.n_lines=3", "data.simulator.n_pairs=150", "data.simulator.n_enhancers=92",
    "data.simulator.n_promoters=92", "data.support_size=4",
]  # fmt: skip
STAND_IN = [f"hydra.searchpath=[file://{ROOT / 'tests' / 'conf'}]", "model=gc_stand_in"]
QUICK = [
    "trainer.max_epochs=1", "~callbacks.progress", "+trainer.enable_progress_bar=false", "evaluation.n_resamples=30",
    "evaluation.n_draws=2", "print_config=false",
]  # fmt: skip


def composed(*words: str) -> DictConfig:
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("run", list(words))


def made(*words: str) -> PairData:
    return build(composed(*words).data, "data")


def on_pairs(*words: str) -> Ran:
    multirun = [word for word in words if word == "-m"]
    return command(*multirun, *STAND_IN, *SMALL, *QUICK, *(word for word in words if word != "-m"))
