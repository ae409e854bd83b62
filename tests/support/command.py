"""The command as tests call it: in this process where nothing speaks against it, else in a fresh one."""

import contextlib
import io
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from places import ROOT

from pertexp import threads

TINY = (
    "data.simulator.n_genes=30",
    "data.simulator.n_perturbations=15",
    "data.simulator.n_combinations=0",
    "data.simulator.cells_per_perturbation=20",
    "data.simulator.n_controls=120",
    "trainer.max_epochs=2",
    "~callbacks.progress",
    "+trainer.enable_progress_bar=false",
    "evaluation.n_resamples=50",
    "print_config=false",
)


class Ran(NamedTuple):
    """What a command left: exit code, both streams, and the run folder that it named last."""

    code: int
    out: str
    err: str

    @property
    def folder(self) -> Path:
        return Path(
            [line for line in self.out.splitlines() if line.startswith("written to ")][-1][len("written to ") :]
        )


def command(*words: str) -> Ran:
    """`python -m pertexp.run *words`, in this process."""
    from pertexp import run

    return of(run.main, "pertexp.run", *words)


def of(entry: Callable[[], None], name: str, *words: str) -> Ran:
    """Any command with these words, in this process."""
    out, err = io.StringIO(), io.StringIO()
    argv, code = sys.argv, 0
    sys.argv = [name, *words]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            entry()
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else 1
    except Exception:
        err.write(traceback.format_exc())
        code = 1
    finally:
        sys.argv = argv
    return Ran(code, out.getvalue(), err.getvalue())


def fresh_command(*words: str, **environment: str) -> Ran:
    """`python -m pertexp.run *words`, in a process of its own, with as many threads as this one."""
    done = subprocess.run(
        [sys.executable, "-m", "pertexp.run", *words],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": str(threads.count()), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return Ran(done.returncode, done.stdout, done.stderr)
