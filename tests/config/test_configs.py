"""Every file below conf/ composes, and what it describes can be built."""

from pathlib import Path
from typing import Any

import pytest
import torch
from command import TINY
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger
from omegaconf import DictConfig, OmegaConf
from places import ROOT

import pertexp.run  # noqa: F401  (its resolvers)
from pertexp.config import choices_by_task
from pertexp.config.instantiate import build, build_group, check_node
from pertexp.data.pairs.datamodule import PairData
from pertexp.data.screens.datamodule import ScreenData
from pertexp.evaluation.pairs.evaluation import PairEvaluation
from pertexp.evaluation.screens.evaluation import ScreenEvaluation
from pertexp.losses.contract import Loss
from pertexp.models.backbones.backbone import SequenceBackbone
from pertexp.training.stages import Stages

CONF = ROOT / "conf"
FILES = sorted(
    str(path.relative_to(CONF).with_suffix(""))
    for path in CONF.rglob("*.yaml")
    if path.parent.name != "predict"  # options of pertexp.predict: tests/inference/test_predicting.py reads them all
)
NEEDS = {
    "data/screen": ["data.path=my.h5ad"],
    "data/perturb_processed": ["data.path=my.h5ad"],
    "data/ep_table": ["data.path=my.tsv"],
    "data/ep_coordinates": ["data.path=my.tsv", "data.fasta=my.fa"],
    "data/split/screens/table": ["data.split.path=my.csv"],
    "data/split/pairs/pairs_table": ["data.split.path=my.csv"],
    "data/gene_embedding/table": ["data.gene_embedding.path=my.csv"],
    "data/perturbation_embedding/table": ["data.perturbation_embedding.path=my.csv"],
    "trainer/ddp": [],
    "model/embedding/scfoundation": ["model.embedding.path=models.ckpt", "model.embedding.genes=genes.tsv"],
}
SMALL = [word for word in TINY if word.startswith("data.simulator")]
SMALL_PAIRS = [
    "data=simulated_pairs", "data.simulator.n_lines=3", "data.simulator.n_pairs=60", "data.simulator.n_enhancers=46",
    "data.simulator.n_promoters=46", "data.support_size=4", "data.lines_per_step=2",
]  # fmt: skip
OF_PAIRS = {"model/prism", "model/ablation/prism", "model/backbone"}


@pytest.fixture
def composed(tmp_path, monkeypatch):
    """Compose the primary configuration as the command would, with a run folder."""
    monkeypatch.setenv("PERTEXP_SWEEP", "name")
    monkeypatch.setenv("WANDB_MODE", "offline")
    before = HydraConfig.instance().cfg

    def compose_run(*words: str) -> DictConfig:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("run", [*words, f"++hydra.runtime.output_dir={tmp_path}/run"], return_hydra_config=True)
        HydraConfig.instance().set_config(config)
        return config

    yield compose_run
    HydraConfig.instance().cfg = before


def build_data(config: DictConfig) -> ScreenData | PairData:
    data = build(config.data, "data")
    assert isinstance(data, ScreenData | PairData)
    assert data.task == ("pairs" if isinstance(data, PairData) else "screens")
    assert data._design is None  # nothing is read before it is needed
    return data


def build_model(config: DictConfig) -> None:
    model = build(config.model, "model")(
        data=build_data(config),
        loss=build(config.loss, "loss"),
        optimizer=build(config.optimizer, "optimizer"),
        scheduler=build(config.scheduler, "scheduler"),
    )
    assert callable(model.predict)


def build_embedding(config: DictConfig) -> None:
    assert callable(build(config.model.embedding, "model.embedding"))


def build_backbone(config: DictConfig) -> None:
    assert isinstance(build(config.model.backbone, "model.backbone")(None), SequenceBackbone)


def build_loss(config: DictConfig) -> None:
    assert isinstance(build(config.loss, "loss"), Loss)


def build_optimizer(config: DictConfig) -> None:
    parameter = torch.nn.Parameter(torch.ones(3))
    assert isinstance(build(config.optimizer, "optimizer")([parameter]), torch.optim.Optimizer)


def build_scheduler(config: DictConfig) -> None:
    optimizer = build(config.optimizer, "optimizer")([torch.nn.Parameter(torch.ones(3))])
    schedule = build(config.scheduler, "scheduler")(optimizer)
    assert schedule is None or schedule["interval"] in ("epoch", "step")


def build_callbacks(config: DictConfig) -> None:
    assert all(isinstance(made, Callback) for made in build_group(config.callbacks, "callbacks").values())


def build_stages(config: DictConfig) -> None:
    assert isinstance(build(config.stages, "stages"), Stages)


def build_loggers(config: DictConfig) -> None:
    assert all(isinstance(made, Logger) for made in build_group(config.logger, "logger").values())


def build_evaluation(config: DictConfig) -> None:
    assert isinstance(build(config.evaluation, "evaluation"), ScreenEvaluation | PairEvaluation)


def build_trainer(config: DictConfig) -> None:
    """Where the machine lacks the devices that a trainer names, its values are held against its signature alone."""
    check_node(config.trainer, "trainer")
    there = torch.cuda.device_count() if config.trainer.accelerator == "gpu" else 64
    if there >= config.trainer.devices:
        assert isinstance(build(config.trainer, "trainer"), Trainer)


def build_split(config: DictConfig) -> None:
    assert callable(build(config.data.split, "data.split"))


def build_embeddings(config: DictConfig) -> None:
    for kind in ("gene_embedding", "perturbation_embedding"):
        assert build(config.data[kind], f"data.{kind}").fallback in ("zero", "mean", "refuse")


def build_batches(config: DictConfig) -> None:
    layout = build(config.data.batches, "data.batches")
    assert layout.choice == HydraConfig.get().runtime.choices["data/batches"]
    assert layout.fields >= {"perturbation", "context"}


def build_annotation(config: DictConfig) -> None:
    assert callable(build(config.data.annotation, "data.annotation"))


def build_all_but_model(config: DictConfig) -> None:
    parts = (build_data, build_loss, build_optimizer, build_callbacks, build_loggers, build_evaluation, build_trainer)
    for part in parts:
        part(config)


GROUPS: dict[str, Any] = {
    ".": build_model,
    "model": build_model,
    "model/ablation/prism": build_model,
    "model/backbone": build_backbone,
    "model/embedding": build_embedding,
    "data": build_data,
    "data/split/pairs": build_split,
    "data/split/screens": build_split,
    "data/annotation": build_annotation,
    "data/batches": build_batches,
    "data/gene_embedding": build_embeddings,
    "data/perturbation_embedding": build_embeddings,
    "loss": build_loss,
    "trainer": build_trainer,
    "optimizer": build_optimizer,
    "scheduler": build_scheduler,
    "callbacks": build_callbacks,
    "stages": build_stages,
    "logger": build_loggers,
    "evaluation": build_evaluation,
    "paths": build_all_but_model,
    "debug": build_all_but_model,
    "experiment": build_all_but_model,
}


@pytest.mark.parametrize("file", FILES)
def test_every_file_composes_and_builds(file, composed):
    group = str(Path(file).parent)
    assert group in GROUPS, f"no test knows how to build the group {group}"
    typed = str(Path(group).parent) if str(Path(group).parent) in choices_by_task.GROUPS else group
    choice = [] if group == "." else [f"{typed}={Path(file).name}"]
    choice = ["model=gears", *choice] if group == "model/embedding" else choice
    choice = ["model=prism", *choice] if group in OF_PAIRS else choice
    small = SMALL_PAIRS if {group, file} & OF_PAIRS else SMALL if group in (".", "model") else []
    GROUPS[group](composed(*choice, *NEEDS.get(file, []), *small))


@pytest.mark.medium
@pytest.mark.parametrize("group", choices_by_task.GROUPS)
def test_a_name_is_one_choice_whatever_its_task(group, composed):
    """What is typed does not name the task, so no two tasks may use a name."""
    files = sorted((CONF / group).rglob("*.yaml"))
    assert {path.parent.parent for path in files} == {CONF / group}
    assert len({path.stem for path in files}) == len(files)
    for path in files:
        named = composed(f"{group}={path.stem}", f"++{group.replace('/', '.')}.path=my.csv")
        in_full = composed(f"{group}={path.parent.name}/{path.stem}", f"++{group.replace('/', '.')}.path=my.csv")
        assert OmegaConf.select(named, group.replace("/", ".")) == OmegaConf.select(in_full, group.replace("/", "."))


def test_a_defaults_list_names_a_choice_as_the_command_line_does(composed, tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "mine.yaml").write_text("defaults:\n  - simulated_pairs\n  - override split: line\n")
    search = f"hydra.searchpath=[file://{tmp_path}]"
    assert composed(search, "data=mine").data.split._target_.endswith("splits.Line")
    assert composed(search, "data=mine", "data/split=random").data.split._target_.endswith("splits.Random")


def test_no_file_repeats_another():
    """One file per real choice: two files of a group that say the same are one too many."""
    for group in {path.parent for path in CONF.rglob("*.yaml")}:
        contents = [OmegaConf.to_yaml(OmegaConf.load(path)) for path in group.glob("*.yaml")]
        assert len(set(contents)) == len(contents), group


def test_prism_brings_its_data_loss_evaluation_and_stages(composed):
    config = composed("model=prism")
    assert (config.data.name, config.loss._target_.rpartition(".")[2]) == ("ep_pairs", "Immax")
    assert config.evaluation._target_.endswith("PairEvaluation")
    assert (list(config.stages.plan), config.stages.plan.warm_up.epochs) == (["warm_up", "joint"], 2)
    assert config.stages.plan.warm_up.freeze == ["environment"]
    typed = composed("model=prism", "data=simulated_pairs", "loss=bce", "stages=one", "data.lines_per_step=2")
    assert (typed.data.name, typed.loss._target_.rpartition(".")[2]) == ("simulated_pairs", "BinaryCrossEntropy")
    assert list(typed.stages.plan) == ["joint"]
    assert typed.data.lines_per_step == 2


def test_the_ablation_is_a_multirun_over_every_choice_there_is(composed):
    swept = composed("experiment=prism_ablation").hydra
    assert swept.mode.name == "MULTIRUN"
    names = swept.sweeper.params["model/ablation"].split(",")
    assert set(names) == {path.stem for path in (CONF / "model" / "ablation" / "prism").glob("*.yaml")}
    assert names[0] == "nothing"


def test_the_learning_curve_is_a_multirun_over_doubled_numbers_and_all(composed):
    swept = composed("experiment=learning_curve", "data=papalexi").hydra
    assert swept.mode.name == "MULTIRUN"
    *numbers, last = swept.sweeper.params["data.split.n_train"].split(",")
    assert last == "null"
    assert [int(one) for one in numbers] == [8 * 2**step for step in range(len(numbers))]


@pytest.mark.parametrize(
    "path", sorted((CONF / "data" / "split" / "screens").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_split_of_screens_can_train_on_a_part(path, composed):
    config = composed(f"data/split={path.stem}", "++data.split.path=my.csv", "data.split.n_train=8")
    assert config.data.split.n_train == 8
    assert "n_train: null" in path.read_text()


def test_several_loggers_at_once(composed):
    made = build_group(composed("logger=[csv,tensorboard,wandb]").logger, "logger")
    assert [type(logger).__name__ for logger in made.values()] == ["CSVLogger", "TensorBoardLogger", "WandbLogger"]


def test_real_presets_bring_their_own_embeddings_and_split(composed):
    assert composed("data=kang").data.split._target_.endswith("LeaveContextOut")
    assert composed("data=norman_mini").data.perturbation_embedding.path.endswith("gene_emb_go_svd64.npz")


def test_gears_brings_its_loss_optimizer_and_batches_to_any_screen(composed):
    for data in ("simulated_screen", "norman_mini", "papalexi"):
        config = composed("model=gears", f"data={data}")
        assert config.loss._target_.endswith("GearsLoss")
        assert config.optimizer._target_ == "torch.optim.Adam"
        assert config.scheduler._target_.endswith("schedulers.step")
        chosen = config.data
        assert (chosen.name, chosen.normalize, chosen.batch_size) == (data, "where_counts", 32)
        assert (chosen.batches._target_.rpartition(".")[2], chosen.batches.match) == (
            "MatchedControlBatches",
            "context",
        )
        assert config.trainer.gradient_clip_algorithm == "value"
    typed = composed("model=gears", "loss=mse", "data.batch_size=8", "optimizer=adamw", "trainer.max_epochs=3")
    assert (typed.data.batch_size, typed.trainer.max_epochs) == (8, 3)
    assert typed.optimizer._target_ == "torch.optim.AdamW"
    assert typed.loss == {"_target_": "pertexp.losses.squared_error.SquaredError"}  # no option of the other loss
    assert composed("data=norman_mini").data.normalize is False  # the NB-GLM keeps its counts


@pytest.fixture
def own_experiment(tmp_path):
    """A folder of the user's own with a model and an experiment that overrides model, data and plain values."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "other.yaml").write_text("defaults:\n  - nbglm\nname: other\nrank: 3\n")
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n  - override /model: other\n  - override /data: kang\n  - override /data/split: double\n"
        "seed: 5\nmodel:\n  rank: 4\noptimizer:\n  lr: 0.5\n"
    )
    return f"hydra.searchpath=[file://{tmp_path}]"


def test_an_experiment_overrides_model_data_and_values(composed, own_experiment):
    config = composed(own_experiment, "experiment=mine")
    assert (config.model.name, config.model.rank, config.model.bound) == ("other", 4, "tanh")
    assert (config.data.name, config.data.split._target_.rpartition(".")[2]) == ("kang", "DoubleHoldOut")
    assert (config.seed, config.optimizer.lr) == (5, 0.5)


def test_the_command_line_wins_over_an_experiment(composed, own_experiment):
    words = ["model=nbglm", "data=papalexi", "data/split=combination", "model.rank=7", "seed=9"]
    config = composed(own_experiment, "experiment=mine", *words)
    assert (config.model.name, config.model.rank, config.seed) == ("nbglm", 7, 9)
    assert (config.data.name, config.data.split._target_.rpartition(".")[2]) == ("papalexi", "Combination")
    assert config.optimizer.lr == 0.5  # what the command line leaves alone stays the experiment's


def test_the_experiments_of_the_house_are_what_their_names_say(composed):
    kang = composed("experiment=kang_unseen_cell_type").data
    assert (kang.name, kang.split.context) == ("kang", "CD4 T cells")
    planted = composed("experiment=gears_planted_interactions", "data.simulator.interaction=0")
    assert (planted.model.name, planted.loss._target_.rpartition(".")[2]) == ("gears", "GearsLoss")
    assert (planted.data.batch_size, planted.data.batches.match, planted.optimizer.lr) == (128, "context", 3e-3)
    norman = composed("experiment=norman_unseen_combinations").data
    assert (norman.name, norman.split._target_.rpartition(".")[2]) == ("norman_mini", "Combination")


def test_debug_choices_change_the_trainer_after_everything_else(composed):
    assert composed("debug=fast", "experiment=kang_unseen_cell_type").trainer.fast_dev_run is True
    overfit = composed("debug=overfit")
    assert overfit.trainer.overfit_batches == 3
    assert set(overfit.callbacks) == {"last", "progress"}  # nothing waits for a validation loss
