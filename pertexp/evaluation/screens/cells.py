"""The cells behind an evaluation: real cells, halves of them, and control cells shifted to predicted means."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.sparse as sp

from pertexp.data.screens.design import Design
from pertexp.data.screens.profiles import Units, control_profiles, first_halves, tested_values, unit_groups
from pertexp.data.screens.screen import Screen
from pertexp.data.screens.split_table import HELD_OUT
from pertexp.evaluation.screens.moved import moved_counts, moved_logs
from pertexp.metrics.cells import Cells
from pertexp.metrics.differential import benjamini_hochberg, t_against_control, t_against_others, wilcoxon


@dataclass(frozen=True)
class Half:
    """One half of the cells of every unit in a random split: side 0 predicts, side 1 is the truth."""

    split: int
    side: int


@dataclass(frozen=True, eq=False)
class TestedCells:
    """Real and predicted cells of the test units, pool by pool; a pool is one context, whose controls are shared.

    Attributes
    ----------
    screen, size_factor
        The screen, and `[N]` size factors of its cells.
    units
        The test units.
    held_out
        `[N]` the control cells that are held out.
    control
        `[C, G]` profiles of all control cells, from which predictions move them.
    seed
        Of the halves and of the moved cells.
    given
        Cells that a prediction brings itself, by its name: those of another tool, in the order of `units`.
    """

    screen: Screen
    size_factor: np.ndarray
    units: Units
    held_out: np.ndarray
    control: np.ndarray
    seed: int = 0
    given: dict[str, Cells] = field(default_factory=dict)

    __test__ = False  # no test, whatever pytest makes of the name

    @classmethod
    def of(cls, design: Design, seed: int) -> "TestedCells":
        """Return the cells of the test units of a design."""
        screen, size_factor = design.screen, design.size_factor
        control = control_profiles(screen, size_factor)
        return cls(screen, size_factor, design.units("test"), design.role == HELD_OUT, control, seed)

    @property
    def pools(self) -> list[np.ndarray]:
        """Rows of the units of each context."""
        return [np.flatnonzero(self.units.context == context) for context in np.unique(self.units.context)]

    def real(self, rows: np.ndarray, half: Half | None = None) -> Cells:
        """Return real cells of some units of one context, all or half of them, and all control cells of the context."""
        group = self._group(rows)
        if half is not None:
            first = first_halves(self.screen, self.units, [self.seed, half.split])
            group = np.where((first == (half.side == 0)) | (group == -1), group, -2)
        kept = np.flatnonzero(group > -2)
        return self._cells(self.screen.expression[kept], group[kept], rows.size, self.size_factor[kept])

    def all_perturbed(self, rows: np.ndarray) -> tuple[Cells, tuple[str, ...]]:
        """Return real cells of all perturbations of a pool's context, tested or not, with controls; and the names."""
        here = np.flatnonzero(self.screen.context == self.units.context[rows[0]])
        codes = np.unique(self.screen.perturbation[here])
        codes = codes[codes > 0]
        group = np.searchsorted(codes, self.screen.perturbation[here])
        group[self.screen.perturbation[here] == 0] = -1
        cells = self._cells(self.screen.expression[here], group, codes.size, self.size_factor[here])
        return cells, tuple(self.screen.perturbations[code] for code in codes)

    def tests(self) -> dict[str, np.ndarray]:
        """Return `[U, G]` tables of tests of the real cells, by their names in the evaluation frame.

        `de_score` and `de_fdr` are against held-out control cells, `shared_...` against all; `rest_score` is against
        the cells of all other perturbations.
        """
        values = tested_values(self.screen, self.size_factor)
        shape = (len(self.units), self.screen.n_genes)
        found = {f"{prefix}{name}": np.full(shape, np.nan) for prefix in ("", "shared_") for name in _AGAINST_CONTROL}
        found["rest_score"] = np.full(shape, np.nan)
        for rows in self.pools:
            group = self._group(rows)
            here = np.flatnonzero(self.screen.context == self.units.context[rows[0]])
            cells = self._cells(values[here], group[here], rows.size, self.size_factor[here])
            found["rest_score"][rows] = np.abs(t_against_others(*_perturbed(cells)))[: rows.size]
            for prefix, controls in (("", self.held_out[here]), ("shared_", np.ones(here.size, dtype=bool))):
                tested = _kept(cells, (cells.group >= 0) | ((cells.group == -1) & controls))
                for name, test in _AGAINST_CONTROL.items():
                    found[f"{prefix}{name}"][rows] = test(tested)
        return {name: _whole_rows(table) for name, table in found.items()}

    def predicted(self, name: str, profile: np.ndarray, rows: np.ndarray, *, own_control: bool = False) -> Cells:
        """Return cells of a predicted profile `[U, G]` for some units of one context, with the real control cells.

        As many cells a unit as it really has, drawn from the controls (again and again where there are too few), from
        the same seed whatever the prediction. Cells that were given stay as they are; `own_control` leaves them the
        control cells that they came with, where there are any.
        """
        if name in self.given:
            return self._given(self.given[name], rows, own_control)
        context = int(self.units.context[rows[0]])
        controls = np.flatnonzero((self.screen.perturbation == 0) & (self.screen.context == context))
        size = np.bincount(self._group(rows) + 2, minlength=rows.size + 2)[2:]
        blocks, factors = [self.screen.expression[controls]], [self.size_factor[controls]]
        for row, n in zip(rows, size, strict=True):
            rng = np.random.default_rng([self.seed, 1, int(row)])
            drawn = rng.choice(controls, n, replace=n > controls.size)
            blocks.append(self._moved(drawn, context, profile[row], rng))
            factors.append(self.size_factor[drawn])
        group = np.concatenate([np.full(controls.size, -1), np.repeat(np.arange(rows.size), size)])
        return self._cells(sp.vstack(blocks, format="csr"), group, rows.size, np.concatenate(factors))

    def _moved(self, drawn: np.ndarray, context: int, profile: np.ndarray, rng: np.random.Generator) -> sp.csr_matrix:
        cells, before = self.screen.expression[drawn], self.control[context]
        if self.screen.scale == "counts":
            after = np.expm1(np.maximum(profile, 0.0))
            return moved_counts(cells, self.size_factor[drawn], np.expm1(before), after, rng)
        return moved_logs(cells, before, profile)

    def _given(self, cells: Cells, rows: np.ndarray, own_control: bool) -> Cells:
        """Return the cells of some units, under the numbers that these have among `rows`, and control cells."""
        keep_own = own_control and bool((cells.group == -1).any())
        position = np.full(len(self.units) + 1, -2)
        position[rows], position[-1] = np.arange(rows.size), -1 if keep_own else -2
        group = position[cells.group]
        kept = np.flatnonzero(group > -2)
        blocks, groups, factors = [cells.expression[kept]], [group[kept]], [cells.size_factor[kept]]
        if not keep_own:
            context = int(self.units.context[rows[0]])
            real = np.flatnonzero((self.screen.perturbation == 0) & (self.screen.context == context))
            blocks.append(self.screen.expression[real])
            groups.append(np.full(real.size, -1))
            factors.append(self.size_factor[real])
        expression = sp.vstack(blocks, format="csr")
        return self._cells(expression, np.concatenate(groups), rows.size, np.concatenate(factors))

    def _group(self, rows: np.ndarray) -> np.ndarray:
        """Return `[N]` position of each cell's unit among `rows`, -1 for control cells of their context, else -2."""
        group = unit_groups(self.screen, self.units.take(rows))
        control = (self.screen.perturbation == 0) & (self.screen.context == self.units.context[rows[0]])
        return np.where(control, -1, np.where(group < 0, -2, group))

    def _cells(self, expression: sp.csr_matrix, group: np.ndarray, n_units: int, size_factor: np.ndarray) -> Cells:
        scale = self.screen.scale if self.screen.scale == "counts" else "log1p"
        return Cells(expression, group, n_units, scale, size_factor)


_AGAINST_CONTROL: dict[str, Callable[[Cells], np.ndarray]] = {
    "de_score": lambda cells: np.abs(t_against_control(cells, cells.expression)),
    "de_fdr": lambda cells: benjamini_hochberg(wilcoxon(cells, cells.expression)),
}


def _kept(cells: Cells, mask: np.ndarray) -> Cells:
    """Return some of the cells."""
    kept = np.flatnonzero(mask)
    return Cells(cells.expression[kept], cells.group[kept], cells.n_units, cells.scale, cells.size_factor[kept])


def _perturbed(cells: Cells) -> tuple[Cells, sp.csr_matrix]:
    """Return the perturbed cells alone, those of units that are not tested as one more unit."""
    kept = np.flatnonzero(cells.group != -1)
    group = np.where(cells.group[kept] == -2, cells.n_units, cells.group[kept])
    rest = Cells(cells.expression[kept], group, cells.n_units + 1, cells.scale, cells.size_factor[kept])
    return rest, rest.expression


def _whole_rows(table: np.ndarray) -> np.ndarray:
    """Mark a unit as not tested where some gene of it could not be tested."""
    return np.where(np.isnan(table).any(axis=1, keepdims=True), np.nan, table)
