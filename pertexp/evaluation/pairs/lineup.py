"""Who stands in the table of a model of pairs, and what each row is there for."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Role = Literal["model", "masked", "baseline", "not counted"]


@dataclass(frozen=True)
class Lineup:
    """The rows of the table by what they are for.

    Attributes
    ----------
    model
        What the verdict is about.
    masked
        The model with part of its input taken away: no rivals, but what it has to beat to have used that part.
    rivals
        Baselines that the verdict counts.
    not_counted
        Baselines that are shown and not counted, and why.
    """

    model: str
    masked: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    not_counted: Mapping[str, str] = field(default_factory=dict)

    @property
    def names(self) -> tuple[str, ...]:
        """All of them, in the order of the table."""
        return (self.model, *self.masked, *self.rivals, *self.not_counted)

    @property
    def roles(self) -> dict[str, Role]:
        """The role of every row."""
        named: dict[str, Role] = {self.model: "model"}
        named |= dict.fromkeys(self.masked, "masked")
        named |= dict.fromkeys(self.rivals, "baseline")
        return named | dict.fromkeys(self.not_counted, "not counted")

    def bare(self, name: str) -> str:
        """A masked row without the name of the model: `enhancer only`."""
        return name.removeprefix(f"{self.model} (").removesuffix(")") if name in self.masked else name

    def among(self, names: Iterable[str]) -> "Lineup":
        """Those of these names alone."""
        kept = set(names)
        return Lineup(
            self.model,
            tuple(name for name in self.masked if name in kept),
            tuple(name for name in self.rivals if name in kept),
            {name: why for name, why in self.not_counted.items() if name in kept},
        )

    def document(self) -> dict[str, Any]:
        """Plain values, as metrics.json keeps them."""
        return {"model": self.model, "roles": self.roles, "not_counted": dict(self.not_counted)}

    @classmethod
    def stored(cls, document: Mapping[str, Any]) -> "Lineup":
        """Back from metrics.json."""
        roles = document["roles"]
        masked, rivals = (
            tuple(name for name, role in roles.items() if role == wanted) for wanted in ("masked", "baseline")
        )
        return cls(document["model"], masked, rivals, document["not_counted"])
