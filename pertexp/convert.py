"""`python -m pertexp.convert`: files of cell-gears become files of pertexp."""

import argparse
import sys
from pathlib import Path
from typing import Any

from pertexp.config.cli import guarded
from pertexp.config.errors import DataError
from pertexp.experiment.converting import convert_model, convert_split

EXAMPLES = """examples:
  python -m pertexp.convert gears-split norman_simulation_1_0.75.pkl --out split.csv
      then: python -m pertexp.run model=gears data=perturb_processed data.path=perturb_processed.h5ad \\
                data/split=table data.split.path=split.csv
  python -m pertexp.convert gears-model saved_model --cells perturb_processed.h5ad \\
      --nodes essential_all_data_pert_genes.pkl --out gears.ckpt
      then: python -m pertexp.predict ckpt=gears.ckpt 'perturbations=[A,A+B]'
"""


def parser() -> argparse.ArgumentParser:
    """Return the two commands and what they take."""
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
    """Run the command."""
    asked: Any = parser().parse_args()
    if not asked.out.resolve().parent.is_dir():
        raise DataError(f"no folder {asked.out.resolve().parent} to write {asked.out.name} to: make it first.")
    said = asked.convert(asked)
    sys.stdout.write(f"written to {asked.out}: {said}\n")


if __name__ == "__main__":
    main()
