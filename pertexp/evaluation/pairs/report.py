"""What a run on pairs has to say, on the console and in its folder."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from pertexp.evaluation.pairs.generalisation import Generalisation, Side, SupportDraws
from pertexp.evaluation.pairs.lineup import Lineup
from pertexp.evaluation.pairs.marks import Mark
from pertexp.evaluation.pairs.predictions import FILE
from pertexp.evaluation.pairs.scoring import PairScores
from pertexp.evaluation.screens.scoring import plain
from pertexp.models.watched import Watched
from pertexp.report.pairs.console import render
from pertexp.runs.record import whole

KIND = "pairs"


@dataclass(frozen=True)
class PairReport:
    """Scores, verdict, and what was watched.

    Attributes
    ----------
    lineup
        Who stands in the table.
    scores
        What was scored, and how.
    verdict
        Sentences.
    thresholds
        By row, the probability at and above which a pair is called, chosen on validation; None without.
    generalisation
        From training to test pairs.
    draws
        The spread over support sets; None without them.
    watched, marks
        What the model watches, and the marks that its design set.
    notes
        What a reader should know of the data and the split.
    """

    lineup: Lineup
    scores: PairScores
    verdict: list[str]
    thresholds: Mapping[str, float | None]
    generalisation: Generalisation
    draws: SupportDraws | None
    watched: Mapping[str, Watched]
    marks: list[Mark]
    notes: tuple[str, ...]

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.lineup.model

    @property
    def value(self) -> float:
        """The model on the primary metric, mean over cell lines."""
        return float(self.scores.summary(self.model, self.scores.primary)["mean"])

    def means(self) -> dict[str, float]:
        """The model's mean on every metric that applies."""
        own = self.scores.aggregate[self.scores.aggregate["model"] == self.model].dropna(subset=["mean"])
        return dict(zip(own["metric"], own["mean"].astype(float), strict=True))

    def write(self, folder: Path) -> None:
        """Write predictions.parquet, then metrics.json, each whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(plain(self.document()), indent=1, allow_nan=False)
        with whole(folder / FILE) as partial:
            self.scores.predictions.to_parquet(partial, index=False)
        with whole(folder / "metrics.json") as partial:
            partial.write_text(text + "\n", encoding="utf-8")

    def document(self) -> dict[str, Any]:
        """What metrics.json holds."""
        return {
            "kind": KIND,
            **self.lineup.document(),
            **self.scores.document(),
            "verdict": self.verdict,
            "notes": list(self.notes),
            "thresholds": dict(self.thresholds),
            "generalisation": self.generalisation.document(),
            "support_draws": None if self.draws is None else self.draws.document(),
            "watched": {name: vars(found) for name, found in self.watched.items()},
            "marks": [mark.document() for mark in self.marks],
        }

    def show(self, console: Console, title: str) -> None:
        """Print the table, the verdict, and the marks."""
        console.print(render(self.scores, self.lineup, title, self._footnotes()))
        for line in [*self.verdict, *self._watched_lines()]:
            console.print(line, highlight=False)

    def _footnotes(self) -> list[str]:
        sides = [(role, getattr(self.generalisation, role)) for role in ("train", "val", "test")]
        said = "; ".join(f"{role} {_side(side)}" for role, side in sides if side is not None)
        chance = self.generalisation.chance
        by_chance = "" if chance is None else f" ({chance:+.3f} for what knows nothing)"
        gap = f"gap from training to test {self.generalisation.gap:+.3f}{by_chance}"
        lines = [f"auprc (prevalence): {said}; {gap}."]
        if self.draws is not None:
            found = self.draws.document()
            spread = ", ".join(_spread(name, found[name]) for name in ("auprc", "auroc"))
            draws = f"{found['n_draws']} draw(s) of the support sets, each of which leaves other pairs to score"
            lines.append(f"Over {draws}: {spread}.")
        return lines + [f"Note: {note}." for note in self.notes]

    def _watched_lines(self) -> list[str]:
        named = {mark.target.quantity for mark in self.marks}
        rest = [f"watched: {name} {_watched(found)}" for name, found in self.watched.items() if name not in named]
        return [*(mark.said for mark in self.marks), *rest]


def _side(side: Side) -> str:
    return f"{side.auprc:.3f} ({side.prevalence:.3f}; {side.n} pairs)"


def _spread(name: str, found: Mapping[str, Any]) -> str:
    if math.isnan(found["sd"]):
        return f"{name} {found['mean']:.3f}"
    return f"{name} {found['mean']:.3f} ± {found['sd']:.3f} ({found['min']:.3f} to {found['max']:.3f})"


def _watched(found: Watched) -> str:
    chance = "" if found.chance is None or math.isnan(found.chance) else f" (chance {found.chance:.3g})"
    return f"{found.value:.3g}{chance}{'; ' if found.note else ''}{found.note}"
