"""The mutations that `make mutants` draws from, and the tests that it chooses for them."""

import json
from textwrap import dedent

import pytest

from benchmarks.mutants.choosing import _within, chosen, mirror
from benchmarks.mutants.coverage_map import CoverageMap
from benchmarks.mutants.places import Mutant, places
from benchmarks.mutants.sampling import modules, sample, shares


def written(folder, source):
    (folder / "module.py").write_text(dedent(source).lstrip())
    return folder


def changes(folder) -> list[str]:
    source = (folder / "module.py").read_text()
    found = [Mutant(place, way, source) for place in places(folder, "module.py") for way in place.ways]
    return sorted(mutant.difference.split("\n+ ")[-1] for mutant in found if mutant.differs)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("a + b", ["a * b", "a - b"]),
        ("a < b", ["a <= b", "a >= b"]),
        ("a * 0.5", ["a", "a + 0.5", "a / 0.5", "a * 1.5", "a *  -0.5", "a * 0.05"]),
        ("not a and b", ["not a or b", " a and b"]),
        ("-a if b else c", ["-a if not b else c", "a if b else c"]),
        ("f(a, *b, **c)", []),
        ("(x for x in a)", []),
    ],
)
def test_what_a_line_can_become(line, expected, tmp_path):
    found = changes(written(tmp_path, f"def f(a, b, c):\n    return {line}\n"))
    assert [one.replace(" ", "") for one in found] == sorted(f"return{one}".replace(" ", "") for one in expected)


def test_a_call_is_left_out_and_a_loop_has_no_turn(tmp_path):
    found = changes(written(tmp_path, "def f(a):\n    for b in a:\n        b.go()\n        a += b\n"))
    assert found == ["a -= b", "for b in []:", "pass"]


def test_types_messages_and_assertions_stay_as_they_are(tmp_path):
    folder = written(
        tmp_path,
        '''
        """Module of 1 + 1."""
        __all__ = ["f", "g"][:2]
        BLOCK = 2**10
        size = max(1, BLOCK // 3)
        pairs = zip(x, x, strict=True)
        Kind = int | None
        x: "list[int] | None" = None

        @decorated(1 + 1)
        def f(a: int | None, /, b: dict[str, int | float], *, c: tuple[int, ...]) -> int | None:
            """Return 1 + 1."""
            assert a > 1
            log.warning("%d of them", a + 1)
            first = [a][0] + 1
            raise ValueError(f"{a + 1} is not above {first}")

        def g(a):
            return f"{a + 1} of them"
        ''',
    )
    assert changes(folder) == []


def test_places_say_what_runs_them(tmp_path):
    folder = written(tmp_path, "LIMIT = 3\n\ndef f(a=1):\n    return (a\n        + LIMIT)\n\nclass C:\n    n = 2\n")
    found = {place.span[0]: (place.lines, place.scope, place.called) for place in places(folder, "module.py")}
    assert found[1, 8] == ((1, 1), None, False)
    assert found[3, 8] == ((3, 3), (3, 5), False)
    assert found[5, 8] == ((4, 5), (3, 5), True)
    assert found[8, 8] == ((8, 8), (7, 8), False)


@pytest.mark.parametrize(
    ("sizes", "n", "expected"),
    [
        ({"a": 60, "b": 30, "c": 10}, 10, {"a": 6, "b": 3, "c": 1}),
        ({"a": 98, "b": 1, "c": 1}, 10, {"a": 8, "b": 1, "c": 1}),
        ({"a": 2, "b": 2}, 10, {"a": 2, "b": 2}),
        ({"a": 5, "b": 3, "c": 1}, 2, {"a": 1, "b": 1, "c": 0}),
    ],
)
def test_shares_are_proportional_and_leave_no_module_out(sizes, n, expected):
    assert shares(sizes, n) == expected


def test_a_seed_draws_the_same_mutants_again(tmp_path):
    folder = written(tmp_path, "def f(a, b):\n    return [a + b, a * b, a - b, a / b, a < b, not a]\n")
    names = [[mutant.name for mutant in sample(folder, ["module.py"], 3, seed)] for seed in (1, 1, 2)]
    assert names[0] == names[1] != names[2]
    assert len(set(names[0])) == 3
    with pytest.raises(ValueError, match="nowhere is no module"):
        modules(folder, ["nowhere"])


def known(tests: dict[str, tuple[float, dict[str, list[int]]]], phase="run") -> CoverageMap:
    found = CoverageMap()
    found.add({name: seconds for name, (seconds, _) in tests.items()},
              json.loads(json.dumps({name: {phase: lines} for name, (_, lines) in tests.items()})))  # fmt: skip
    return found


def test_the_mirrored_file_comes_first_then_the_fastest(tmp_path):
    (tmp_path / "pertexp" / "nn").mkdir(parents=True)
    source = "def f(a):\n    return a + 1\n"
    (tmp_path / "pertexp" / "nn" / "graph.py").write_text(source)
    path = "pertexp/nn/graph.py"
    assert mirror(path) == "tests/nn/test_graph.py"
    place = places(tmp_path, path)[0]
    own, other = "tests/nn/test_graph.py", "tests/test_run.py"
    found = known(
        {f"{own}::slow": (3.0, {path: [2]}), f"{own}::quick": (1.0, {path: [2]}), f"{other}::b": (2.0, {path: [2]}),
         f"{other}::a": (0.5, {path: [2]}), f"{other}::elsewhere": (0.1, {path: [1]})}
    )  # fmt: skip
    expected = [[f"{own}::quick", f"{own}::slow"], [f"{other}::a", f"{other}::b"]]
    assert chosen(place, found, tmp_path, 90) == expected
    assert _within(expected[0], found, 2.0) == [f"{own}::quick"]
    shared = known({f"{other}::a": (0.5, {path: [2]}), f"{other}::b": (0.1, {})}, "setup")
    assert chosen(place, shared, tmp_path, 90) == [[f"{other}::a", f"{other}::b"]]  # a fixture may serve both
