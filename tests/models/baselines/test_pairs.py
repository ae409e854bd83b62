"""Baselines of pairs: planted truth, overlaps, and that nothing is learnt from pairs that are not trained on."""

from collections import Counter
from dataclasses import replace
from functools import partial
from itertools import product

import numpy as np
import pytest
from pair_data import bases, little_pairs
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pertexp.config.errors import RequestError
from pertexp.data.pairs.design import PairDesign, build_design
from pertexp.data.pairs.pairs import Pairs
from pertexp.data.pairs.splits import LineAndChromosome
from pertexp.data.pairs.tokens import TokenStore, decode
from pertexp.models.baselines.pairs import (
    Composition,
    Distance,
    ElementLength,
    GcCpg,
    KmerBoosting,
    KmerLogistic,
    PairBaseline,
    Prevalence,
    PromoterRate,
    folded,
    same_place,
    why_not_counted,
    word_frequencies,
)

BASELINES = {
    "prevalence": Prevalence,
    "distance": Distance,
    "promoter_rate": PromoterRate,
    "gc_cpg": GcCpg,
    "composition": partial(Composition, penalties=[1]),
    "composition, its penalty chosen": partial(Composition, penalties=[1, 1000]),
    "element_length": ElementLength,
    "kmer_logistic": partial(KmerLogistic, penalties=[1]),
    "kmer_logistic, its penalty chosen": partial(KmerLogistic, k=2, penalties=[1, 1000]),
    "kmer_boosting": KmerBoosting,
}
ON_EITHER_STRAND = ("composition", "kmer_logistic", "kmer_logistic, its penalty chosen")
PAIRING = str.maketrans("ACGT", "TGCA")


def with_coins(pairs: Pairs) -> Pairs:
    """The pairs with labels that are drawn: those of `little_pairs` are a grid, on which no sum of two effects fits."""
    return replace(pairs, label=np.random.default_rng(0).integers(0, 2, len(pairs)))


def designed(pairs=None, **options) -> PairDesign:
    pairs = with_coins(little_pairs(per=6, **options)) if pairs is None else pairs
    distance = np.abs(pairs.elements.start[pairs.promoter] - pairs.elements.end[pairs.enhancer]).astype(float)
    pairs = replace(pairs, distance=distance)
    return build_design(pairs, LineAndChromosome(), gap=40, support_size=2, support_seed=0)


def with_sequences(design: PairDesign, sequences: list[str]) -> PairDesign:
    elements = design.pairs.elements
    store = TokenStore.of(sequences, list(elements.names)).spaced(40)
    return replace(design, pairs=replace(design.pairs, elements=replace(elements, store=store)))


def with_regions(design: PairDesign, lengths: np.ndarray) -> PairDesign:
    """The same sequences, cut from regions of these lengths `[M]`."""
    elements = design.pairs.elements
    return replace(design, pairs=replace(design.pairs, elements=replace(elements, end=elements.start + lengths)))


def without_places(design: PairDesign) -> PairDesign:
    elements = design.pairs.elements
    nowhere = np.full(len(elements), -1)
    elements = replace(elements, start=nowhere, end=nowhere, chromosome=np.full(len(elements), ""))
    return replace(design, pairs=replace(design.pairs, elements=elements))


def with_labels(design: PairDesign, label: np.ndarray) -> PairDesign:
    return replace(design, pairs=replace(design.pairs, label=label.astype(np.int64)))


def sequences_of(design: PairDesign) -> list[str]:
    store = design.pairs.elements.store
    return [decode(store.element(number)) for number in range(len(store))]


@pytest.mark.parametrize("name", BASELINES)
def test_nothing_is_learnt_from_pairs_that_are_not_trained_on(name):
    design = designed()
    train = design.index("train")
    before = BASELINES[name]().fit(design).predict(design, train)
    other = np.setdiff1d(np.arange(len(design.pairs)), train)
    used = set(design.pairs.enhancer[train]) | set(design.pairs.promoter[train])
    label = design.pairs.label.copy()
    label[other] = 1 - label[other]
    scrambled = [
        text if number in used else text[::-1].replace("A", "G") for number, text in enumerate(sequences_of(design))
    ]
    moved = with_sequences(replace(design, pairs=replace(design.pairs, label=label)), scrambled)
    after = BASELINES[name]().fit(moved).predict(moved, train)
    assert (before == after).all()
    assert sequences_of(moved) != sequences_of(design)


@pytest.mark.parametrize("name", BASELINES)
def test_probabilities_of_any_number_of_pairs(name):
    design = designed()
    fitted: PairBaseline = BASELINES[name]().fit(design)
    for rows in (design.index("test"), design.index("test")[:1], design.index("test")[:0]):
        found = fitted.predict(design, rows)
        assert found.shape == rows.shape
        assert ((found >= 0) & (found <= 1)).all()


def test_prevalence_is_that_of_training():
    design = designed()
    assert (
        Prevalence().fit(design).predict(design, np.arange(3)).tolist()
        == [design.pairs.label[design.index("train")].mean()] * 3
    )


def test_distance_finds_that_positives_are_closer():
    design = designed()
    near = design.pairs.distance < np.median(design.pairs.distance)
    design = replace(design, pairs=replace(design.pairs, label=near.astype(np.int64)))
    found = Distance().fit(design).predict(design, np.arange(len(near)))
    assert found[near].min() > found[~near].max()


@pytest.mark.parametrize("known", [0.0, 0.5])
def test_unknown_distances_have_the_prevalence(known):
    design = designed()
    distance = design.pairs.distance.copy()
    distance[np.arange(distance.size) >= known * distance.size] = np.nan
    design = replace(design, pairs=replace(design.pairs, distance=distance))
    found = Distance().fit(design).predict(design, np.arange(distance.size))
    assert set(found[np.isnan(distance)]) == {design.pairs.label[design.index("train")].mean()}
    assert (len(set(found[np.isfinite(distance)])) > 1) == (known > 0)


def test_overlapping_promoters_of_other_lines_are_one_place():
    design = designed(shared=("chr11",))
    pairs = design.pairs
    rate = PromoterRate(prior=1.0).fit(design)
    test_line = int(pairs.line[design.index("test")][0])
    rows = np.flatnonzero((pairs.line == test_line) & (pairs.chromosome == "chr11"))
    train = design.index("train")
    share = pairs.label[train].mean()
    for row in rows[:5]:
        start = pairs.elements.start[pairs.promoter[row]]
        same = train[(pairs.chromosome[train] == "chr11") & (pairs.elements.start[pairs.promoter[train]] == start)]
        assert same.size > 1
        expected = (pairs.label[same].sum() + share) / (same.size + 1)
        assert rate.predict(design, rows[:5])[rows[:5].tolist().index(row)] == pytest.approx(expected, rel=1e-12)


def test_a_place_never_trained_on_has_the_prevalence():
    design = designed()
    found = PromoterRate().fit(design).predict(design, design.index("test"))
    assert found == pytest.approx(design.pairs.label[design.index("train")].mean(), rel=1e-12)


def test_places_chain_and_do_not_cross_chromosomes():
    elements = little_pairs(n_lines=1, chromosomes=("chr1", "chr2", "chr3"), per=2).elements
    among = np.arange(6)
    elements = replace(
        elements,
        chromosome=np.array(["1", "1", "1", "1", "2", "2"] + ["3"] * (len(elements) - 6)),
        start=np.concatenate([[0, 50, 90, 100, 0, 95], np.zeros(len(elements) - 6, dtype=np.int64)]),
        end=np.concatenate([[60, 91, 100, 200, 10, 99], np.ones(len(elements) - 6, dtype=np.int64)]),
    )
    place = same_place(elements, among)
    assert [place[i] == place[j] for i, j in ((0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (4, 5), (0, 4))] == [
        True, True, True, False, False, False, False,
    ]  # fmt: skip


def test_without_places_one_sequence_is_one_place():
    design = designed()
    elements = design.pairs.elements
    nowhere = replace(elements, start=np.full(len(elements), -1), end=np.full(len(elements), -1))
    texts = sequences_of(design)
    texts[1] = texts[0]
    store = TokenStore.of(texts, list(elements.names))
    assert same_place(replace(nowhere, store=store), np.arange(4)).tolist() == [0, 0, 2, 3]


def test_words_are_counted_as_in_the_text():
    design = with_sequences(designed(), ["ACGTNACG" * 3, *sequences_of(designed())[1:]])
    words = word_frequencies(design.pairs.elements, 2)
    text = "ACGTNACG" * 3
    known = [text[i : i + 2] for i in range(len(text) - 1) if "N" not in text[i : i + 2]]
    letters = "ACGT"
    for a in range(4):
        for b in range(4):
            assert words[0, 4 * a + b] == pytest.approx(known.count(letters[a] + letters[b]) / len(known))
    np.testing.assert_allclose(words.sum(axis=1), 1.0)


@pytest.mark.parametrize(("k", "left"), [(1, 2), (2, 10), (3, 32), (4, 136)])
def test_folded_words_do_not_know_the_strand(k, left):
    design = designed()
    other = with_sequences(design, [text.translate(PAIRING)[::-1] for text in sequences_of(design)])
    own, theirs = (folded(word_frequencies(one.pairs.elements, k), k) for one in (design, other))
    assert own.shape[1] == left
    np.testing.assert_allclose(own, theirs, atol=1e-15)
    np.testing.assert_allclose(own.sum(axis=1), 1.0)


def test_an_element_of_unknown_bases_has_no_words():
    design = with_sequences(designed(), ["NNNN", "A", *sequences_of(designed())[2:]])
    assert (word_frequencies(design.pairs.elements, 3)[:2] == 0).all()
    for baseline in (GcCpg(), Composition(), KmerLogistic()):
        assert np.isfinite(baseline.fit(design).predict(design, np.arange(len(design.pairs)))).all()


def test_composition_that_tells_the_label_is_found():
    design = designed()
    texts = sequences_of(design)
    one = design.pairs.label[np.unique(design.pairs.enhancer, return_index=True)[1]]
    label = np.zeros(len(design.pairs.elements), dtype=np.int64)
    label[np.unique(design.pairs.enhancer)] = one
    texts = [("ACGCGCGG" if label[i] else "ATTATAAC") * 5 + text[:10] for i, text in enumerate(texts)]
    design = with_sequences(replace(design, pairs=replace(design.pairs, label=label[design.pairs.enhancer])), texts)
    rows = design.index("test")
    truth = design.pairs.label[rows]
    for baseline in (GcCpg(), Composition(), KmerLogistic(), KmerBoosting()):
        found = baseline.fit(design).predict(design, rows)
        assert found[truth == 1].min() > found[truth == 0].max()


@pytest.mark.parametrize(("make", "said"), [
    (lambda: KmerBoosting(k=0), "k=0"), (lambda: KmerBoosting(k=7), "k=7"),
    (lambda: PromoterRate(prior=0.0), "prior=0"), (lambda: KmerLogistic(k=7), "k=7"),
    (lambda: KmerLogistic(penalties=[]), r"penalties=\[\]"),
    (lambda: Composition(penalties=[1, 0]), r"penalties=\[1, 0\]"),
])  # fmt: skip
def test_wrong_options_are_refused(make, said):
    with pytest.raises(RequestError, match=said):
        make()


def shares(text: str, k: int, words: list[str], canonical: bool) -> list[float]:
    """Share of every word among those of k known bases, read off the text."""
    found = [text[i : i + k] for i in range(len(text) - k + 1) if "N" not in text[i : i + k]]
    counts = Counter(min(word, word.translate(PAIRING)[::-1]) if canonical else word for word in found)
    return [counts[word] / len(found) for word in words]


def canonical(k: int) -> list[str]:
    every = ["".join(word) for word in product("ACGT", repeat=k)]
    return [word for word in every if word <= word.translate(PAIRING)[::-1]]


def counted_words(k: int):
    return lambda text: shares(text, k, canonical(k), canonical=True)


def counted_composition(text: str) -> list[float]:
    return [shares(text, 1, ["G"], False)[0] + shares(text, 1, ["C"], False)[0], *counted_words(2)(text)]


def counted_gc_cpg(text: str) -> list[float]:
    (c,), (g,), (cpg,) = (shares(text, len(word), [word], False) for word in ("C", "G", "CG"))
    return [c + g, cpg / (c * g)]


def by_hand(design: PairDesign, features: np.ndarray, penalty: float) -> np.ndarray:
    """Fit scikit-learn on features `[M, F]` of the elements, and predict all pairs."""
    pairs, train = design.pairs, design.index("train")
    both = np.hstack([features[pairs.enhancer], features[pairs.promoter]])
    model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=1000))
    return model.fit(both[train], pairs.label[train]).predict_proba(both)[:, 1]


@pytest.mark.parametrize(("baseline", "counted", "penalty"), [
    (KmerLogistic(k=3, penalties=[20]), counted_words(3), 20), (KmerLogistic(penalties=[1]), counted_words(4), 1),
    (Composition(penalties=[20]), counted_composition, 20), (GcCpg(), counted_gc_cpg, 1),
])  # fmt: skip
def test_words_read_off_the_text_predict_the_same(baseline, counted, penalty):
    design = designed()
    design = with_sequences(design, [text[:25] + "NN" + text[27:] for text in sequences_of(design)])
    found = baseline.fit(design).predict(design, np.arange(len(design.pairs)))
    features = np.array([counted(text) for text in sequences_of(design)])
    np.testing.assert_allclose(found, by_hand(design, features, penalty), atol=1e-4)
    assert np.ptp(found) > 0.1


@pytest.mark.parametrize("name", ON_EITHER_STRAND)
def test_the_strand_of_an_element_does_not_matter(name):
    design, rng = designed(), np.random.default_rng(0)
    turned = [
        text.translate(PAIRING)[::-1] if rng.random() < 0.5 else text for text in sequences_of(design)
    ]  # fmt: skip
    other = with_sequences(design, turned)
    rows = np.arange(len(design.pairs))
    own, theirs = (BASELINES[name]().fit(one).predict(one, rows) for one in (design, other))
    np.testing.assert_allclose(own, theirs, atol=1e-9)
    assert turned != sequences_of(design)


@pytest.mark.parametrize("name", [*ON_EITHER_STRAND, "element_length"])
def test_the_order_of_pairs_does_not_matter(name):
    pairs = with_coins(little_pairs(per=6))
    order = np.random.default_rng(0).permutation(len(pairs))
    regions = 60 + np.arange(len(pairs.elements)) % 17
    one, other = (with_regions(designed(each), regions) for each in (pairs, pairs.take(order)))
    own, theirs = (BASELINES[name]().fit(each).predict(each, np.arange(order.size)) for each in (one, other))
    np.testing.assert_allclose(theirs, own[order], atol=1e-4)
    assert np.ptp(own) > 1e-3


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("name", ["gc_cpg", "composition", "element_length", "kmer_logistic, its penalty chosen"])
def test_of_one_label_there_is_nothing_to_fit(name, label):
    design = with_labels(designed(), np.full(len(designed().pairs), label))
    assert set(BASELINES[name]().fit(design).predict(design, np.arange(5))) == {label}


PENALTIES = [0.1, 3, 100]


@pytest.mark.parametrize(("placed", "noise", "best"), [
    (True, 0.0, 0.1), (True, 3.0, 3), (True, 30.0, 100), (False, 0.0, 0.1), (False, 2.0, 3), (False, 30.0, 100),
])  # fmt: skip
def test_the_penalty_has_the_lowest_loss_on_held_out_chromosomes_or_promoters(placed, noise, best):
    design, rng = designed(little_pairs(per=6)), np.random.default_rng(0)
    score = np.array([text.count("A") + text.count("T") for text in sequences_of(design)])[design.pairs.enhancer]
    score = score + rng.normal(0, noise, score.size)
    design = with_labels(design, score > np.median(score))
    design = design if placed else without_places(design)
    pairs, train = design.pairs, design.index("train")
    words = np.array([counted_words(2)(text) for text in sequences_of(design)])
    features = np.hstack([words[pairs.enhancer], words[pairs.promoter]])[train]
    group = pairs.chromosome[train] if placed else pairs.promoter[train]
    folds = GroupKFold(min(5, len(set(group))))
    losses = []
    for penalty in PENALTIES:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=1 / penalty, max_iter=1000))
        held = cross_val_predict(model, features, pairs.label[train], groups=group, cv=folds, method="predict_proba")
        losses.append(log_loss(pairs.label[train], held))
    assert PENALTIES[int(np.argmin(losses))] == best
    found = KmerLogistic(k=2, penalties=PENALTIES).fit(design).predict(design, np.arange(len(pairs)))
    np.testing.assert_allclose(found, by_hand(design, words, best), atol=1e-4)


@pytest.mark.parametrize(("side", "placed"), [("enhancer", True), ("promoter", True), ("promoter", False)])
def test_elements_that_can_only_be_remembered_get_the_strongest_penalty(side, placed):
    design, rng = designed(), np.random.default_rng(1)
    of_element = rng.permutation(len(design.pairs.elements)) % 2
    design = with_labels(design, of_element[getattr(design.pairs, side)])
    design = design if placed else without_places(design)
    rows = np.arange(len(design.pairs))
    found = KmerLogistic(penalties=PENALTIES).fit(design).predict(design, rows)
    assert (found == KmerLogistic(penalties=[100]).fit(design).predict(design, rows)).all()


def test_where_no_training_pairs_can_be_held_out_the_strongest_penalty_is_taken():
    design = designed()
    first = design.pairs.chromosome[design.index("train")][0]
    one = replace(design.split, codes=np.where(
        (design.split.codes == 0) & (design.pairs.chromosome != first), 3, design.split.codes
    ))  # fmt: skip
    design = replace(design, split=one)
    assert len(set(design.pairs.chromosome[design.index("train")])) == 1
    rows = np.arange(len(design.pairs))
    found = KmerLogistic(k=2, penalties=[1, 50]).fit(design).predict(design, rows)
    assert (found == KmerLogistic(k=2, penalties=[50]).fit(design).predict(design, rows)).all()


def test_lengths_are_those_of_regions_and_not_of_what_was_cut_from_them():
    design = designed()
    lengths = np.random.default_rng(0).integers(100, 2000, len(design.pairs.elements))
    design = with_regions(design, lengths)
    longer = lengths[design.pairs.enhancer] > lengths[design.pairs.promoter]
    design = with_labels(design, longer)
    found = ElementLength().fit(design).predict(design, np.arange(longer.size))
    np.testing.assert_allclose(found, by_hand(design, np.log(lengths)[:, None], 1), atol=1e-6)
    assert found[longer].mean() - found[~longer].mean() > 0.6
    assert why_not_counted(ElementLength(), design) is None


def test_without_places_lengths_are_those_of_sequences():
    design = designed()
    lengths = np.random.default_rng(0).integers(20, 200, len(design.pairs.elements))
    texts = [bases(int(length), number) for number, length in enumerate(lengths)]
    placed = with_regions(with_sequences(design, texts), np.full(lengths.size, 60))
    design = without_places(placed)
    found = ElementLength().fit(design).predict(design, np.arange(len(design.pairs)))
    np.testing.assert_allclose(found, by_hand(design, np.log(lengths)[:, None], 1), atol=1e-6)
    assert why_not_counted(ElementLength(), design) is None
    assert why_not_counted(ElementLength(), placed) is not None


def test_nothing_is_learnt_from_lengths_of_other_pairs():
    design = designed()
    train = design.index("train")
    used = np.zeros(len(design.pairs.elements), dtype=bool)
    used[design.pairs.enhancer[train]] = used[design.pairs.promoter[train]] = True
    lengths = np.random.default_rng(0).integers(100, 2000, used.size)
    one, other = with_regions(design, lengths), with_regions(design, np.where(used, lengths, 5))
    before, after = (ElementLength().fit(each).predict(each, train) for each in (one, other))
    assert (before == after).all()
    assert np.ptp(before) > 0


@pytest.mark.parametrize("side", ["enhancer", "promoter"])
def test_equal_lengths_say_the_prevalence_and_are_not_counted(side):
    design = designed()
    promoters = np.isin(np.arange(len(design.pairs.elements)), design.pairs.promoter)
    design = with_regions(design, np.where(promoters, 2000, 700))
    assert why_not_counted(ElementLength(), design) == (
        "every enhancer has 700 bases and every promoter 2000 in the training pairs, so it says the prevalence"
    )
    share = design.pairs.label[design.index("train")].mean()
    assert set(ElementLength().fit(design).predict(design, np.arange(5))) == {share}
    lengths = np.where(promoters, 2000, 700)
    lengths[getattr(design.pairs, side)[design.index("train")[0]]] += 1
    assert why_not_counted(ElementLength(), with_regions(design, lengths)) is None
