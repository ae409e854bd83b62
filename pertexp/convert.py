"""`python -m pertexp.convert`: files of cell-gears become files of pertexp."""

import argparse
import sys
from pathlib import Path
from typing import Any

from pertexp.config.cli import guarded
from pertexp.config.errors import DataError

EXAMPLES = """examples:
  python -m pertexp.convert gears-split norman_simulation_1_0.75.pkl --out split.csv
      then: python -m pertexp.run model=gears data=perturb_processed data.path=perturb_processed.h5ad \\
                data/split=table data.split.path=split.csv
  python -m pertexp.convert gears-model saved_model --cells perturb_processed.h5ad \\
      --nodes essential_all_data_pert_genes.pkl --out gears.ckpt
      then: python -m pertexp.predict ckpt=gears.ckpt 'perturbations=[A,A+B]'
"""


def convert_split(asked: argparse.Namespace) -> str:
    """A saved split of `PertData` as a table for data/split=table."""
    from pertexp.data.plain_pickle import read_plain_pickle
    from pertexp.data.screens.released import split_rows
    from pertexp.runs.record import whole

    rows = split_rows(read_plain_pickle(asked.file), asked.file)
    with whole(asked.out) as partial:
        rows.to_csv(partial, index=False)
    counts = rows["role"].value_counts().to_dict()
    return ", ".join(f"{count} {role}" for role, count in counts.items())


def convert_model(asked: argparse.Namespace) -> str:
    """A saved model (model.pt, config.pkl) as a checkpoint that holds all that it needs to predict."""
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


def parser() -> argparse.ArgumentParser:
    """The two commands and what they take."""
    made = argparse.ArgumentParser(
        prog="pertexp.convert",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(required=True, metavar="what")
    split = commands.add_parser("gears-split", help="a split that PertData saved")
    split.add_argument("file", type=Path, help="the .pkl of conditions by train, val and test")
    split.set_defaults(convert=convert_split)
    model = commands.add_parser("gears-model", help="a model that GEARS.save_model saved")
    model.add_argument("folder", type=Path, help="holds model.pt and config.pkl")
    model.add_argument("--cells", type=Path, required=True, help="perturb_processed.h5ad: gene names and control cells")
    model.add_argument("--nodes", type=Path, required=True, help="genes of the perturbation graph: .pkl, or one a line")
    model.add_argument("--terms", type=Path, help="gene2go_all.pkl: only its genes are nodes")
    model.set_defaults(convert=convert_model)
    for command in (split, model):
        command.add_argument("--out", type=Path, required=True, help="the file to write")
    return made


@guarded
def main() -> None:
    """The command."""
    asked: Any = parser().parse_args()
    if not asked.out.resolve().parent.is_dir():
        raise DataError(f"no folder {asked.out.resolve().parent} to write {asked.out.name} to: make it first.")
    said = asked.convert(asked)
    sys.stdout.write(f"written to {asked.out}: {said}\n")


if __name__ == "__main__":
    main()
