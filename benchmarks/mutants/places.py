"""Which places of a module can be mutated, and the module with one of them mutated."""

import ast
import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code

from benchmarks.mutants.operators import OPERATORS, Node, Span

COMPOUND = ("if_stmt", "for_stmt", "while_stmt", "with_stmt", "try_stmt", "funcdef", "classdef")
FUNCTIONS = ("funcdef", "lambdef")
SILENT = ("logger.", "log.", "warnings.warn", "print(", "cast(", "TypeVar(", "NewType(", "super().__init__()")
# How much is computed at once changes no result.
UNSEEN = ("__all__", "BLOCK", "_BLOCK", "_CHUNK", "ROWS_AT_ONCE", "SETS_AT_ONCE")
ASSERTING = ("strict",)  # arguments that only refuse what cannot occur, as an assertion does


@dataclass(frozen=True)
class Way:
    """One way of changing a place: an operator, and which of its places in the module this is."""

    operator: str
    occurrence: int


@dataclass(frozen=True)
class Place:
    """A spot of a module, and the ways of changing it.

    Attributes
    ----------
    path
        Of the module, relative to the repository.
    span
        Where it begins and ends.
    lines
        First and last line of the statement that it is in, of a compound statement the header alone.
    scope
        First and last line of the smallest function or class around it; None at the level of the module.
    called
        Whether it runs when a function is called, not when the module is imported.
    """

    path: str
    span: Span
    lines: tuple[int, int]
    scope: tuple[int, int] | None
    called: bool
    ways: tuple[Way, ...]


@dataclass(frozen=True)
class Mutant:
    """A module with one spot changed."""

    place: Place
    way: Way
    source: str

    @cached_property
    def code(self) -> str:
        """The whole module."""
        way = self.way
        code: str = mutate_code(self.source, OPERATORS[way.operator], way.occurrence)
        return code

    @property
    def differs(self) -> bool:
        """Whether it is valid and another program."""
        try:
            return ast.dump(ast.parse(self.code)) != ast.dump(ast.parse(self.source))
        except SyntaxError:
            return False

    @property
    def difference(self) -> str:
        """The lines that changed, before and after."""
        lines = difflib.unified_diff(self.source.splitlines(), self.code.splitlines(), lineterm="", n=0)
        changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        return "\n".join(f"{line[0]} {line[1:].strip()}" for line in changed)

    @property
    def name(self) -> str:
        """Where and what."""
        return f"{self.place.path}:{self.place.span[0][0]} {self.way.operator}"


def places(root: Path, path: str) -> list[Place]:
    """List all places of a module that may be mutated, in their order."""
    tree = get_ast((root / path).read_text())
    found: dict[Span, list[Way]] = {}
    for name, occurrence, span in _positions(tree):
        if _matters(tree.get_leaf_for_position(span[0]), name):
            found.setdefault(span, []).append(Way(name, occurrence))
    return [_place(tree, path, span, ways) for span, ways in sorted(found.items())]


def _positions(tree: Node) -> Iterator[tuple[str, int, Span]]:
    nodes = list(ast_nodes(tree))
    for name, operator in OPERATORS.items():
        spans = (span for node in nodes for span in operator.mutation_positions(node))
        for occurrence, span in enumerate(spans):
            yield name, occurrence, span


def _place(tree: Node, path: str, span: Span, ways: list[Way]) -> Place:
    leaf = tree.get_leaf_for_position(span[0])
    around = list(_around(leaf))
    scope = next((node for node in around if node.type in ("funcdef", "classdef")), None)
    statement = next(node for node in around if node.type in ("simple_stmt", *COMPOUND, "file_input"))
    last = span[1][0] if statement.type in COMPOUND else statement.get_last_leaf().start_pos[0]
    return Place(
        path,
        span,
        (statement.start_pos[0], last),
        (scope.start_pos[0], scope.get_last_leaf().start_pos[0]) if scope is not None else None,
        any(_in_body(leaf, node) for node in around if node.type in FUNCTIONS),
        tuple(ways),
    )


def _around(node: Node) -> Iterator[Node]:
    while (node := node.parent) is not None:
        yield node


def _in_body(leaf: Node, function: Node) -> bool:
    return bool(function.children[-1].start_pos <= leaf.start_pos < function.children[-1].end_pos)


def _matters(leaf: Node, operator: str) -> bool:
    """Whether a change here can change what is computed: no type, decorator, assertion, or text of a message."""
    if operator.startswith("Binary_") and not _is_binary(leaf):
        return False
    inner = leaf
    for node in _around(leaf):
        if _is_type(node, inner) or _is_message(node) or node.type in ("decorator", "assert_stmt"):
            return False
        if _is_asserting(node) or _is_of_blocks(node) or _is_for_an_error(node):
            return False
        inner = node
    return True


def _is_asserting(node: Node) -> bool:
    return bool(node.type == "argument" and node.children[0].get_code(include_prefix=False) in ASSERTING)


def _is_of_blocks(node: Node) -> bool:
    """Whether a statement says how much is computed at once: it names, or uses, one of these constants."""
    if node.type != "expr_stmt":
        return False
    names = set(re.findall(r"[A-Za-z_]+", node.get_code(include_prefix=False)))
    return not names.isdisjoint(UNSEEN)


def _is_for_an_error(node: Node) -> bool:
    """Whether a statement is followed by `raise`: all that it can change is what an error says."""
    if node.type != "simple_stmt" or node.parent.type != "suite":
        return False
    rest = node.parent.children[node.parent.children.index(node) + 1 :]
    return any(after.type == "simple_stmt" and after.children[0].type == "raise_stmt" for after in rest)


def _is_binary(leaf: Node) -> bool:
    """Whether the sign stands between two values: not the star of `def f(*, a)` or `{**a}`, nor a union of types."""
    if leaf.parent.type not in ("arith_expr", "term", "power", "shift_expr", "and_expr", "xor_expr", "expr"):
        return False
    union = leaf.value == "|" and not any(node.type in FUNCTIONS for node in _around(leaf))
    return not union


def _is_type(node: Node, inner: Node) -> bool:
    """Whether the child is an annotation of the node: of a variable, a parameter, what is returned."""
    if node.type == "annassign":
        return inner is node.children[1]
    if node.type == "tfpdef":
        return inner is node.children[2]
    return node.type == "funcdef" and inner is node.annotation


def _is_message(node: Node) -> bool:
    """Whether all in the node ends in a message: of an error, in a log, or a text with a space in it."""
    if node.type == "fstring":
        return any(child.type == "fstring_string" and " " in child.value for child in node.children)
    if node.type in ("atom_expr", "power"):
        code: str = node.get_code(include_prefix=False)
        return code.startswith(SILENT)
    return bool(node.type == "raise_stmt")
