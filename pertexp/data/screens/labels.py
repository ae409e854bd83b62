"""Canonical names of perturbations: `A+ctrl`, `ctrl+A` and `A` are one perturbation."""

import logging
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pertexp.config.errors import DataError, RequestError, nearest
from pertexp.data.screens.screen import CONTROL, JOIN

log = logging.getLogger(__name__)

CONTROL_WORDS = frozenset({"ctrl", CONTROL})
GUIDE_NUMBER = re.compile(r"_[0-9]+$")


@dataclass(frozen=True)
class _Grammar:
    """How one screen writes its labels."""

    controls: frozenset[str] = CONTROL_WORDS
    separator: str = JOIN
    guide: re.Pattern[str] | None = None

    def parts(self, label: str) -> tuple[str, ...]:
        """Split a label at its separators; a whole control label is never taken apart."""
        if label.strip() in self.controls:
            return (label.strip(),)
        return tuple(part.strip() for part in label.split(self.separator))

    def name(self, label: str) -> str:
        """Return the canonical name of a label."""
        folded = {self._fold(part, label) for part in self.parts(label)}
        return JOIN.join(sorted(folded - self.controls)) or CONTROL

    def mentions(self, label: str) -> set[str]:
        """Return the parts of a label as written and as folded: where a control label may be found."""
        parts = self.parts(label)
        return {*parts, *(self._fold(part, label) for part in parts)}

    def _fold(self, part: str, label: str) -> str:
        if part in self.controls:
            return part
        if not part:
            raise DataError(
                f"Label '{label}' has an empty member between its '{self.separator}' separators: "
                "write it as 'A' or 'A+B', or name the separator in data.separator."
            )
        if JOIN in part:
            raise DataError(
                f"Label '{label}' was split at '{self.separator}' and its member '{part}' still holds "
                f"'{JOIN}', which joins members here: type data.separator={JOIN} or rename the member."
            )
        return self._without_guide(part)

    def _without_guide(self, part: str) -> str:
        if self.guide is None:
            return part
        folded = self.guide.sub("", part).strip()
        if not folded:
            raise RequestError(
                f"data.fold_guides='{self.guide.pattern}' leaves nothing of the label member '{part}': "
                "give a pattern that matches the guide suffix alone, such as '\"_[0-9]+$\"'."
            )
        return folded


def canonical_name(label: str) -> str:
    """Return the canonical name of a label in the project's own spelling: `B+ctrl+A` → `A+B`."""
    return _Grammar().name(label)


def parse_labels(
    labels: Sequence[str] | pd.Series,
    control: str | list[str],
    separator: str = JOIN,
    fold_guides: str | None = None,
    *,
    require_control: bool = True,
) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the canonical perturbation names and the code of every cell.

    A label is the set of its members, any number of them: order and repeats do not count, and members equal
    to a control label, `ctrl` or `control` are dropped; a label with none left is control.

    Parameters
    ----------
    labels
        `[N]` one label per cell.
    control
        The label, or labels, of control cells.
    separator
        What joins members in a label.
    fold_guides
        Regular expression whose matches are removed from each member: `_[0-9]+$` folds `GENE_1` and `GENE_2`
        into `GENE`.
    require_control
        Whether control cells have to be there; predictions may come without.

    Returns
    -------
    names
        Entry 0 is `control`, the others are sorted.
    codes
        `[N]` int64 index into `names`.

    Raises
    ------
    DataError
        Empty or missing labels, no control cells, a member that holds `+` under another separator.
    RequestError
        A pattern that is no regular expression or leaves nothing of a name; an empty separator.
    """
    controls = frozenset([control] if isinstance(control, str) else map(str, control))
    grammar = _Grammar(controls | CONTROL_WORDS, _checked(separator), _compiled(fold_guides))
    series = pd.Series(labels).reset_index(drop=True)
    _refuse_blank(series)
    codes, distinct = pd.factorize(series.astype(str))
    if require_control:
        _refuse_missing_control(distinct, controls, grammar)
    canonical = [grammar.name(label) for label in distinct]
    if require_control and CONTROL not in canonical:
        raise DataError(
            f"No cell is a control: {', '.join(sorted(controls))} occurs only together with other members "
            f"(as in '{distinct[0]}'); name the label of unperturbed cells in data.control."
        )
    names = (CONTROL, *sorted(set(canonical) - {CONTROL}))
    _warn_of_unfolded(names, fold_guides)
    _warn_of_unsplit(names, controls)
    index = {name: code for code, name in enumerate(names)}
    return names, np.array([index[name] for name in canonical], dtype=np.int64)[codes]


def _warn_of_unfolded(names: tuple[str, ...], fold_guides: str | None) -> None:
    """Guides of one gene under names of their own would stand on both sides of a split."""
    if fold_guides is not None:
        return
    genes = Counter(GUIDE_NUMBER.sub("", name) for name in names if GUIDE_NUMBER.search(name))
    several = sorted(gene for gene, guides in genes.items() if guides > 1)
    if several:
        log.warning(
            "%d perturbations differ by a number alone (%s_...): if these are guides of one gene, one may train while "
            "another is tested; fold them with 'data.fold_guides=\"_[0-9]+$\"'.",
            sum(genes[gene] for gene in several),
            several[0],
        )


def _warn_of_unsplit(names: tuple[str, ...], controls: frozenset[str]) -> None:
    """Warn of combinations read as names of their own: their members' being seen in training stays hidden."""
    known = {*names, *controls, *CONTROL_WORDS}
    for separator in ";|&,":
        joined = [name for name in names if separator in name and set(name.split(separator)) <= known]
        if joined:
            log.warning(
                "%d labels look like combinations joined by '%s' (for example %s): type 'data.separator=\"%s\"' "
                "if they are.",
                len(joined), separator, joined[0], separator,
            )  # fmt: skip


def _checked(separator: str) -> str:
    if not separator:
        raise RequestError("data.separator is empty: give what joins members in a label, such as '+'.")
    return separator


def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    try:
        return None if pattern is None else re.compile(pattern)
    except re.error as error:
        raise RequestError(
            f"data.fold_guides='{pattern}' is no regular expression ({error}): "
            "type for example 'data.fold_guides=\"_[0-9]+$\"'."
        ) from error


def _refuse_blank(series: pd.Series) -> None:
    if series.empty:
        raise DataError("The perturbation column has no rows: give a screen with at least one control cell.")
    missing = series.isna() | series.astype(str).str.strip().eq("").astype(bool)
    rows = np.flatnonzero(missing.to_numpy(dtype=bool))
    if rows.size:
        first = ", ".join(str(row) for row in rows[:5])
        raise DataError(
            f"{rows.size} of {len(series)} cells have an empty perturbation label (first rows: {first}): "
            "label or remove these cells, or name another column in data.perturbation_key."
        )


def _refuse_missing_control(distinct: Iterable[str], controls: frozenset[str], grammar: _Grammar) -> None:
    found = {part for label in distinct for part in grammar.mentions(label)}
    missing = sorted(controls - found)
    if missing or not controls:
        wanted = missing[0] if missing else ""
        raise DataError(
            f"Control label '{wanted}' is not in the perturbation column ({len(found)} label members): "
            f"{nearest(wanted, found)} Set it with data.control=..."
        )
