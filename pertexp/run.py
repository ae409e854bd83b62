"""`python -m pertexp.run`: compose, prepare, fit, evaluate, write."""

import hashlib
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from pertexp.door import config_folder, guarded
from pertexp.errors import RequestError

if TYPE_CHECKING:
    from lightning import LightningModule, Trainer

    from pertexp.evaluation.screens import Report

log = logging.getLogger(__name__)

SWEEP = "PERTEXP_SWEEP"


def config_hash(*, _root_: DictConfig) -> str:
    """Twelve hex digits of a job's composed configuration: where a sweep finds what it has done."""
    own = OmegaConf.masked_copy(_root_, [str(key) for key in _root_ if key != "hydra"])
    return hashlib.sha256(OmegaConf.to_yaml(own, sort_keys=True).encode()).hexdigest()[:12]


OmegaConf.register_new_resolver("config_hash", config_hash, replace=True)


def sweep_name(words: list[str]) -> str:
    """A name that the same sweep gets again: its single choices, and a hash of all its overrides."""
    overrides = sorted(word for word in words if not word.startswith("-"))
    single = [word.split("=", 1)[1] for word in overrides if word.startswith(("model=", "data=")) and "," not in word]
    digest = hashlib.sha256("\n".join(overrides).encode()).hexdigest()[:8]
    return "_".join([*single, digest])


def job(config: DictConfig) -> float | None:
    """One run: returns the model's mean on the primary metric, for those who optimise over runs."""
    folder = Path(HydraConfig.get().runtime.output_dir)
    if HydraConfig.get().mode == RunMode.MULTIRUN and (folder / "metrics.json").is_file():
        log.info("already done: %s", folder)
        return None
    if config.repeat is not None:
        config = _repeated(config)
    from pertexp.training.loggers import closing_wandb

    with closing_wandb():
        report = run(config, folder)
    return None if report is None else report.value


def run(config: DictConfig, folder: Path) -> "Report | None":
    """Compose, prepare, fit, evaluate, write. None on the processes of a distributed run other than the first."""
    from rich.console import Console

    from pertexp.composition import build
    from pertexp.record import write_record

    console = Console(width=None if sys.stdout.isatty() else max(100, Console().width))
    _say_hello(config, console)
    data, model, trainer = prepare(config)
    if trainer.is_global_zero:
        write_record(folder, data.design)
    fit(model, data, trainer, config.ckpt_path)
    if not trainer.is_global_zero:
        return None
    report: Report = build(config.evaluation, "evaluation")(data, model, config.model.name)
    report.write(folder)
    for logger in trainer.loggers:
        logger.log_metrics({f"test/{name}": value for name, value in report.means().items()})
    report.show(console, f"{config.model.name} on {config.data.name}, fold {data.design.split.fold}")
    console.print(f"written to {folder}", highlight=False, soft_wrap=True)
    return report


def prepare(config: DictConfig) -> tuple[Any, "LightningModule", "Trainer"]:
    """Build data, model and trainer, and refuse what does not fit before anything is trained."""
    import lightning

    from pertexp.composition import build, build_group
    from pertexp.record import schema
    from pertexp.training.checkpoints import EpochClock, RandomState, SchemaStamp
    from pertexp.typed import check_type

    _quieten()
    check_type(int, config.seed, "seed")
    lightning.seed_everything(config.seed, workers=True, verbose=False)
    data = build(config.data, "data")
    model = build(config.model, "model")(
        data=data, loss=build(config.loss, "loss"), optimizer=build(config.optimizer, "optimizer")
    )
    callbacks = list(build_group(config.callbacks, "callbacks").values())
    callbacks += [EpochClock(), RandomState(), SchemaStamp(schema(data.design))]
    _require_validation(data, callbacks)
    loggers = list(build_group(config.logger, "logger").values())
    trainer = build(config.trainer, "trainer", callbacks=callbacks, logger=loggers)
    for logger in loggers:
        logger.log_hyperparams(OmegaConf.to_container(config, resolve=True))
    return data, model, trainer


def fit(model: "LightningModule", data: Any, trainer: "Trainer", ckpt_path: str | None) -> None:
    """Train (or resume), then put the weights of the best epoch in."""
    from pertexp.training.checkpoints import load_weights, read_checkpoint

    if ckpt_path is not None:
        read_checkpoint(ckpt_path)
    trainer.fit(model, datamodule=data, ckpt_path=ckpt_path, weights_only=True)
    best = getattr(trainer.checkpoint_callback, "best_model_path", "")
    if best:
        load_weights(model, best)


def _require_validation(data: Any, callbacks: list[Any]) -> None:
    waiting = [type(callback).__name__ for callback in callbacks if getattr(callback, "monitor", None)]
    if waiting and not data.has_validation:
        raise RequestError(
            f"{' and '.join(waiting)} watch val/loss, but the split holds no validation unit: "
            "type data.split.val_fraction=0.15, or callbacks=resume to keep the last epoch."
        )


def _repeated(config: DictConfig) -> DictConfig:
    """The configuration of the run to repeat; other overrides beside it would be a different run."""
    from pertexp.record import saved_config

    others = [word for word in HydraConfig.get().overrides.task if not word.startswith("repeat=")]
    if others:
        raise RequestError(
            f"repeat={config.repeat} repeats a run as it was, but {others[0]} was given too: remove one of them."
        )
    return saved_config(config.repeat)


def _quieten() -> None:
    """Leave out what Lightning says of itself; warnings about the user's run stay."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


def _say_hello(config: DictConfig, console: Any) -> None:
    from rich.syntax import Syntax

    if config.print_config:
        console.print(Syntax(OmegaConf.to_yaml(config), "yaml", background_color="default", word_wrap=True))
    tags = f" [{', '.join(config.tags)}]" if config.tags else ""
    log.info("model=%s data=%s%s", config.model.name, config.data.name, tags)


@guarded
def main() -> None:
    """The command."""
    os.environ.setdefault(SWEEP, sweep_name(sys.argv[1:]))
    hydra.main(config_path=config_folder(), config_name="run", version_base="1.3")(job)()


if __name__ == "__main__":
    from pertexp.run import main as installed  # under its own name, so that launchers can pickle the job

    installed()
