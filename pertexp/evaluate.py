"""`python -m pertexp.evaluate`: another tool's predictions, or a checkpoint, scored without training."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from pertexp.config.cli import guarded, no_folder_for_a_wrong_request, one_message
from pertexp.config.search_path import config_folder


def job(config: DictConfig) -> None:
    """Score, show, write."""
    from pertexp.experiment.evaluating import run

    folder = Path(HydraConfig.get().runtime.output_dir)
    with one_message(), no_folder_for_a_wrong_request(folder):
        run(config, folder)


@guarded
def main() -> None:
    """Run the command."""
    hydra.main(config_path=config_folder(), config_name="evaluate", version_base="1.3")(job)()


if __name__ == "__main__":
    main()
