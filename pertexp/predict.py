"""`python -m pertexp.predict`: a trained model's predictions as AnnData, from its checkpoint alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from pertexp.door import config_folder, guarded, no_folder_for_a_wrong_request, one_sentence
from pertexp.errors import RequestError

if TYPE_CHECKING:
    from pertexp.models.trained import Trained


def job(config: DictConfig) -> None:
    """Restore, predict, write."""
    with one_sentence(), no_folder_for_a_wrong_request(Path(HydraConfig.get().runtime.output_dir)):
        run(config)


def run(config: DictConfig) -> Path:
    """Write what was asked for, whole or not at all; returns its path."""
    from pertexp.models.trained import restore
    from pertexp.record import whole

    _check_values(config)
    path = Path(config.out)
    if path.suffix != ".h5ad":
        raise RequestError(f"out={path}: predictions are AnnData, so let the name end with .h5ad.")
    trained = restore(config.ckpt, Path(config_folder()))
    adata = predictions(trained, config)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial:
        adata.write_h5ad(partial)
    print(f"{adata.n_obs} rows × {adata.n_vars} genes, {adata.uns['scale']}")  # noqa: T201
    print(f"written to {path}")  # noqa: T201
    return path


def predictions(trained: "Trained", config: DictConfig) -> Any:
    """Profiles, drawn cells, or the control cells of a file, moved: an AnnData."""
    from pertexp.evaluation.predicting import drawn_cells, moved_cells, profiles
    from pertexp.models.vocabulary import canonical

    names = None if config.perturbations is None else canonical(list(config.perturbations))
    contexts = None if config.contexts is None else list(dict.fromkeys(map(str, config.contexts)))
    if contexts == []:
        raise RequestError("contexts=[] names none: type 'contexts=[A,B]', or leave it out for all.")
    if config.data.path is not None:
        options = {key: value for key, value in _plain(config.data).items() if value is not None}
        return moved_cells(trained, options, names, contexts, config.cells, config.genes == "shared", config.seed)
    if config.cells:
        return drawn_cells(trained, names, contexts, config.cells, config.seed)
    return profiles(trained, names, contexts)


def _plain(config: DictConfig) -> dict[str, Any]:
    return {str(key): value for key, value in dict(OmegaConf.to_container(config, resolve=True)).items()}  # type: ignore[arg-type]


def _check_values(config: DictConfig) -> None:
    from typing import Annotated, Literal

    from pydantic import Field

    from pertexp.typed import check_type

    if OmegaConf.is_missing(config, "ckpt"):
        raise RequestError("ckpt has no value: type ckpt=outputs/runs/<date>/<run>, the folder of a run.")
    hints = {
        "ckpt": str,
        "perturbations": list[str] | None,
        "contexts": list[str] | None,
        "cells": Annotated[int, Field(ge=1)] | None,
        "genes": Literal["refuse", "shared"],
        "out": str,
        "seed": Annotated[int, Field(ge=0)],
    }
    for name, hint in hints.items():
        value = config[name]
        check_type(hint, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value, name)


@guarded
def main() -> None:
    """The command."""
    hydra.main(config_path=config_folder(), config_name="predict", version_base="1.3")(job)()


if __name__ == "__main__":
    main()
