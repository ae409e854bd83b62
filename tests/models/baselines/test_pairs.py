"""Baselines of pairs: planted truth, overlaps, and that nothing is learnt from pairs that are not trained on."""

from dataclasses import replace

import numpy as np
import pytest
from pair_data import little_pairs

from pertexp.config.errors import RequestError
from pertexp.data.pairs.design import PairDesign, build_design
from pertexp.data.pairs.splits import LineAndChromosome
from pertexp.data.pairs.tokens import TokenStore, decode
from pertexp.models.baselines.pairs import (
    Distance,
    GcCpg,
    KmerBoosting,
    PairBaseline,
    Prevalence,
    PromoterRate,
    folded,
    same_place,
    word_frequencies,
)

BASELINES = {
    "prevalence": Prevalence,
    "distance": Distance,
    "promoter_rate": PromoterRate,
    "gc_cpg": GcCpg,
    "kmer_boosting": KmerBoosting,
}


def designed(pairs=None, **options) -> PairDesign:
    pairs = little_pairs(per=6, **options) if pairs is None else pairs
    distance = np.abs(pairs.elements.start[pairs.promoter] - pairs.elements.end[pairs.enhancer]).astype(float)
    pairs = replace(pairs, distance=distance)
    return build_design(pairs, LineAndChromosome(), gap=40, support_size=2, support_seed=0)


def with_sequences(design: PairDesign, sequences: list[str]) -> PairDesign:
    elements = design.pairs.elements
    store = TokenStore.of(sequences, list(elements.names)).spaced(40)
    return replace(design, pairs=replace(design.pairs, elements=replace(elements, store=store)))


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
    pairing = str.maketrans("ACGT", "TGCA")
    other = with_sequences(design, [text.translate(pairing)[::-1] for text in sequences_of(design)])
    own, theirs = (folded(word_frequencies(one.pairs.elements, k), k) for one in (design, other))
    assert own.shape[1] == left
    np.testing.assert_allclose(own, theirs, atol=1e-15)
    np.testing.assert_allclose(own.sum(axis=1), 1.0)


def test_an_element_of_unknown_bases_has_no_words():
    design = with_sequences(designed(), ["NNNN", "A", *sequences_of(designed())[2:]])
    assert (word_frequencies(design.pairs.elements, 3)[:2] == 0).all()
    assert np.isfinite(GcCpg().fit(design).predict(design, np.arange(len(design.pairs)))).all()


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
    for baseline in (GcCpg(), KmerBoosting()):
        found = baseline.fit(design).predict(design, rows)
        assert found[truth == 1].min() > found[truth == 0].max()


@pytest.mark.parametrize(("make", "said"), [
    (lambda: KmerBoosting(k=0), "k=0"), (lambda: KmerBoosting(k=7), "k=7"),
    (lambda: PromoterRate(prior=0.0), "prior=0"),
])  # fmt: skip
def test_wrong_options_are_refused(make, said):
    with pytest.raises(RequestError, match=said):
        make()
