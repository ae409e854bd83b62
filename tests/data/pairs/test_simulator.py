"""Simulated pairs: the planted is in the sequences, gates show in unlabelled ones, and the ceiling is a ceiling."""

from dataclasses import replace

import numpy as np
import pytest

from pertexp.config.errors import RequestError
from pertexp.data.pairs.simulator import GATES, SimulatedPairs, bayes_ceiling
from pertexp.data.pairs.splits import LineAndChromosome
from pertexp.data.pairs.tokens import decode, encode, reverse_complement

CONFIG = SimulatedPairs()


@pytest.fixture(scope="module")
def pairs():
    return CONFIG()


@pytest.fixture(scope="module")
def null():
    return replace(CONFIG, null_version=True)()


def held(pairs, elements, motifs):
    """Which words, on either strand, stand in these elements: by looking, nothing planted is used but the words."""
    texts = [decode(pairs.elements.store.element(number)) for number in elements]
    both = [(word, decode(reverse_complement(encode(word)))) for word in motifs]
    return np.array([[one in text or other in text for one, other in both] for text in texts], dtype=float)


def auroc(label, score):
    """By counting pairs of a positive and a negative."""
    order = np.sort(score[label == 0])
    positive = score[label == 1]
    below = np.searchsorted(order, positive, "left") + np.searchsorted(order, positive, "right")
    return float(below.mean() / 2 / order.size)


def products(pairs):
    """E ⊗ P of each pair, by looking."""
    truth = pairs.truth
    enhancer = held(pairs, pairs.enhancer, truth.enhancer_motifs)
    promoter = held(pairs, pairs.promoter, truth.promoter_motifs)
    return enhancer, promoter


def enrichment(pairs, number, count, seed=0):
    """Motif frequency among some enhancers of a line; no label is used."""
    own = np.unique(pairs.enhancer[pairs.line == number])
    drawn = np.random.default_rng(seed).choice(own, min(count, own.size), replace=False)
    return held(pairs, drawn, pairs.truth.enhancer_motifs).mean(axis=0)


def test_equal_fields_and_seed_give_equal_pairs(pairs):
    again = CONFIG()
    assert np.array_equal(again.label, pairs.label)
    assert np.array_equal(again.elements.store.tokens, pairs.elements.store.tokens)
    assert not np.array_equal(replace(CONFIG, seed=1)().label, pairs.label)


def test_the_truth_is_what_the_sequences_hold(pairs):
    enhancer, promoter = products(pairs)
    truth = pairs.truth
    logit = CONFIG.effect * np.einsum("na,ab,nb->n", enhancer * truth.gate[pairs.line], truth.grammar, promoter)
    assert (np.abs(logit - truth.logit) < 1e-9).mean() > 0.98  # a word may stand somewhere by chance
    assert set(np.unique(truth.gate)) == {*GATES, 1.0}
    assert not truth.grammar.sum(axis=0).any()
    assert not truth.grammar.sum(axis=1).any()


def test_short_motifs_differ_in_four_letters_on_either_strand():
    truth = SimulatedPairs(n_motifs=12, motif_length=8)().truth
    words = [encode(word) for word in (*truth.enhancer_motifs, *truth.promoter_motifs)]
    assert len(words) == 24
    for number, word in enumerate(words):
        others = words[:number] + words[number + 1 :]
        strands = [reverse_complement(word), *others, *(reverse_complement(other) for other in others)]
        assert min((word != other).sum() for other in strands) >= 4


def test_gates_are_recovered_from_the_enrichment_of_unlabelled_sequences(pairs):
    """A line fitted on some lines' enrichment tells the gates of others; flips are told from the rest."""
    found = np.stack([enrichment(pairs, number, 230) for number in range(len(pairs.lines))])
    gate = pairs.truth.gate
    slope, start = np.polyfit(found[:5].ravel(), gate[:5].ravel(), 1)
    assert np.corrcoef(slope * found[5:].ravel() + start, gate[5:].ravel())[0, 1] > 0.95
    assert found[gate < 0].max() < found[gate > 0].min()
    few = np.stack([enrichment(pairs, number, 32) for number in range(len(pairs.lines))])  # a support set
    assert np.corrcoef(few.ravel(), gate.ravel())[0, 1] > 0.8


def test_what_enrichment_tells_is_worth_a_lot_on_an_unseen_line(pairs):
    enhancer, promoter = products(pairs)
    grammar = pairs.truth.grammar
    plain = np.einsum("na,ab,nb->n", enhancer, grammar, promoter)
    found = np.stack([enrichment(pairs, number, 230) for number in range(len(pairs.lines))])
    slope, start = np.polyfit(found[:5].ravel(), pairs.truth.gate[:5].ravel(), 1)
    told = np.einsum("na,ab,nb->n", enhancer * (slope * found + start)[pairs.line], grammar, promoter)
    unseen = pairs.line >= 5
    label = pairs.label[unseen]
    ceiling = pairs.truth.ceiling(unseen)["auroc"]
    assert auroc(label, plain[unseen]) < ceiling - 0.1
    assert auroc(label, told[unseen]) > ceiling - 0.03


def test_neither_element_alone_tells_the_label_of_an_unseen_line(pairs):
    for side, motifs in ((pairs.enhancer, pairs.truth.enhancer_motifs), (pairs.promoter, pairs.truth.promoter_motifs)):
        marks = np.column_stack([held(pairs, side, motifs), np.ones(len(pairs))])
        seen = pairs.line < 7
        weights = np.linalg.lstsq(marks[seen], pairs.label[seen].astype(float), rcond=None)[0]
        assert abs(auroc(pairs.label[~seen], marks[~seen] @ weights) - 0.5) < 0.06


def test_the_ceiling_is_what_the_true_probabilities_score_and_nothing_beats_it(pairs):
    truth = pairs.truth
    ceiling = truth.ceiling()
    assert 0.8 < ceiling["auroc"] < 0.95
    drawn = np.random.default_rng(0).random((20, len(pairs))) < truth.expected
    scored = [auroc(label.astype(int), truth.expected) for label in drawn]
    assert abs(np.mean(scored) - ceiling["auroc"]) < 0.003
    assert abs(auroc(pairs.label, truth.expected) - ceiling["auroc"]) < 0.015
    assert ceiling["prevalence"] == pytest.approx(pairs.label.mean(), abs=0.02)


def test_the_ceiling_by_its_definition():
    p = np.array([0.1, 0.7, 0.7, 0.4])
    wins = [p[i] * (1 - p[j]) * ((p[i] > p[j]) + 0.5 * (p[i] == p[j])) for i in range(4) for j in range(4) if i != j]
    chances = [p[i] * (1 - p[j]) for i in range(4) for j in range(4) if i != j]
    found = bayes_ceiling(p)
    assert found["auroc"] == pytest.approx(sum(wins) / sum(chances))
    assert found["auprc"] == pytest.approx((1.4 * 0.7 + 0.4 * 1.8 / 3 + 0.1 * 1.9 / 4) / 1.9)
    assert bayes_ceiling(np.array([0.0, 1.0, 1.0]))["auroc"] == 1.0
    assert bayes_ceiling(np.full(50, 0.3))["auprc"] == pytest.approx(0.3)


def test_the_ceiling_of_few_pairs_and_of_labels_that_are_certain():
    found = bayes_ceiling(np.array([0.3, 0.1]))
    assert found == pytest.approx({"auroc": 0.27 / 0.34, "auprc": (0.3 * 0.3 + 0.1 * 0.2) / 0.4, "prevalence": 0.2})
    none, all_ = bayes_ceiling(np.zeros(3)), bayes_ceiling(np.ones(3))
    np.testing.assert_array_equal(list(none.values()), [np.nan, np.nan, 0.0])
    np.testing.assert_array_equal(list(all_.values()), [np.nan, 1.0, 1.0])


def test_the_null_has_nothing_to_find(null):
    truth = null.truth
    assert (truth.gate == 1).all()
    assert set(truth.probability) == {0.5}
    assert truth.ceiling()["auroc"] == pytest.approx(0.5)
    enhancer, promoter = products(null)
    marks = np.einsum("na,nb->nab", enhancer, promoter).reshape(len(null), -1)
    marks = np.column_stack([marks, enhancer, promoter, np.ones(len(null))])
    seen = null.line < 7
    weights = np.linalg.lstsq(marks[seen], null.label[seen].astype(float), rcond=None)[0]
    assert abs(auroc(null.label[~seen], marks[~seen] @ weights) - 0.5) < 0.03
    found = np.stack([enrichment(null, number, 230) for number in range(len(null.lines))])
    assert found.std(axis=0).max() < 0.06  # no line is enriched for anything


def counts_of_kmers(pairs, elements, k=4):
    """Counts of k-mers of each element, both strands."""
    distinct, place = np.unique(elements, return_inverse=True)
    table = np.zeros((distinct.size, 4**k), dtype=np.float32)
    for row, number in enumerate(distinct):
        own = pairs.elements.store.element(number).astype(np.int64)
        for tokens in (own, reverse_complement(own.astype(np.uint8)).astype(np.int64)):
            words = sum(tokens[at : tokens.size - k + 1 + at] * 4 ** (k - 1 - at) for at in range(k))
            table[row] += np.bincount(words, minlength=4**k)
    return table[place]


@pytest.mark.medium
def test_a_kmer_model_stays_far_below_the_ceiling(pairs):
    boosting = pytest.importorskip("sklearn.ensemble").HistGradientBoostingClassifier(max_iter=60, random_state=0)
    features = np.hstack([counts_of_kmers(pairs, side) for side in (pairs.enhancer, pairs.promoter)])
    role = LineAndChromosome()(pairs).role(0)
    test = (pairs.line == 0) & (role != "train")  # an unseen line, all of it, so that chance is small
    boosting.fit(features[role == "train"], pairs.label[role == "train"])
    score = boosting.predict_proba(features[test])[:, 1]
    assert auroc(pairs.label[test], score) < pairs.truth.ceiling(test)["auroc"] - 0.15


def test_a_leak_is_remembered_and_not_predicted():
    leaky = replace(CONFIG, leak=2.0, effect=0.0)()
    truth = leaky.truth
    assert np.allclose(truth.expected, 0.5)
    assert auroc(leaky.label, truth.probability) > 0.75
    first = np.random.default_rng(0).random(len(leaky)) < 0.5
    rate = np.bincount(leaky.promoter[first], leaky.label[first], len(leaky.elements))
    met = np.bincount(leaky.promoter[first], minlength=len(leaky.elements))
    lookup = (rate + 0.5) / (met + 1)
    assert auroc(leaky.label[~first], lookup[leaky.promoter[~first]]) > 0.65


def test_noise_lowers_the_ceiling():
    ceilings = [replace(CONFIG, noise=noise, n_lines=2)().truth.ceiling()["auroc"] for noise in (0.0, 0.3, 1.0)]
    assert ceilings[0] > ceilings[1] + 0.05
    assert ceilings[2] == pytest.approx(0.5)


def test_distances_are_the_bases_between_two_elements(pairs):
    of = pairs.elements
    first = [np.minimum(side[pairs.enhancer], side[pairs.promoter]) for side in (of.start, of.end)]
    second = [np.maximum(side[pairs.enhancer], side[pairs.promoter]) for side in (of.start, of.end)]
    np.testing.assert_array_equal(pairs.distance, second[0] - first[1])  # no two elements overlap
    assert pairs.distance.min() > 0
    assert (of.start[pairs.enhancer] < of.start[pairs.promoter]).any()
    assert (of.start[pairs.enhancer] > of.start[pairs.promoter]).any()


def test_distances_do_not_tell_the_label(pairs):
    assert abs(auroc(pairs.label, pairs.distance) - 0.5) < 0.02
    assert abs(auroc(pairs.label, pairs.elements.store.lengths[pairs.enhancer].astype(float)) - 0.5) < 0.02


def test_some_pairs_keep_their_truth(pairs):
    some = pairs.take(pairs.line >= 7)
    assert some.lines == pairs.lines[7:]
    assert np.array_equal(some.truth.gate, pairs.truth.gate[7:])
    assert np.array_equal(some.truth.logit, pairs.truth.logit[pairs.line >= 7])
    assert np.array_equal(
        some.elements.store.element(some.promoter[5]),
        pairs.elements.store.element(pairs.promoter[np.flatnonzero(pairs.line >= 7)[5]]),
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"n_motifs": 5}, "an even number"),
        ({"noise": 1.5}, "0 to 1"),
        ({"enhancer_length": (50, 400)}, "which hold all motifs"),
        ({"n_pairs": 10**6}, "at most 1610"),
        ({"effect": -1e-9}, "effect=.* 0 or more"),
        ({"leak": -1e-9}, "leak=.* 0 or more"),
        ({"gated_share": -1e-9}, "gated_share=.* 0 to 1"),
        ({"gated_share": 1 + 1e-9}, "gated_share=.* 0 to 1"),
        ({"noise": -1e-9}, "noise=.* 0 to 1"),
        ({"enrichment": -1e-9}, "enrichment=.* 0 to 0.35"),
        ({"enrichment": 0.35 + 1e-9}, "enrichment=.* 0 to 0.35"),
        ({"n_motifs": 0}, "an even number from 2"),
        ({"motif_length": 7}, "8 to 20"),
        ({"motif_length": 21}, "8 to 20"),
        ({"enhancer_length": (59, 400)}, "ascending lengths from 60"),
        ({"promoter_length": (300, 299)}, "promoter_length=.* ascending lengths from 60"),
        ({"n_pairs": 1611}, "at most 1610"),
        *(({name: 0}, f"{name}=0 .* 1 or more") for name in ("n_lines", "n_pairs", "n_enhancers", "n_promoters")),
    ],
)
def test_fields_out_of_range(options, said):
    with pytest.raises(RequestError, match=said):
        SimulatedPairs(**options)


def test_fields_at_the_ends_of_their_ranges():
    least = {"n_lines": 1, "n_pairs": 1, "n_enhancers": 1, "n_promoters": 1, "n_motifs": 2, "motif_length": 8}
    low = {"effect": 0.0, "leak": 0.0, "gated_share": 0.0, "noise": 0.0, "enrichment": 0.0}
    short = {"enhancer_length": (16, 16), "promoter_length": (16, 16)}
    assert len(SimulatedPairs(**least, **low, **short)()) == 1
    SimulatedPairs(n_pairs=1610, gated_share=1.0, noise=1.0, enrichment=0.35, motif_length=20, n_motifs=10)


def weighted(values):
    """One number that every entry and its place enter."""
    flat = np.asarray(values, dtype=np.float64).ravel()
    return float(flat @ np.cos(np.arange(flat.size)))


# Of this simulator itself: a change of what is drawn changes every number in README and docs.
FROZEN = {
    "label": 12.270341992006935, "tokens": 150.18351055759044, "start": 4161712.1868159357,
    "enhancer": 393.182877292014, "promoter": 957.7837521873206, "grammar": 0.04034367186640164,
    "gate": -3.4080194805493593, "frequency": -0.4375732419278712, "logit": -9.567426951856579,
    "expected": 1.629055005887544, "probability": 0.13030222802321167,
}  # fmt: skip


def test_a_seed_draws_what_it_always_drew():
    drawn = SimulatedPairs(n_enhancers=80, n_promoters=60, n_pairs=100, leak=0.5)()
    own = {name: getattr(drawn, name) for name in ("label", "enhancer", "promoter")}
    own |= {"tokens": drawn.elements.store.tokens, "start": drawn.elements.start}
    own |= {name: getattr(drawn.truth, name) for name in FROZEN.keys() - own.keys()}
    assert {name: weighted(values) for name, values in own.items()} == pytest.approx(FROZEN, rel=1e-9)
