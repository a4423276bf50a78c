"""The ways in which torch takes a program: exported or compiled, then run at other sizes."""

from __future__ import annotations

import copy
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.utils import _pytree as pytree

from tools.installed.program import Program

__all__ = ["WAYS", "Outcome", "take"]


@dataclass
class Outcome:
    """What came of a program taken in one way.

    Attributes:
        error: the error of the export or the compilation, or ""; or where results were wrong.
        guards: the guards of sizes and numbers, as sympy prints them.
        fixed: how many dimensions and numbers that may vary were given one value.
        graphs: how many graphs were compiled.
    """

    error: str = ""
    guards: list[str] = field(default_factory=list)
    fixed: int = 0
    graphs: int = 1


def take(program: Program, way: str) -> Outcome:
    """Take a program in one way with the symbolic shapes that torch uses now."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    outcome = Outcome()
    try:
        WAYS[way](program, outcome)
    except Exception as error:  # noqa: BLE001  an error is a result
        outcome.error = f"{type(error).__name__}: {error}"
    finally:
        torch._dynamo.reset()
    return outcome


def _build(program: Program) -> Callable[..., Any]:
    torch.manual_seed(0)
    return program.build()


def _note_environment(env: Any, outcome: Outcome) -> None:
    """Note what an environment decided about the inputs."""
    outcome.guards += [str(guard.expr) for guard in env.guards]
    fixed = [s for s, value in env.replacements.items() if value.is_number]
    backed = set(env.backed_var_to_val)
    outcome.fixed += sum(1 for symbol in fixed if symbol in backed)


def _environment_of(exported: Any) -> Any:
    for node in exported.graph.nodes:
        for value in pytree.tree_leaves(node.meta.get("val")):
            if isinstance(value, torch.Tensor) and getattr(value, "fake_mode", None) is not None:
                return value.fake_mode.shape_env
    return None


def _runs(program: Program) -> Iterator[tuple[Any, ...]]:
    for sizes in program.sizes[1:]:
        yield program.inputs(*sizes)


def _same(got: Any, expected: Any, atol: float, when: str) -> None:
    a, b = pytree.tree_leaves(got), pytree.tree_leaves(expected)
    assert len(a) == len(b), f"{when}: {len(a)} results, eager has {len(b)}"
    for x, y in zip(a, b, strict=True):
        if isinstance(y, torch.Tensor) and y.layout is torch.jagged:
            x, y = x.values(), y.values()
        if isinstance(y, torch.Tensor):
            torch.testing.assert_close(x, y, atol=atol, rtol=1e-3, equal_nan=True)
        else:
            assert x == y, f"{when}: {x} instead of {y}"


def _check(program: Program, module: Callable[..., Any], when: str) -> None:
    """Compare a module with eager at the other sizes; written inputs and buffers too."""
    eager = _build(program)
    for args in _runs(program):
        mine, theirs = copy.deepcopy(args), copy.deepcopy(args)
        torch.manual_seed(3)
        expected = eager(*theirs)
        torch.manual_seed(3)
        _same(module(*mine), expected, program.atol, when)
        _same(mine, theirs, program.atol, f"{when}, written inputs")


def _auto_dims(args: tuple[Any, ...]) -> Any:
    auto = torch.export.Dim.AUTO
    return pytree.tree_map(
        lambda x: dict.fromkeys(range(x.dim()), auto) if isinstance(x, torch.Tensor) else None, args
    )


class _Function(torch.nn.Module):
    """A function as the module that torch.export wants."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any) -> Any:
        return self.function(*args)


def _export(program: Program, outcome: Outcome, **options: Any) -> Any:
    built = _build(program)
    args = program.inputs(*program.sizes[0])
    dims = _auto_dims(args) if program.dims is None else program.dims()
    module = built if isinstance(built, torch.nn.Module) else _Function(built)
    if not isinstance(built, torch.nn.Module):
        dims = (tuple(dims),) if not isinstance(dims, dict) else dims
    exported = torch.export.export(module, args, dynamic_shapes=dims, **options)
    env = _environment_of(exported)
    if env is not None:
        _note_environment(env, outcome)
    return exported


def _exported(program: Program, outcome: Outcome) -> None:
    exported = _export(program, outcome)
    _check(program, exported.module(), "exported")


def _strict(program: Program, outcome: Outcome) -> None:
    exported = _export(program, outcome, strict=True)
    _check(program, exported.module(), "exported")


def _decomposed(program: Program, outcome: Outcome) -> None:
    exported = _export(program, outcome).run_decompositions()
    _check(program, exported.module(), "decomposed")


def _saved(program: Program, outcome: Outcome) -> None:
    file = io.BytesIO()
    torch.export.save(_export(program, outcome), file)
    file.seek(0)
    loaded = torch.export.load(file)
    _check(program, copy.deepcopy(loaded).run_decompositions().module(), "loaded and decomposed")
    _check(program, loaded.module(), "loaded")


def _unflattened(program: Program, outcome: Outcome) -> None:
    exported = _export(program, outcome)
    _check(program, torch.export.unflatten(exported), "unflattened")


def _packaged(program: Program, outcome: Outcome) -> None:
    exported = _export(program, outcome)
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        path = torch._inductor.aoti_compile_and_package(
            exported, package_path=str(Path(folder) / "program.pt2")
        )
        _check(program, torch._inductor.aoti_load_package(path), "packaged")


def _draft(program: Program, outcome: Outcome) -> None:
    built = _build(program)
    args = program.inputs(*program.sizes[0])
    dims = _auto_dims(args) if program.dims is None else program.dims()
    module = built if isinstance(built, torch.nn.Module) else _Function(built)
    if not isinstance(built, torch.nn.Module):
        dims = (tuple(dims),)
    exported = torch.export.draft_export(module, args, dynamic_shapes=dims)
    _check(program, exported.module(check_guards=False), "drafted")


class _Recorded:
    """A backend that notes the environment of each graph."""

    def __init__(self, backend: str) -> None:
        self.counter = CompileCounterWithBackend(backend)
        self.environments: list[Any] = []

    def __call__(self, gm: Any, inputs: Any) -> Any:
        context = torch._guards.TracingContext.get()
        if context.fake_mode is not None:
            self.environments.append(context.fake_mode.shape_env)
        return self.counter(gm, inputs)


def _compiled(
    backend: str, dynamic: bool | None = True, train: bool = False
) -> Callable[[Program, Outcome], None]:
    def way(program: Program, outcome: Outcome) -> None:
        recorded = _Recorded(backend)
        built, eager = _build(program), _build(program)
        compiled = torch.compile(built, backend=recorded, dynamic=dynamic)
        for sizes in program.sizes:
            args = program.inputs(*sizes)
            mine, theirs = copy.deepcopy(args), copy.deepcopy(args)
            torch.manual_seed(3)
            expected = eager(*theirs)
            torch.manual_seed(3)
            got = compiled(*mine)
            _same(got, expected, program.atol, f"compiled, at {sizes}")
            _same(mine, theirs, program.atol, f"compiled, written inputs at {sizes}")
            if train:
                _compare_gradients(built, got, eager, expected, program.atol, sizes)
        for env in dict.fromkeys(recorded.environments):
            _note_environment(env, outcome)
        outcome.graphs = recorded.counter.frame_count

    return way


def _compare_gradients(
    built: Any, got: Any, eager: Any, expected: Any, atol: float, sizes: tuple[int, ...]
) -> None:
    for value in (got, expected):
        sum(x.sum() for x in pytree.tree_leaves(value) if x.requires_grad).backward()
    for (name, mine), theirs in zip(built.named_parameters(), eager.parameters(), strict=True):
        _same(mine.grad, theirs.grad, atol, f"the gradient of {name} at {sizes}")
        mine.grad = theirs.grad = None


def _made(program: Program, outcome: Outcome) -> None:
    from torch.fx.experimental.proxy_tensor import make_fx

    built = _build(program)
    traced = make_fx(built, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
        *program.inputs(*program.sizes[0])
    )
    _note_environment(traced.shape_env, outcome)
    _check(program, traced, "traced")


WAYS: dict[str, Callable[[Program, Outcome], None]] = {
    "export": _exported,
    "strict": _strict,
    "decomposed": _decomposed,
    "saved": _saved,
    "unflattened": _unflattened,
    "packaged": _packaged,
    "draft": _draft,
    "eager": _compiled("eager"),
    "aot_eager": _compiled("aot_eager"),
    "automatic": _compiled("aot_eager", dynamic=None),
    "train": _compiled("aot_eager", train=True),
    "inductor": _compiled("inductor"),
    "make_fx": _made,
}
"""Each way, with the function that takes a program so."""
