"""Diagnostics of PRISM on held-out pairs: what z_I holds of the cell line and of the label."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from torch import Tensor

from pertexp.config.errors import DataError
from pertexp.data.pairs.design import PairDesign
from pertexp.data.pairs.loader import Batch
from pertexp.losses.regular import nonzero_share
from pertexp.metrics.dependence import Probe, excess_cross_correlation, linear_probe
from pertexp.models.prism.network import PrismOutput
from pertexp.models.protocols import Target
from pertexp.runs.schema import Diagnostic

ENOUGH = 5000  # pairs for a correlation whose chance level, about 1 / n, lies below the document's 1e-3

# The marks of the document, which it calls the signs of success.
TARGETS = (
    Target("train/auprc", 0.85, 0.90, "training AUPRC 0.85 to 0.90; above 0.95 it memorises"),
    Target("gap", -np.inf, 0.15, "training AUPRC less test AUPRC at most 0.15"),
    Target("correlation", -np.inf, 1e-3, "correlation of z_I and e below 0.001"),
    Target("adversary", -np.inf, 0.30, "balanced accuracy of the line classifier below 0.30"),
    Target("test/auprc", 0.75, np.inf, "test AUPRC at least 0.75"),
    Target("test/recall", 0.6, 0.8, "recall 0.6 to 0.8"),
    Target("test/precision", 0.6, 0.8, "precision 0.6 to 0.8"),
)


@dataclass(frozen=True, eq=False)
class Read:
    """Outputs of the network for n pairs, as arrays.

    Attributes
    ----------
    pair
        `[n]` numbers of the pairs.
    invariant, own
        z_I `[n, d_I]` and e `[n, d_E]`.
    resistance, temperature
        R_E and T `[n]`.
    told
        Class `[n]` that the line classifier gives each pair; None without one.
    """

    pair: np.ndarray
    invariant: np.ndarray
    own: np.ndarray
    resistance: np.ndarray
    temperature: np.ndarray
    told: np.ndarray | None

    def of(self, rows: np.ndarray) -> "Read":
        """Return some of the pairs (a mask)."""
        parts: dict[str, Any] = {one.name: getattr(self, one.name) for one in fields(self)}
        kept: dict[str, Any] = {name: None if part is None else part[rows] for name, part in parts.items()}
        return Read(**kept)


def read(views: Iterable[tuple[Batch, PrismOutput, Tensor | None]]) -> Read:
    """Collect batches, their views, and the logits of the line classifier."""
    parts: dict[str, list[np.ndarray]] = {}
    for batch, view, told in views:
        named = {
            "pair": batch["pair"],
            "invariant": view.invariant,
            "own": view.own,
            "resistance": view.reading.resistance,
            "temperature": view.reading.temperature,
            "told": None if told is None else told.argmax(dim=1),
        }
        for name, tensor in named.items():
            if tensor is not None:
                parts.setdefault(name, []).append(tensor.cpu().numpy())
    columns: dict[str, Any] = {name: np.concatenate(part) for name, part in parts.items()}
    return Read(**{"told": None, **columns})


def diagnostics(design: PairDesign, held: Read, classes: np.ndarray) -> dict[str, Diagnostic]:
    """Quantities by name.

    Parameters
    ----------
    design
        Of the pairs.
    held
        Validation and test pairs: elements that no training pair has.
    classes
        `[C]` class of each line among the training lines; -1 for others.
    """
    pairs = design.pairs
    known = classes[pairs.line[held.pair]] >= 0
    found = _correlation(held)
    found |= _adversary(held.of(known), classes[pairs.line[held.pair[known]]])
    groups = _groups(design, held.pair)
    found |= _probed("line", held.of(known), pairs.line[held.pair[known]], groups[known])
    found |= _probed("label", held, pairs.label[held.pair], groups)
    return found | _by_line("resistance", held.resistance, design, held) | _temperature(design, held)


def _by_line(what: str, values: np.ndarray, design: PairDesign, held: Read) -> dict[str, Diagnostic]:
    line = design.pairs.line[held.pair]
    return {
        f"{what}/{design.lines[number]}": Diagnostic(
            float(values[line == number].mean()), None, "mean of held-out pairs"
        )
        for number in np.unique(line).tolist()
    }


def _temperature(design: PairDesign, held: Read) -> dict[str, Diagnostic]:
    """Return one for all lines where it is one."""
    if np.ptp(held.temperature) > 0:
        return _by_line("temperature", held.temperature, design, held)
    return {"temperature": Diagnostic(float(held.temperature[0]), None, "T of the trained network, in every line")}


def shares(view: PrismOutput) -> dict[str, Tensor]:
    """Shares of features that are not zero, of z_I and of z_E."""
    found = {"invariant": nonzero_share(view.invariant.detach())}
    return found if view.line is None else found | {"environment": nonzero_share(view.line.detach())}


def _correlation(held: Read) -> dict[str, Diagnostic]:
    found = excess_cross_correlation(held.invariant, held.own)
    few = "" if len(held.pair) >= ENOUGH else f", fewer than the {ENOUGH} that were wanted"
    note = (
        f"mean squared cross-correlation of z_I and e on {len(held.pair)} held-out pairs{few}: {found.value:.4f}, less "
        f"its mean with rows shuffled, {found.permutation_mean:.4f}"
    )
    return {"correlation": Diagnostic(found.excess, 0.0, note)}


def _adversary(known: Read, line: np.ndarray) -> dict[str, Diagnostic]:
    from sklearn.metrics import balanced_accuracy_score

    if known.told is None or not len(line):
        return {}
    score = float(balanced_accuracy_score(line, known.told))
    note = f"balanced accuracy of the classifier that z_I was trained against, on {len(line)} validation pairs"
    return {"adversary": Diagnostic(score, 1 / len(np.unique(line)), note)}


def _probed(what: str, held: Read, classes: np.ndarray, groups: np.ndarray) -> dict[str, Diagnostic]:
    """Return a fresh linear probe on z_I, which an adversary that gave up does not flatter."""
    try:
        probe: Probe = linear_probe(held.invariant, classes, groups)
    except DataError as fault:
        return {f"{what}_probe": Diagnostic(np.nan, None, f"not measured: {fault}")}
    note = f"balanced accuracy of a linear probe for the {what} on z_I of {len(classes)} held-out pairs, by cross-fit"
    return {f"{what}_probe": Diagnostic(probe.balanced_accuracy, probe.chance, note)}


def _groups(design: PairDesign, rows: np.ndarray) -> np.ndarray:
    """Group pairs that may share elements: by chromosome, or a promoter where places are not known."""
    pairs = design.pairs
    groups: np.ndarray = (pairs.chromosome if pairs.elements.placed else pairs.promoter)[rows]
    return groups
