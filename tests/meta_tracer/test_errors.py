"""A program that cannot be traced ends in one message: the reason, the line, and a fix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.fx.proxy import TraceError

from symfx.errors import SymfxError, TracingError
from symfx.meta_tracer import (
    ControlFlowError,
    MetaArgumentsError,
    NotRecordableError,
    symbolic_trace,
)

META = torch.empty(4, 6, device="meta")


def by_data(x: Any) -> Any:
    return x if x.sum() > 0 else -x


def by_length_of_data(x: Any) -> Any:
    return [row + 1 for row in x.nonzero()]


def by_unknown(x: Any, y: Any) -> Any:
    return x if y.relu().shape[0] == 2 else -x


def by_containment(x: Any) -> Any:
    return x if 1.0 in x else -x


def by_item(x: Any) -> Any:
    value = x[0, 0].item()
    return x if value else -x


@pytest.mark.filterwarnings("ignore:Could not compute metadata")
@pytest.mark.parametrize(
    ("program", "line", "reason"),
    [
        (by_data, "return x if x.sum() > 0 else -x", "depends on the data"),
        (by_length_of_data, "for row in x.nonzero()]", "nonzero cannot be computed without data"),
        (by_unknown, "y.relu().shape[0] == 2", "the input `y` was given no meta value"),
        (by_containment, "1.0 in x", "whether 1.0 is in `x`"),
        (by_item, "if value else", "item cannot be computed without data"),
    ],
)
def test_control_flow_on_an_unknown_value(program: Any, line: str, reason: str) -> None:
    with pytest.raises(ControlFlowError) as caught:
        symbolic_trace(program, {"x": META})
    assert isinstance(caught.value, (TraceError, TracingError))
    message = str(caught.value)
    assert line in message and reason in message and "test_errors.py:" in message
    assert "to fix:" in message


def test_a_call_without_a_meta_value_is_warned_of_with_its_line() -> None:
    def f(x: Any) -> Any:
        return x.nonzero() + 1

    with pytest.warns(
        UserWarning,
        match="(?s)Could not compute metadata for call_method target nonzero.*x.nonzero",
    ) as found:
        gm = symbolic_trace(f, {"x": META})
    # Calls that depend on it give no further warning, and the graph runs.
    assert len(found) == 1
    assert torch.equal(gm(torch.eye(3)), torch.eye(3).nonzero() + 1)


@pytest.mark.parametrize(
    ("meta_args", "match"),
    [
        ([META], "a list, not a dictionary"),
        ({"x": 3}, "`x` contains 3, which is no tensor"),
        ({"x": [META, None]}, "`x` contains None"),
        ({"z": META}, "`z`, which is no parameter"),
    ],
)
def test_wrong_meta_args(meta_args: Any, match: str) -> None:
    with pytest.raises(MetaArgumentsError, match=match) as caught:
        symbolic_trace(by_data, meta_args)
    assert "to fix:" in str(caught.value)


def test_symbolic_sizes_are_refused() -> None:
    from symfx.proxy_tensor import make_fx

    g = make_fx(lambda x: x, tracing_mode="symbolic")(torch.rand(3))
    fake = next(iter(g.graph.nodes)).meta["val"]
    with pytest.raises(MetaArgumentsError, match="symbolic shape"):
        symbolic_trace(by_data, {"x": fake})


def test_structures_that_do_not_match() -> None:
    from torch.fx import PH

    with pytest.raises(MetaArgumentsError, match="different structures for `x`"):
        symbolic_trace(lambda x: x[0], {"x": [META]}, {"x": [PH, PH]})


def test_a_result_that_no_graph_holds() -> None:
    class Cache:
        pass

    with pytest.raises(NotRecordableError, match=r"a .*Cache, which a graph cannot hold"):
        symbolic_trace(lambda x: (x, Cache()), {"x": META})
    with pytest.raises(NotRecordableError, match=r"at: .*test_errors.py:\d+"):
        symbolic_trace(lambda x: (x, Cache()), {"x": META})


def test_modules_made_on_the_way() -> None:
    def f(x: Any) -> Any:
        return nn.Linear(6, 2)(x)

    with pytest.raises(TracingError, match=r"(?s)Linear that is no submodule.*nn.Linear"):
        symbolic_trace(f, {"x": META})


def test_assigned_buffers_are_put_back() -> None:
    class Counter(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("seen", torch.zeros(6))

        def forward(self, x: Any) -> Any:
            self._buffers["seen"] = self.seen + x.sum(0)
            return x

    module = Counter()
    with pytest.raises(TracingError, match="assigns to the buffers seen"):
        symbolic_trace(module, {"x": META})
    assert isinstance(module.seen, Tensor) and torch.equal(module.seen, torch.zeros(6))


def test_errors_of_the_program_name_the_inputs_without_meta_values() -> None:
    def f(x: Any, y: Any = None) -> Any:
        if x is not None and y is not None:
            raise ValueError("give one of both")
        return x

    with pytest.raises(
        TracingError, match=r"raised ValueError while .*: give one of both"
    ) as caught:
        symbolic_trace(f, {"x": META})
    message = str(caught.value)
    assert "test_errors.py:" in message and 'raise ValueError("give one of both")' in message
    assert "the inputs y have no meta value" in message and "concrete_args={'y': None}" in message
    # Where nothing was left open, the error is the program's own.
    with pytest.raises(ValueError, match="give one of both") as own:
        symbolic_trace(f, {"x": META, "y": META})
    assert not isinstance(own.value, SymfxError)


def test_nothing_of_the_trace_stays_behind() -> None:
    before = (torch.zeros, torch.arange, nn.Module.__call__, nn.Module.__getattr__)
    with pytest.raises(ControlFlowError):
        symbolic_trace(by_data, {"x": META})
    assert before == (torch.zeros, torch.arange, nn.Module.__call__, nn.Module.__getattr__)
    assert torch.overrides._get_current_function_mode_stack() == []


@pytest.mark.parametrize("root", [torch.add, 3])
def test_callables_without_known_parameters(root: Any) -> None:
    with pytest.raises(TracingError, match="the names of its parameters are not known"):
        symbolic_trace(root, {"x": META})
