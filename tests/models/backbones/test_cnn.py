"""Sequence backbones: scanners on both strands, words of the training elements, attention over both."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from pertexp.config.errors import RequestError
from pertexp.data.pairs.design import PairDesign, build_design
from pertexp.data.pairs.pairs import Elements
from pertexp.data.pairs.simulator import SimulatedPairs
from pertexp.data.pairs.splits import LineAndChromosome
from pertexp.data.pairs.tokens import TokenStore, decode, encode, reverse_complement
from pertexp.models.backbones.cnn import Cnn, Scanner
from pertexp.models.backbones.words import enriched_words

SMALL = SimulatedPairs(n_lines=4, n_pairs=300, n_enhancers=100, n_promoters=92)


def elements_of(sequences: list[str]) -> Elements:
    n = len(sequences)
    store = TokenStore.of(sequences, [str(i) for i in range(n)])
    nowhere = np.full(n, -1)
    return Elements(np.array([str(i) for i in range(n)]), store, np.full(n, ""), nowhere, nowhere)


def design(**options) -> PairDesign:
    return build_design(SMALL(), LineAndChromosome(**options), gap=250, support_size=8, support_seed=0)


def tokens(n: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 4, (n, length)).astype(np.uint8))


def test_the_word_that_was_planted_comes_first_whatever_its_strand() -> None:
    rng = np.random.default_rng(0)
    word = encode("ACGTTGCA"[:4] + "GGAT")
    sequences = []
    for number in range(60):
        bases = rng.integers(0, 4, 200).astype(np.uint8)
        if number % 2:
            bases[50:58] = word if number % 4 == 1 else reverse_complement(word)
        sequences.append(decode(bases))
    best = enriched_words(elements_of(sequences), np.arange(60), 8, 5)[0]
    assert decode(best) in {decode(word), decode(reverse_complement(word))}


def test_words_count_elements_and_not_repeats_within_one() -> None:
    sequences = ["ACGGTCAT" * 20, *(decode(np.random.default_rng(s).integers(0, 4, 160)) for s in range(40))]
    sequences[1:11] = [f"{sequence[:80]}TTGACCGA{sequence[88:]}" for sequence in sequences[1:11]]
    best = decode(enriched_words(elements_of(sequences), np.arange(41), 8, 1)[0])
    assert best in {"TTGACCGA", "TCGGTCAA"}


def test_no_word_holds_an_unknown_base_and_none_is_found_where_elements_are_too_short() -> None:
    words = enriched_words(elements_of(["ACGTNNNNACGTTGCATGCA", "NNNNNNNNNN"]), np.arange(2), 8, 20)
    assert len(words) > 0
    assert words.max() < 4
    assert enriched_words(elements_of(["ACG"]), np.arange(1), 8, 4).shape == (0, 8)


def test_simulated_motifs_are_found_on_training_elements() -> None:
    own = design()
    rows = own.index("train")
    words = enriched_words(own.pairs.elements, np.unique(own.pairs.enhancer[rows]), 8, 32)
    both = [motif + "N" + decode(reverse_complement(encode(motif))) for motif in own.pairs.truth.enhancer_motifs]
    found = [any(decode(word) in motif for word in words) for motif in both]
    assert all(found)


def test_words_see_no_element_that_is_not_trained_on() -> None:
    own = design()
    trained = np.zeros(len(own.pairs.elements), dtype=bool)
    rows = own.index("train")
    trained[own.pairs.enhancer[rows]] = trained[own.pairs.promoter[rows]] = True
    store = own.pairs.elements.store
    scrambled = store.tokens.copy()
    for number in np.flatnonzero(~trained):
        start, length = store.starts[number], store.lengths[number]
        scrambled[start : start + length] = 2
    changed = replace(own.pairs, elements=replace(own.pairs.elements, store=replace(store, tokens=scrambled)))
    torch.manual_seed(0)
    before = Cnn()(own).state_dict()
    torch.manual_seed(0)
    after = Cnn()(replace(own, pairs=changed)).state_dict()
    assert not np.array_equal(scrambled, store.tokens)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_scanner_started_from_a_word_tells_where_it_lies_on_either_strand() -> None:
    scanner = Scanner(1, 12)
    scanner.start_from_(encode("ACGGTCAT")[None])
    bases = np.random.default_rng(3).integers(0, 4, 60).astype(np.uint8)
    with_word, with_other = bases.copy(), bases.copy()
    with_word[20:28] = encode("ACGGTCAT")
    with_other[20:28] = reverse_complement(encode("ACGGTCAT"))
    plain, forward, backward = scanner(torch.from_numpy(np.stack([bases, with_word, with_other])))[:, 0]
    # 8 matches score 8 − 6.5 = 1.5, and σ(2 · 1.5) = 0.953
    assert forward[18].item() == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)
    assert backward[18].item() == pytest.approx(1 / (1 + np.exp(-3)), abs=1e-6)
    assert plain.max() < 0.75


def test_reading_the_other_strand_changes_no_match() -> None:
    torch.manual_seed(0)
    scanner = Scanner(5, 9).double()
    own = tokens(3, 50)
    other = torch.from_numpy(reverse_complement(own.numpy()).copy())
    torch.testing.assert_close(scanner(own), scanner(other).flip(-1), rtol=1e-12, atol=1e-12)


def test_scanners_agree_with_a_count_by_hand() -> None:
    torch.manual_seed(1)
    scanner = Scanner(3, 8).double()
    own = tokens(2, 20)
    weight, bias = scanner.weight.detach().numpy(), scanner.bias.detach().numpy()
    expected = np.empty((2, 3, 13))
    for row, filter_, place in np.ndindex(expected.shape):
        window = own[row, place : place + 8].numpy()
        strands = [sum(weight[filter_, base, i] for i, base in enumerate(w)) for w in (window, (3 - window)[::-1])]
        expected[row, filter_, place] = 1 / (1 + np.exp(-2 * (max(strands) + bias[filter_])))
    np.testing.assert_allclose(scanner(own).detach().numpy(), expected, rtol=1e-12)


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_a_pair_has_features_of_the_widths_that_are_promised(layers: int) -> None:
    backbone = Cnn(filters=6, layers=layers, width=8, heads=2, products=4)(None)
    features = backbone(tokens(3, 70), tokens(3, 90, seed=1))
    assert features.pair.shape == (3, backbone.width)
    assert features.middle.shape == (3, backbone.middle_width) == (3, 4 + 12)


def test_each_pair_is_read_by_itself() -> None:
    torch.manual_seed(0)
    backbone = Cnn(filters=6, width=8, heads=2)(None).double().eval()
    enhancer, promoter = tokens(5, 60), tokens(5, 80, seed=1)
    together = backbone(enhancer, promoter)
    alone = backbone(enhancer[2:3], promoter[2:3])
    torch.testing.assert_close(together.pair[2:3], alone.pair, rtol=1e-10, atol=1e-12)
    assert not torch.allclose(together.pair[2], together.pair[3])


@pytest.mark.parametrize("length", [1, 5, 12, 49, 51])
def test_elements_shorter_than_a_filter_or_a_token_are_read(length: int) -> None:
    features = Cnn(filters=6, width=8, heads=2)(None)(tokens(2, length), tokens(2, 60))
    assert features.pair.isfinite().all()


def test_unknown_bases_alone_are_read_and_say_nothing_of_the_rest() -> None:
    backbone = Cnn(filters=6, width=8, heads=2)(None).eval()
    nothing = torch.full((2, 40), 4, dtype=torch.uint8)
    features = backbone(nothing, tokens(2, 60))
    assert features.pair.isfinite().all()
    assert not torch.allclose(features.pair[0], features.pair[1])


def test_padding_with_unknown_bases_changes_no_intermediate_feature() -> None:
    torch.manual_seed(0)
    backbone = Cnn(filters=6, layers=0)(None).double().eval()
    enhancer, promoter = tokens(2, 60), tokens(2, 60, seed=1)
    long = torch.cat(
        [torch.full((2, 30), 4, dtype=torch.uint8), enhancer, torch.full((2, 30), 4, dtype=torch.uint8)], 1
    )
    scanned, padded = backbone.enhancer(enhancer).amax(-1), backbone.enhancer(long).amax(-1)
    assert (padded >= scanned - 1e-12).all()  # every match is still there; edges may add a partial one
    assert torch.isfinite(backbone(long, promoter).middle).all()


def test_a_width_that_heads_do_not_divide_is_refused() -> None:
    with pytest.raises(RequestError, match=r"model.backbone.width=10 is not divisible"):
        Cnn(width=10, heads=4)


@pytest.mark.parametrize("pool", [1, 7, 50, 1000])
def test_best_matches_and_their_gradients_are_those_of_pooling_every_place(pool: int) -> None:
    own = tokens(4, 60)
    own[0, 10:40] = 4
    grades = torch.randn(4, 5, -(-52 // min(pool, 52)), generator=torch.Generator().manual_seed(0)).double()
    results = []
    for way in ("best", "pooled"):
        torch.manual_seed(0)
        scanner = Scanner(5, 9).double()
        if way == "best":
            matches = scanner.best(own, pool)
        else:
            matches = torch.nn.functional.max_pool1d(scanner(own), min(pool, 52), ceil_mode=True)
        (matches * grades).sum().backward()
        results.append((matches.detach(), scanner.weight.grad, scanner.bias.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def test_best_matches_without_a_gradient_are_the_same() -> None:
    scanner = Scanner(5, 9)
    own = tokens(4, 60)
    with torch.no_grad():
        quick = scanner.best(own, 7)
    torch.testing.assert_close(quick, scanner.best(own, 7).detach(), rtol=1e-6, atol=1e-6)
