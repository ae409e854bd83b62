"""The verdict of a page: sentences, each with its outcome and the family of its metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pertexp.report.sentences import no_baseline, sentence
from pertexp.report.tables import FIRST_FAMILY, family_of
from pertexp.runs.schema import Comparison

# The style of an outcome, as style.css has it.
STYLES = {
    "better": "better",
    "worse": "worse",
    "not different": "even",
    "too few units": "undecided",
    "mostly undefined": "undecided",
}
WORDS = {
    "better": "beats the best baseline",
    "even": "cannot be told apart from the best baseline",
    "worse": "is worse than the best baseline",
    "undecided": "too few units to decide",
    "other": "",
}


@dataclass(frozen=True)
class Sentence:
    """One sentence of a verdict.

    Attributes
    ----------
    text
        In words.
    says
        `better`, `even`, `worse`, `undecided`, or `other` where it is none of these.
    family
        Family of the metric that it is about.
    """

    text: str
    says: str = "other"
    family: str = FIRST_FAMILY

    @property
    def word(self) -> str:
        """What it says, short."""
        return WORDS[self.says]


@dataclass(frozen=True)
class Verdict:
    """The first sentence, those about the same family, and those about further families."""

    lead: Sentence
    same_family: list[Sentence]
    further: dict[str, list[Sentence]]

    def tally(self, family: str) -> str:
        """Return how many sentences of a further family say what."""
        said = [sentence.says for sentence in self.further[family]]
        return ", ".join(f"{said.count(key)} {key}" for key in WORDS if key != "other" and key in said)


def verdict_of(model: str, found: Sequence[Comparison], not_counted: Mapping[str, str]) -> Verdict:
    """Sort comparisons, the primary metric first, by the families of their metrics."""
    said = [Sentence(sentence(one), STYLES.get(one.outcome, "other"), family_of(one.metric)) for one in found]
    if not any(one.basis == "best baseline" for one in found):
        said.insert(0, Sentence(no_baseline(model)))
    lead, *others = said
    same_family = [one for one in others if one.family == lead.family]
    same_family += [Sentence(f"{name} is shown and not counted: {why}.") for name, why in not_counted.items()]
    further: dict[str, list[Sentence]] = {}
    for one in others:
        if one.family != lead.family:
            further.setdefault(one.family, []).append(one)
    return Verdict(lead, same_family, further)
