"""Roles of the rows of a table of scores: the model, a baseline, or a row that is only shown."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from pertexp.runs.schema import Role, RunMetrics

REPLICATE: Role = "replicate"
TRUTH: Role = "truth"


@dataclass(frozen=True)
class RowRoles:
    """The scored rows by role, in the order of the table.

    Attributes
    ----------
    model
        What the verdict is about.
    masked
        The model with part of its input masked: no baselines, but what it has to beat to have used that part.
    baselines
        Baselines that the verdict counts.
    not_counted
        Baselines that are shown and not counted, and why.
    replicate
        One half of the data predicting the other; empty where there is none.
    truth
        The true values as a prediction: the ceiling; empty where they are not a row.
    """

    model: str
    masked: tuple[str, ...] = ()
    baselines: tuple[str, ...] = ()
    not_counted: Mapping[str, str] = field(default_factory=dict)
    replicate: tuple[str, ...] = ()
    truth: tuple[str, ...] = ()

    @classmethod
    def of_metrics(cls, metrics: RunMetrics) -> "RowRoles":
        """Read them back from metrics.json."""

        def named(wanted: Role) -> tuple[str, ...]:
            return tuple(name for name, role in metrics.roles.items() if role == wanted)

        return cls(
            metrics.model, named("masked"), named("baseline"), dict(metrics.not_counted), named(REPLICATE), named(TRUTH)
        )

    @property
    def names(self) -> tuple[str, ...]:
        """All rows, in the order of the table."""
        return tuple(self.by_name)

    @property
    def by_name(self) -> dict[str, Role]:
        """The role of every row."""
        named: dict[str, Role] = {self.model: "model"}
        named |= dict.fromkeys(self.masked, "masked")
        named |= dict.fromkeys(self.baselines, "baseline")
        named |= dict.fromkeys(self.not_counted, "not counted")
        return named | dict.fromkeys(self.truth, TRUTH) | dict.fromkeys(self.replicate, REPLICATE)

    def short(self, name: str) -> str:
        """Name of a masked row without that of the model: `enhancer only`."""
        return name.removeprefix(f"{self.model} (").removesuffix(")") if name in self.masked else name

    def among(self, names: Iterable[str]) -> "RowRoles":
        """Keep the rows of these names alone; the model stays."""
        kept = set(names)
        return RowRoles(
            self.model,
            tuple(name for name in self.masked if name in kept),
            tuple(name for name in self.baselines if name in kept),
            {name: why for name, why in self.not_counted.items() if name in kept},
            tuple(name for name in self.replicate if name in kept),
            tuple(name for name in self.truth if name in kept),
        )


def joined_roles(parts: Iterable[RowRoles]) -> RowRoles:
    """Join the roles of several runs: a baseline that is not counted in one of them is counted in none."""
    first, *others = list(parts)
    aside = {name: why for roles in reversed([first, *others]) for name, why in roles.not_counted.items()}
    baselines = tuple(name for name in first.baselines if name not in aside)
    return replace(first, baselines=baselines, not_counted=aside)
