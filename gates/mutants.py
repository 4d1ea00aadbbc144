"""Flip one condition at a time in the pure predicates of a Python source. Pure."""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator
from dataclasses import dataclass

_COMPARE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A source with one condition flipped."""

    function: str
    line: int
    what: str
    source: str


def is_predicate(node: ast.AST) -> bool:
    """A function that says it returns a bool; those are the predicates of this project."""
    if not isinstance(node, ast.FunctionDef):
        return False
    returns = node.returns
    return isinstance(returns, ast.Name) and returns.id == "bool"


def _flips(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """What a node can be flipped to, with words for it."""
    if isinstance(node, ast.Compare):
        for position, operator in enumerate(node.ops):
            flipped = copy.deepcopy(node)
            flipped.ops[position] = _COMPARE[type(operator)]()
            yield f"{ast.unparse(node)}  ->  {ast.unparse(flipped)}", flipped
    elif isinstance(node, ast.BoolOp):
        other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        flipped_bool = ast.BoolOp(op=other, values=copy.deepcopy(node.values))
        yield f"{ast.unparse(node)}  ->  {ast.unparse(flipped_bool)}", flipped_bool
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield f"{ast.unparse(node)}  ->  {ast.unparse(node.operand)}", copy.deepcopy(node.operand)
    elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
        yield f"{node.value}  ->  {not node.value}", ast.Constant(not node.value)


class _Replace(ast.NodeTransformer):
    def __init__(self, target: ast.AST, by: ast.AST) -> None:
        self.target, self.by = target, by

    def visit(self, node: ast.AST) -> ast.AST:
        if node is self.target:
            return ast.copy_location(self.by, node)
        visited: ast.AST = self.generic_visit(node)
        return visited


def mutants(source: str) -> list[Mutant]:
    """Every mutant of the predicates in ``source``, in their order."""
    tree = ast.parse(source)
    sites = [
        (function.name, getattr(node, "lineno", 0), position, what)
        for function in ast.walk(tree)
        if is_predicate(function) and isinstance(function, ast.FunctionDef)
        for position, node in enumerate(_body(function))
        for what, _ in _flips(node)
    ]
    made = []
    seen: dict[tuple[str, int], int] = {}
    for name, line, position, what in sites:
        turn = seen[(name, position)] = seen.get((name, position), -1) + 1
        made.append(Mutant(name, line, what, _mutated(source, name, line, position, turn)))
    return made


def _body(function: ast.FunctionDef) -> list[ast.AST]:
    """Nodes of the statements; not the decorators, defaults and annotations, which no call runs."""
    return [node for statement in function.body for node in ast.walk(statement)]


def _mutated(source: str, name: str, line: int, position: int, turn: int) -> str:
    tree = ast.parse(source)
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and function.name == name and is_predicate(function):
            nodes = _body(function)
            if position < len(nodes) and getattr(nodes[position], "lineno", 0) == line:
                flips = list(_flips(nodes[position]))
                if turn < len(flips):
                    _Replace(nodes[position], flips[turn][1]).visit(function)
                    return ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    raise ValueError(f"{name}: nothing to flip at line {line}")
