"""A user's own scFoundation checkpoint. Its weights are not ours to hand on, and nothing is fetched."""

from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from pertexp.config.errors import DataError
from pertexp.nn.mae_autobin import EXTRA_TOKENS, MaeAutobin, MaeAutobinShape

Part = Literal["gene", "cell", "rde"]


def read_released(path: str | Path, part: Part = "gene") -> MaeAutobin:
    """Return the network of one part of a released `models.ckpt`, its sizes read off the configuration inside.

    Raises
    ------
    DataError
        Where the file is missing, truncated or holds code, has no such part, or weights that are not of this network.
    """
    held = _read(path)
    if not isinstance(held, dict) or not isinstance(held.get(part), dict):
        found = ", ".join(map(str, held)) if isinstance(held, dict) else type(held).__name__
        raise DataError(f"{path} has no part '{part}' (found {found}): name the models.ckpt of scFoundation.")
    shape = _shape(held[part].get("config"), path)
    weights: dict[str, Tensor] = {
        name.removeprefix("model."): value for name, value in held[part].get("state_dict", {}).items()
    }
    network = MaeAutobin(shape)
    ours = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in weights.items()}
    wrong = sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))
    if wrong:
        said = f"{wrong[0]} is {theirs.get(wrong[0], 'missing')}, expected {ours.get(wrong[0], 'none of that name')}"
        raise DataError(f"{path} holds other weights than its configuration says ({said}): fetch the file again.")
    network.load_state_dict(weights)
    return network.float().eval()


def _read(path: str | Path) -> Any:
    if not Path(path).is_file():
        raise DataError(
            f"no file {path}: scFoundation's weights must be had from its authors; then type "
            "model.embedding.path=models.ckpt"
        )
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:  # torch raises many kinds for a file that is truncated, of another format or unsafe
        raise DataError(
            f"{path} cannot be read as a checkpoint ({type(fault).__name__}): it may be truncated, of another format, "
            "or hold code, which is never run."
        ) from fault


def _shape(config: Any, path: str | Path) -> MaeAutobinShape:
    try:
        name = config["model"]
        model = {**config["model_config"][name], **config["dataset_config"]["rnaseq"]}
        encoder, decoder = model["encoder"], model["decoder"]
        if name != "mae_autobin" or (encoder["module_type"], decoder["module_type"]) != ("transformer", "performer"):
            raise DataError(f"{path} holds a {name}: expected a mae_autobin of transformer and performer.")
        return MaeAutobinShape(
            n_genes=int(model["seq_len"]) - EXTRA_TOKENS,
            width=int(encoder["hidden_dim"]),
            depth=int(encoder["depth"]),
            heads=int(encoder["heads"]),
            out_width=int(decoder["hidden_dim"]),
            out_depth=int(decoder["depth"]),
            out_heads=int(decoder["heads"]),
            head_width=int(decoder["dim_head"]),
            n_bins=int(model["bin_num"]),
            bin_alpha=float(model["bin_alpha"]),
        )
    except (KeyError, TypeError, ValueError) as fault:
        raise DataError(f"{path} has no configuration as scFoundation writes it ({fault}): fetch it again.") from fault
