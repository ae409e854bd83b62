"""The sentences of a verdict, and in one word what each says."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pertexp.report.tables import FIRST_FAMILY, family_of

_SAYS = (
    ("too few to decide", "undecided"),
    (" does not beat ", "even"),
    (" is worse than ", "worse"),
    (" beats ", "better"),
)
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
        As the run wrote it.
    says
        `better`, `even`, `worse`, `undecided`, or `other` where it is none of these.
    family
        Family of the metric that it is about.
    """

    text: str
    says: str
    family: str

    @property
    def word(self) -> str:
        """What it says, short."""
        return WORDS[self.says]


@dataclass(frozen=True)
class Verdict:
    """The first sentence, those about the same family, and those about further families."""

    lead: Sentence | None
    beside: list[Sentence]
    further: dict[str, list[Sentence]]

    def tally(self, family: str) -> str:
        """How many sentences of a further family say what."""
        said = [sentence.says for sentence in self.further[family]]
        short = {"better": "better", "even": "even", "worse": "worse", "undecided": "undecided"}
        return ", ".join(f"{said.count(key)} {word}" for key, word in short.items() if key in said)


def verdict_of(lines: Iterable[str]) -> Verdict:
    """Sort the sentences of metrics.json; the first is about the primary metric."""
    said = [_sentence(line) for line in lines]
    if not said:
        return Verdict(None, [], {})
    further: dict[str, list[Sentence]] = {}
    for sentence in said[1:]:
        if sentence.family != said[0].family:
            further.setdefault(sentence.family, []).append(sentence)
    return Verdict(said[0], [sentence for sentence in said[1:] if sentence.family == said[0].family], further)


def _sentence(line: str) -> Sentence:
    says = next((key for words, key in _SAYS if words in line), "other")
    metric = re.search(r" on (\S+?)(?::| \(not to be trusted)", line)
    return Sentence(line, says, family_of(metric[1]) if metric else _first_word_family(line.split()))


def _first_word_family(words: Sequence[str]) -> str:
    """`<metric> is not applicable here` names its metric first."""
    return family_of(words[0]) if words and "not applicable" in " ".join(words) else FIRST_FAMILY
