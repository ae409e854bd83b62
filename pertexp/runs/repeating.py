"""Repeating a run from its folder."""

from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pertexp import threads
from pertexp.config.cli import is_first_process
from pertexp.config.errors import RequestError
from pertexp.runs.record import save_config, saved_config, saved_threads
from pertexp.runs.schema import ENVIRONMENT


def repeated_config(config: DictConfig, folder: Path) -> DictConfig:
    """Return the configuration of the run to repeat, put on record; further overrides would make a different run."""
    others = [word for word in HydraConfig.get().overrides.task if not word.startswith("repeat=")]
    if others:
        raise RequestError(
            f"repeat={config.repeat} repeats a run as it was, but {others[0]} was given too: remove one of them."
        )
    repeated = saved_config(config.repeat)
    threads.same_as(saved_threads(config.repeat), str(Path(config.repeat) / ENVIRONMENT))
    if is_first_process():
        save_config(repeated, folder)
    return repeated
