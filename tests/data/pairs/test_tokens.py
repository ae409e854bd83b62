"""Tokens: encoded once, windows equal to plain slicing, the other strand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pertexp.config.errors import DataError
from pertexp.data.pairs.tokens import TokenStore, decode, encode, reverse_complement

sequences = st.text(alphabet="ACGTN", min_size=1, max_size=40)
PARTNER = dict(zip("ACGTN", "TGCAN", strict=True))


def plain_window(sequence: str, length: int) -> str:
    """By slicing and padding text."""
    if len(sequence) >= length:
        start = (len(sequence) - length) // 2
        return sequence[start : start + length]
    left = -((len(sequence) - length) // 2)
    return ("N" * left + sequence).ljust(length, "N")


@given(sequences)
def test_tokens_are_the_letters_and_case_says_nothing(sequence):
    assert decode(encode(sequence)) == sequence
    assert np.array_equal(encode(sequence.lower()), encode(sequence))
    assert encode("ACGTN").tolist() == [0, 1, 2, 3, 4]


@given(sequences)
def test_the_other_strand_is_read_backwards(sequence):
    tokens = encode(sequence)
    assert decode(reverse_complement(tokens)) == "".join(PARTNER[letter] for letter in reversed(sequence))
    assert np.array_equal(reverse_complement(reverse_complement(tokens)), tokens)
    assert reverse_complement(tokens).dtype == np.uint8


@settings(max_examples=150, deadline=None)
@given(st.lists(sequences, min_size=1, max_size=6), st.integers(1, 30), st.data())
def test_windows_are_plain_slices_between_n(texts, length, data):
    store = TokenStore.of(texts, texts).spaced(-(-length // 2))
    chosen = np.array(data.draw(st.lists(st.integers(0, len(texts) - 1), min_size=1, max_size=5)))
    windows = store.windows(chosen, length)
    assert [decode(window) for window in windows] == [plain_window(texts[number], length) for number in chosen]
    windows[:] = 0  # a copy: the store is as it was
    assert [decode(store.element(number)) for number in range(len(texts))] == texts


def test_random_crops_lie_inside_and_reach_both_ends():
    text = "A" + "C" * 8 + "G"
    store = TokenStore.of([text, "ACG"], ["long", "short"]).spaced(3)
    rng = np.random.default_rng(0)
    long = {decode(window) for window in store.windows(np.zeros(200, dtype=int), 6, rng)}
    assert long == {text[start : start + 6] for start in range(5)}
    short = {decode(window) for window in store.windows(np.ones(20, dtype=int), 6, rng)}
    assert short == {plain_window("ACG", 6)}


def test_a_window_wider_than_the_gap_is_refused():
    with pytest.raises(ValueError, match="gap of 6"):
        TokenStore.of(["ACGT"], ["one"]).spaced(5).windows(np.array([0]), 12)


@pytest.mark.parametrize(
    ("text", "said"), [("ACXT", "'X' at place 3"), ("AC-T", "'-' at place 3"), ("ACRT", "'R'"), ("", "is empty")]
)
def test_bad_letters_and_empty_sequences_are_named(text, said):
    with pytest.raises(DataError, match=said) as fault:
        TokenStore.of(["ACGT", text], ["good", "E000002"])
    assert "E000002" in str(fault.value)
