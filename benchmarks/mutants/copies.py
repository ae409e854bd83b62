"""Copies of the checkout, in which the code is mutated and the tests run."""

import os
import shutil
import subprocess
from pathlib import Path


def files(root: Path) -> list[str]:
    """List the files that git knows or would add, as they lie there."""
    words = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(words, cwd=root, check=True, capture_output=True, text=True).stdout
    return sorted(name for name in listed.split("\0") if name and (root / name).is_file())


def copy(root: Path, target: Path) -> Path:
    """Copy them into an empty folder, make it a repository, as tests ask git what there is, and return it."""
    for name in files(root):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target / name)
    someone = ["-c", "user.name=mutants", "-c", "user.email=mutants@localhost"]
    for words in (["init"], ["add", "--all"], [*someone, "commit", "--message", "copy"]):
        subprocess.run(["git", *words], cwd=target, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return target


def environment(folder: Path) -> dict[str, str]:
    """Return variables by which processes import the code of a copy, without writing beside it."""
    names = ("PYTHONPATH", "OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE", "WANDB_MODE")
    values = (str(folder), "1", "1", "offline")
    return {**os.environ, **dict(zip(names, values, strict=True))}
