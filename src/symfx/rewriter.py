"""A tracer for programs with ``assert`` statements and annotated assignments.

torch.fx cannot trace ``assert x.size(0) == 3``, and ignores the annotation in
``y: TensorType((2, Dyn)) = f(x)``. `RewritingTracer` rewrites the program first: an assertion
becomes a call of ``torch._assert``, an annotated assignment one of ``torch.fx.annotate.annotate``.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch.fx import Graph, Tracer
from torch.fx.annotate import annotate

from symfx.errors import TracingError

__all__ = ["AST_Rewriter", "RewritingTracer"]

#: Names under which rewritten code calls its helpers; no program uses them.
_ANNOTATE, _ASSERT, _MAKE = "__symfx_annotate", "__symfx_assert", "__symfx_make"


class AST_Rewriter(ast.NodeTransformer):
    """Rewrites the source of a function: each ``visit_`` method rewrites one kind of statement."""

    def rewrite(self, fn: FunctionType) -> FunctionType:
        """The function with its assertions and annotated assignments rewritten.

        It has the globals of the plain function inside `fn`, and the values of the variables that
        this function encloses.

        Raises:
            TracingError: the source of the function cannot be found or parsed.
        """
        plain = inspect.unwrap(fn)
        code = plain.__code__
        where = f"{code.co_filename}:{code.co_firstlineno}"
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
        except (OSError, SyntaxError, TypeError) as error:
            raise TracingError(
                f"the source of {plain.__name__} cannot be read: {error}",
                where=where,
                fix="define it in a file, or trace with torch.fx.Tracer, which needs no source",
            ) from None
        definition = tree.body[0]
        if not isinstance(definition, ast.FunctionDef):
            return fn  # a lambda has no statements
        ast.increment_lineno(tree, code.co_firstlineno - 1)
        enclosed = _enclosed_by(plain)
        definition = self.visit(definition)
        made = _definition_within(definition, [_ANNOTATE, _ASSERT, *enclosed])
        namespace: dict[str, Any] = {}
        exec(compile(made, code.co_filename, "exec"), plain.__globals__, namespace)
        rewritten: FunctionType = namespace[_MAKE](annotate, torch._assert, *enclosed.values())
        inner = inspect.unwrap(rewritten)
        inner.__defaults__, inner.__kwdefaults__ = plain.__defaults__, plain.__kwdefaults__
        inner.__annotations__ = dict(plain.__annotations__)
        inner.__qualname__, inner.__module__ = plain.__qualname__, plain.__module__
        return rewritten

    def visit_Assert(self, node: ast.Assert) -> ast.AST:
        """``assert test, message`` becomes ``torch._assert(test, message)``."""
        message = node.msg or ast.Constant(value="")
        return self._call(_ASSERT, [node.test, message], node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """``y: T = value`` becomes ``y = annotate(value, T)``."""
        if node.value is None:
            return ast.copy_location(ast.Pass(), node)
        call = self._call(_ANNOTATE, [node.value, node.annotation], node).value
        return ast.copy_location(ast.Assign(targets=[node.target], value=call), node)

    @staticmethod
    def _call(name: str, args: list[ast.expr], at: ast.AST) -> ast.Expr:
        function = ast.Name(id=name, ctx=ast.Load())
        made = ast.Expr(value=ast.Call(func=function, args=args, keywords=[]))
        return ast.copy_location(made, at)


def _enclosed_by(fn: FunctionType) -> dict[str, Any]:
    """The values of the variables that a function encloses; None for an unassigned one."""
    values: dict[str, Any] = {}
    for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or (), strict=True):
        try:
            values[name] = cell.cell_contents
        except ValueError:  # the variable is assigned later, or never
            values[name] = None
    return values


def _definition_within(definition: ast.FunctionDef, names: list[str]) -> ast.Module:
    """A module with one function; it has these arguments, and defines and returns `definition`."""
    # Defaults and annotations were evaluated when the function was defined: they are not again.
    arguments = definition.args
    arguments.defaults = [ast.Constant(value=None) for _ in arguments.defaults]
    arguments.kw_defaults = [d and ast.Constant(value=None) for d in arguments.kw_defaults]
    every = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    for argument in (*every, arguments.vararg, arguments.kwarg):
        if argument is not None:
            argument.annotation = None
    definition.returns = None
    made = ast.parse(f"def {_MAKE}({', '.join(names)}): pass")
    maker = made.body[0]
    assert isinstance(maker, ast.FunctionDef)
    maker.body = [definition, ast.Return(value=ast.Name(id=definition.name, ctx=ast.Load()))]
    return ast.fix_missing_locations(made)


class RewritingTracer(Tracer):
    """A `torch.fx.Tracer` that rewrites the program first.

    The traced module is not changed; `root` is a rewritten copy that shares its parameters.

    Example:
        >>> import torch
        >>> def halve(x):
        ...     assert x.size(0) % 2 == 0, "an even number of rows"
        ...     return x[::2]
        >>> tracer = RewritingTracer()  # halve must be in a file for this
    """

    def trace(
        self,
        root: torch.nn.Module | Callable[..., Any],
        concrete_args: dict[str, Any] | None = None,
    ) -> Graph:
        """Rewrite and trace.

        Args:
            root: a module or a function.
            concrete_args: constant inputs, as `torch.fx.Tracer.trace` takes them.

        Raises:
            TracingError: the source of the program cannot be found.
        """
        return super().trace(self._rewritten(root), concrete_args)

    def _rewritten(self, root: Any) -> Any:
        if isinstance(root, torch.nn.Module):
            return self._rewritten_module(root, {}, {})
        return AST_Rewriter().rewrite(root) if isinstance(root, FunctionType) else root

    def _rewritten_module(
        self, module: torch.nn.Module, done: dict[int, Any], kinds: dict[type, type]
    ) -> torch.nn.Module:
        """A copy of a module in which its ``forward`` and those of its submodules are rewritten.

        Args:
            module: the module.
            done: the copies so far, by the module's id.
            kinds: the rewritten classes so far: twelve layers of one class are rewritten once.
        """
        if id(module) in done:
            return done[id(module)]  # type: ignore[no-any-return]
        copied = done[id(module)] = copy.copy(module)
        copied._modules = {
            name: child
            and (child if self._is_torchs(child) else self._rewritten_module(child, done, kinds))
            for name, child in module._modules.items()
        }
        kind = type(module)
        if not self._is_torchs(module):
            if kind not in kinds:
                kinds[kind] = self._rewritten_class(kind)
            copied.__class__ = kinds[kind]
        return copied

    @staticmethod
    def _rewritten_class(kind: type) -> type:
        forward: Any = kind.forward  # type: ignore[attr-defined]
        replaced = {
            "forward": AST_Rewriter().rewrite(forward),
            "__module__": kind.__module__,
            "__doc__": kind.__doc__,
        }
        made = type(kind.__name__, (kind,), replaced)
        made.__qualname__ = kind.__qualname__
        return made

    @staticmethod
    def _is_torchs(module: torch.nn.Module) -> bool:
        """Whether a module is a layer of torch's, which becomes one node."""
        return type(module).__module__.startswith("torch.nn") and not isinstance(
            module, (torch.nn.Sequential, torch.nn.ModuleList, torch.nn.ModuleDict)
        )
