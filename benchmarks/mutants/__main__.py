"""`make mutants PATHS=... N=150 SEED=0`: how many of a seeded sample of mutations the tests notice."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from benchmarks.mutants.choosing import chosen
from benchmarks.mutants.coverage_map import CoverageMap, FailingTestsError, coverage_map
from benchmarks.mutants.places import Mutant
from benchmarks.mutants.running import Job, Outcome, outcomes
from benchmarks.mutants.sampling import SETS, sample

ROOT = Path(__file__).resolve().parents[2]
console = Console(highlight=False, soft_wrap=True)


def main() -> int:
    """Draw mutants, run tests over them, print which survive."""
    options = _options()
    start = time.monotonic()
    try:
        drawn = sample(ROOT, options.paths, options.n, options.seed)
        console.print(
            f"{len(drawn)} mutants of {' '.join(options.paths)}, seed {options.seed}; which tests run which lines ..."
        )
        found = coverage_map(ROOT)
    except ValueError as error:
        console.print(str(error), style="red", markup=False)
        return 2
    except FailingTestsError as error:
        console.print(
            f"{error}\nThese tests fail without any mutation: first make them pass.", style="red", markup=False
        )
        return 1
    jobs = [_job(mutant, found, options.limit) for mutant in drawn]
    done = _run(jobs, options.processes)
    _print(done, time.monotonic() - start)
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="mutants", description=__doc__)
    sets = ", ".join(SETS)
    parser.add_argument("paths", nargs="*", default=["pure"], help=f"modules, folders, patterns, or a set: {sets}")
    parser.add_argument("--n", type=int, default=150, help="how many mutants")
    parser.add_argument("--seed", type=int, default=0, help="chooses them")
    parser.add_argument(
        "--limit", type=float, default=90, help="seconds of tests for a mutant, twice where files differ"
    )
    parser.add_argument("--processes", type=int, default=2, help="mutants at a time, each in a copy of the checkout")
    return parser.parse_args()


def _job(mutant: Mutant, found: CoverageMap, limit: float) -> Job:
    groups = chosen(mutant.place, found, ROOT, limit)
    seconds = tuple(sum(found.seconds[test] for test in group) for group in groups)
    return Job(mutant, tuple(map(tuple, groups)), seconds)


def _run(jobs: Sequence[Job], processes: int) -> list[Outcome]:
    longest_first = sorted(jobs, key=lambda job: -sum(job.seconds))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    done: list[Outcome] = []
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("mutants", total=len(jobs))
        for outcome in outcomes(ROOT, longest_first, processes):
            done.append(outcome)
            if not outcome.noticed_by:
                console.print(_survivor(outcome), markup=False)
            if not console.is_terminal and len(done) % 10 == 0:
                console.print(f"{len(done)} of {len(jobs)} done")
            progress.advance(task)
    return done


def _survivor(outcome: Outcome) -> str:
    mutant = outcome.job.mutant
    ran = f"{outcome.n_tests} tests passed" if outcome.n_tests else "no test runs it"
    return f"survived: {mutant.name} ({ran})\n{mutant.difference}"


def _print(done: Sequence[Outcome], seconds: float) -> None:
    table = Table("module", "noticed", "of")
    by_module: dict[str, list[bool]] = {}
    for outcome in done:
        by_module.setdefault(outcome.job.mutant.place.path, []).append(bool(outcome.noticed_by))
    for path, noticed in sorted(by_module.items()):
        table.add_row(path, str(sum(noticed)), str(len(noticed)))
    console.print(table)
    unsteady = sorted({test for outcome in done for test in outcome.unsteady})
    if unsteady:
        console.print("failed without a mutation too, and did not count:", *unsteady, sep="\n  ", markup=False)
    noticed_by_tests = sum(bool(outcome.noticed_by) for outcome in done)
    share = noticed_by_tests / max(1, len(done))
    console.print(f"noticed {noticed_by_tests} of {len(done)} ({share:.1%}) in {seconds:.0f} seconds")


if __name__ == "__main__":
    sys.exit(main())
