"""What a mutation changes: operators of cosmic-ray, and four of our own in their form."""

from collections.abc import Iterator
from typing import Any, Protocol

from cosmic_ray.ast import get_ast
from cosmic_ray.operators import (
    binary_operator_replacement,
    boolean_replacer,
    break_continue,
    comparison_operator_replacement,
    exception_replacer,
    number_replacer,
    unary_operator_replacement,
    zero_iteration_for_loop,
)

Node = Any  # a node of parso's trees, which carry no types
Span = tuple[tuple[int, int], tuple[int, int]]  # line and column of the first character, and of the one after the last


class Operator(Protocol):
    """One way of changing a node of the syntax tree; cosmic-ray's operators have this form."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """Name the places in this node alone that can be changed, one for every way of changing it."""

    def mutate(self, node: Node, index: int) -> Node:
        """Return the node with the change of this number."""


class RemoveCall:
    """Leaves out a statement that is nothing but a call."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """Name the call."""
        statement = node.parent is not None and node.parent.type in ("simple_stmt", "suite")
        if statement and node.type in ("atom_expr", "power") and node.children[-1].get_first_leaf().value == "(":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Node, index: int) -> Node:  # noqa: ARG002 (there is one way)
        """Put `pass` in its place."""
        nothing = get_ast("pass").children[0]
        nothing.prefix = node.get_first_leaf().prefix
        return nothing


class ReplaceAugmented:
    """Exchanges `+=` and `-=`, `*=` and `/=`."""

    exchanged = {"+=": "-=", "-=": "+=", "*=": "/=", "/=": "*=", "&=": "|=", "|=": "&="}  # noqa: RUF012

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """Name the operator."""
        if node.type == "operator" and node.value in self.exchanged:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Node, index: int) -> Node:  # noqa: ARG002 (there is one way)
        """Exchange the operator."""
        node.value = self.exchanged[node.value]
        return node


class NumberTenth:
    """Makes a number with a decimal point or an exponent a tenth as large: adding one to 1e-6 is noticed too easily."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """Name the number."""
        if node.type == "number" and isinstance(value := _value(node.value), float) and value:
            yield node.start_pos, node.end_pos

    def mutate(self, node: Node, index: int) -> Node:  # noqa: ARG002 (there is one way)
        """Write the smaller number."""
        node.value = repr(_value(node.value) / 10)
        return node


class DropFactor:
    """Leaves out what follows the first `*` or `/` of a product: a term without its weight."""

    def mutation_positions(self, node: Node) -> Iterator[Span]:
        """Name the sign and the factor after it."""
        if node.type == "term" and node.children[1].value in ("*", "/"):
            yield node.children[1].start_pos, node.children[2].end_pos

    def mutate(self, node: Node, index: int) -> Node:  # noqa: ARG002 (there is one way)
        """Take both out."""
        del node.children[1:3]
        return node


def _value(number: str) -> complex:
    value: complex = eval(number)  # a numeric literal of our own source
    return value


# For each sign those that keep the expression valid for the same operands: `1.5 >> 2` would be noticed by anything.
BINARY = ("Add_Sub", "Add_Mul", "Sub_Add", "Mul_Div", "Mul_Add", "Div_Mul", "Div_FloorDiv", "FloorDiv_Div",
          "FloorDiv_Mul", "Mod_FloorDiv", "Mod_Add", "Pow_Mul", "BitAnd_BitOr", "BitOr_BitAnd", "BitXor_BitOr",
          "LShift_RShift", "RShift_LShift")  # fmt: skip
COMPARISONS = ("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt", "Eq_NotEq", "Eq_GtE",
               "Eq_LtE", "NotEq_Eq", "Is_IsNot", "IsNot_Is")  # fmt: skip
UNARY = ("Delete_USub", "Delete_Invert", "Delete_Not")

OPERATORS: dict[str, Operator] = {
    **{f"Binary_{name}": getattr(binary_operator_replacement, f"ReplaceBinaryOperator_{name}")() for name in BINARY},
    **{
        f"Comparison_{name}": getattr(comparison_operator_replacement, f"ReplaceComparisonOperator_{name}")()
        for name in COMPARISONS
    },
    **{f"Unary_{name}": getattr(unary_operator_replacement, f"ReplaceUnaryOperator_{name}")() for name in UNARY},
    "AddNot": boolean_replacer.AddNot(),
    "TrueToFalse": boolean_replacer.ReplaceTrueWithFalse(),
    "FalseToTrue": boolean_replacer.ReplaceFalseWithTrue(),
    "AndToOr": boolean_replacer.ReplaceAndWithOr(),
    "OrToAnd": boolean_replacer.ReplaceOrWithAnd(),
    "BreakToContinue": break_continue.ReplaceBreakWithContinue(),
    "ContinueToBreak": break_continue.ReplaceContinueWithBreak(),
    "Exception": exception_replacer.ExceptionReplacer(),
    "Number": number_replacer.NumberReplacer(),
    "NoIteration": zero_iteration_for_loop.ZeroIterationForLoop(),
    "RemoveCall": RemoveCall(),
    "Augmented": ReplaceAugmented(),
    "NumberTenth": NumberTenth(),
    "DropFactor": DropFactor(),
}
