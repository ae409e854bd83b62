"""Files of cell-gears, converted to files of pertexp."""

import argparse
from pathlib import Path


def convert_split(asked: argparse.Namespace) -> str:
    """Return a saved split of `PertData` as a table for data/split=table."""
    from pertexp.data.plain_pickle import read_plain_pickle
    from pertexp.data.screens.released import split_rows
    from pertexp.runs.record import whole

    rows = split_rows(read_plain_pickle(asked.file), asked.file)
    with whole(asked.out) as partial:
        rows.to_csv(partial, index=False)
    counts = rows["role"].value_counts().to_dict()
    return ", ".join(f"{count} {role}" for role, count in counts.items())


def convert_model(asked: argparse.Namespace) -> str:
    """Return a saved model (model.pt, config.pkl) as a checkpoint that holds all that it needs to predict."""
    import torch

    from pertexp.data.plain_pickle import read_plain_pickle
    from pertexp.data.screens.released import control_means, node_names
    from pertexp.models.gears.released import checkpoint_of, read_weights
    from pertexp.runs.record import whole

    folder = Path(asked.folder)
    weights = read_weights(folder / "model.pt")
    config = read_plain_pickle(folder / "config.pkl")
    cells = control_means(asked.cells)
    names = node_names(asked.nodes, asked.terms)
    checkpoint = checkpoint_of(weights, config, cells, names)
    with whole(asked.out) as partial:
        torch.save(checkpoint, partial)
    return f"{len(cells.genes)} genes, {len(names)} genes that can be perturbed"
