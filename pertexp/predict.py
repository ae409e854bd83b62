"""`python -m pertexp.predict`: a trained model's predictions as a file, from its checkpoint alone."""

from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pertexp.config.cli import guarded, no_folder_for_a_wrong_request, one_message
from pertexp.config.errors import RequestError
from pertexp.config.search_path import SearchPath, config_folder


def options_text(name: str) -> str:
    """Return the options of a file of the configuration tree, as they stand there."""
    lines = (Path(config_folder()) / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return "\n".join(line for line in lines if not line.startswith("# @package")) + "\n"


OmegaConf.register_new_resolver("options_text", options_text, replace=True)


def job(config: DictConfig) -> None:
    """Restore, predict, write."""
    with one_message(), no_folder_for_a_wrong_request(Path(HydraConfig.get().runtime.output_dir)):
        run(config)


def run(config: DictConfig) -> Path:
    """Write what was asked for, whole or not at all; returns its path."""
    from pertexp.runs.record import whole
    from pertexp.tasks.registry import all_predicting, predicting_of, restore

    _check_values(config)
    trained = restore(config.ckpt, SearchPath.of_command())
    predicting = predicting_of(trained)
    predicting.refuse_options_of(all_predicting(), HydraConfig.get().overrides.task)
    path = predicting.place(config.out, Path(config.paths.run_dir))
    answer = predicting.answer(trained, predicting.asked(_plain(config)))
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        answer.write(partial, path.suffix)
    for line in (*answer.said, f"written to {path}"):
        print(line)  # noqa: T201
    return path


def _plain(config: DictConfig) -> dict[str, Any]:
    return {str(key): value for key, value in dict(OmegaConf.to_container(config, resolve=True)).items()}  # type: ignore[arg-type]


def _check_values(config: DictConfig) -> None:
    from typing import Annotated

    from pydantic import Field

    from pertexp.config.validate import check_type

    if OmegaConf.is_missing(config, "ckpt"):
        raise RequestError("ckpt has no value: type ckpt=outputs/runs/<date>/<run>, the folder of a run.")
    hints = {
        "ckpt": str,
        "out": str | None,
        "seed": Annotated[int, Field(ge=0)],
    }
    for name, hint in hints.items():
        check_type(hint, config[name], name)


@guarded
def main() -> None:
    """Run the command."""
    hydra.main(config_path=config_folder(), config_name="predict", version_base="1.3")(job)()


if __name__ == "__main__":
    main()
