"""Which variables a cell binds anew while nobody can still want their old values: from the cell's syntax tree alone.

Only an assignment at the top level of the cell counts, and only the first that mentions its names; of names that are
bound in other ways it is told why their values stay. What cannot be told
from the tree, the functions that the cell may call, is looked at in ``fresh``. Wherever it is not certain, the answer
is no, with the reason: an old value that is kept costs memory, one that is dropped too early breaks the cell.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

#: Names that reach variables in ways that no tree shows, and attributes that do.
DYNAMIC_NAMES = frozenset(
    {"eval", "exec", "compile", "globals", "locals", "vars", "dir", "__import__", "__builtins__", "__main__"}
    | {"get_ipython", "inspect", "breakpoint"}
)
DYNAMIC_ATTRIBUTES = frozenset(
    {"user_ns", "user_global_ns", "user_module", "run_cell", "run_cell_async", "run_line_magic", "run_cell_magic"}
    | {"_getframe", "_current_frames", "currentframe", "f_back", "f_globals", "f_locals", "gi_frame", "cr_frame"}
    | {"__globals__", "__main__", "import_module", "set_trace", "get_objects", "get_referrers", "getclosurevars"}
    | {"globals", "locals", "vars", "exec", "__import__", "__builtins__"}  # as of the module builtins
    | {"dump_session", "dump_module", "settrace", "setprofile", "run_path", "run_module"}
)
DYNAMIC = DYNAMIC_NAMES | DYNAMIC_ATTRIBUTES
#: Functions and methods of libraries that look up variables of their callers by names in a text.
READERS = frozenset({"eval", "sql", "query", "execute", "executemany", "evaluate", "from_query", "read_sql", "dmatrix"})
#: Line magics that neither read variables nor define functions.
_HARMLESS_MAGICS = frozenset({"matplotlib", "config", "precision", "xmode", "cd", "pwd"})
#: A text that looks like SQL or like a formula, for functions of any name.
_LOOKS_READ = re.compile(r"(?i)\b(select|from|join)\b|~")

_INSIDE = {
    ast.If: "an if",
    ast.For: "a for loop",
    ast.AsyncFor: "a for loop",
    ast.While: "a while loop",
    ast.With: "a with block",
    ast.AsyncWith: "a with block",
    ast.Try: "a try block",
    ast.Match: "a match block",
}

_Scope = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class Rebinding:
    """A variable that a statement of a cell binds anew.

    Attributes:
        name: The variable.
        index: Which statement of the cell it is.
        reads: All names that are mentioned up to there.
        why_not: Why its old value is not to be dropped before; empty if nothing in the cell speaks against it.
    """

    name: str
    index: int
    reads: frozenset[str]
    why_not: str = ""


def rebindings(tree: ast.Module) -> list[Rebinding]:
    """The variables that a cell binds anew, each where it does so first.

    Args:
        tree: The cell.
    """
    in_scopes = _names_in_scopes(tree)
    found: list[Rebinding] = []
    mentioned: dict[str, int] = {}
    by_text: list[str] = []
    doubt = ""
    for index, statement in enumerate(tree.body):
        if _is_harmless_magic(statement):
            continue
        value, targets = _assignment(statement)
        doubt = doubt or _doubt(statement)
        by_text += _texts_read(statement)
        read = set(_names(value)) if value is not None else set()
        reads = frozenset([*mentioned, *_names(statement)])
        for name in dict.fromkeys(targets):
            why = doubt
            if name in read:
                why = "its new value is made from it"
            elif name in in_scopes:
                why = f"{in_scopes[name]} in this cell mentions it"
            elif name in mentioned:
                why = f"line {mentioned[name]} mentions it before"
            elif any(mentions(text, name) for text in by_text):
                why = "a text in this cell names it"
            found.append(Rebinding(name, index, reads, why))
        if value is None:
            why = doubt or _other_way(statement)
            found += (Rebinding(name, index, reads, why) for name in dict.fromkeys(_bound(statement)))
        for name in _names(statement):
            mentioned.setdefault(name, statement.lineno)
    first: dict[str, Rebinding] = {}
    for rebinding in found:
        first.setdefault(rebinding.name, rebinding)
    return list(first.values())


def with_drops(tree: ast.Module, drops: Iterable[Rebinding]) -> ast.Module:
    """The cell with each variable dropped just before the statement that binds it anew.

    Lines in tracebacks stay right: what is added stands in the line of that statement.
    """
    names: dict[int, list[str]] = {}
    for drop in drops:
        names.setdefault(drop.index, []).append(drop.name)
    body: list[ast.stmt] = []
    for index, statement in enumerate(tree.body):
        for name in names.get(index, ()):
            # The name is bound when this is decided. Should it be gone by then, the cell must not fail for it.
            added = ast.parse(f"try:\n    del {name}\nexcept NameError:\n    pass").body[0]
            for node in ast.walk(added):
                ast.copy_location(node, statement)
            body.append(added)
        body.append(statement)
    tree.body = body
    return tree


def mentions(text: str, name: str) -> bool:
    """Whether a text has a name as a word of its own."""
    return name in text and re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text) is not None


def looks_read(text: str) -> bool:
    """Whether a text looks as if somebody looks up variables by the names in it."""
    return _LOOKS_READ.search(text) is not None


def _assignment(statement: ast.stmt) -> tuple[ast.expr | None, list[str]]:
    """The value and the names of an assignment to nothing but names."""
    if isinstance(statement, ast.Assign):
        targets, value = statement.targets, statement.value
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets, value = [statement.target], statement.value
    else:
        return None, []
    names: list[str] = []
    for target in targets:
        parts = target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]
        for part in parts:
            if not isinstance(part, ast.Name):
                return None, []
            names.append(part.id)
    if isinstance(statement, ast.AnnAssign):
        return ast.Tuple([statement.annotation, value], ast.Load()), names
    return value, names


def _other_way(statement: ast.stmt) -> str:
    """Why what a statement binds stays, if it is no assignment to nothing but names at the top level of the cell."""
    if isinstance(statement, ast.AugAssign):
        return "its new value is made from it"
    if isinstance(statement, (ast.Assign, ast.AnnAssign)):
        return f"line {statement.lineno} binds more than plain names"
    inside = next((words for kind, words in _INSIDE.items() if isinstance(statement, kind)), "")
    return f"line {statement.lineno} binds it {f'inside {inside}' if inside else 'in another way than by ='}"


def _bound(node: ast.AST) -> Iterator[str]:
    """The variables of the cell that a statement binds, at any depth."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        yield node.name
        return
    if isinstance(node, (ast.Lambda, ast.comprehension)):
        return  # whose variables are their own
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    yield from _name_as_text(node)
    for child in ast.iter_child_nodes(node):
        yield from _bound(child)


def _names(node: ast.AST | None) -> Iterator[str]:
    """All names in a part of the tree, whatever is done with them."""
    for part in ast.walk(node) if node is not None else ():
        if isinstance(part, ast.Name):
            yield part.id
        elif isinstance(part, (ast.Global, ast.Nonlocal)):
            yield from part.names
        elif isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield part.name
        elif isinstance(part, ast.arg):
            yield part.arg
        else:
            yield from _name_as_text(part)


def _name_as_text(node: ast.AST) -> Iterator[str]:
    """The variable that a part of the tree binds without having it as a part."""
    if isinstance(node, ast.alias):
        yield (node.asname or node.name).partition(".")[0]
    elif isinstance(node, (ast.ExceptHandler, ast.MatchAs, ast.MatchStar)) and node.name:
        yield node.name
    elif isinstance(node, ast.MatchMapping) and node.rest:
        yield node.rest


def _names_in_scopes(tree: ast.Module) -> dict[str, str]:
    """What functions, classes and lambdas of the cell mention, wherever they stand, and which of them."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, _Scope):
            where = "a lambda" if isinstance(node, ast.Lambda) else node.name
            for name in _names(node):
                found.setdefault(name, where)
        elif isinstance(node, ast.GeneratorExp):
            for name in _names(node):
                found.setdefault(name, "a generator")
    return found


def _doubt(statement: ast.stmt) -> str:
    """Why from this statement on nobody can tell from the tree what is read; empty if one can."""
    if _is_harmless_magic(statement):
        return ""
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and node.id in DYNAMIC:
            return _shell_words(node.id, node.lineno)
        if isinstance(node, ast.Attribute) and node.attr in DYNAMIC_ATTRIBUTES:
            return _shell_words(node.attr, node.lineno)
        if isinstance(node, ast.alias) and {*node.name.split("."), node.asname} & {*DYNAMIC, "*"}:
            return f"line {statement.lineno} imports {node.name}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in ("__main__", "__globals__"):
            return f"line {node.lineno} names {node.value}"
        if isinstance(node, (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)):
            return "the cell awaits: other tasks may run meanwhile"
        if isinstance(node, ast.comprehension) and node.is_async:
            return "the cell awaits: other tasks may run meanwhile"
        if isinstance(node, ast.NamedExpr):
            return f"line {node.lineno} has :="
        if isinstance(node, ast.Call) and _called(node) in READERS and not _is_constant_call(node):
            return f"line {node.lineno} calls {_called(node)}(), which may read variables by their names in a text"
    return ""


def _is_harmless_magic(statement: ast.stmt) -> bool:
    """Whether a statement is a line magic of those, as the shell writes them: ``get_ipython().run_line_magic(…)``."""
    call = statement.value if isinstance(statement, ast.Expr) else None
    return (
        isinstance(call, ast.Call)
        and ast.unparse(call.func) == "get_ipython().run_line_magic"
        and _is_constant_call(call)
        and getattr(call.args[0], "value", "") in _HARMLESS_MAGICS
    )


def _shell_words(name: str, line: int) -> str:
    what = "a magic or the shell" if name == "get_ipython" else name
    return f"line {line} uses {what}, which may read any variable"


def _called(call: ast.Call) -> str:
    return getattr(call.func, "attr", getattr(call.func, "id", ""))


def _is_constant_call(call: ast.Call) -> bool:
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    return all(isinstance(argument, ast.Constant) for argument in arguments)


def _texts_read(statement: ast.stmt) -> list[str]:
    """Texts in which somebody may look up variables by name."""
    texts: list[str] = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Call):
            is_reader = _called(node) in READERS
            texts += (
                part.value
                for part in ast.walk(node)
                if isinstance(part, ast.Constant)
                and isinstance(part.value, str)
                and (is_reader or looks_read(part.value))
            )
    return texts
