"""The type checker and the symbolic inference of symfx and of stock agree."""

from typing import Any

import pytest
import torch
import torch.fx.experimental.graph_gradual_typechecker as stock_checker
import torch.fx.experimental.unify_refinements as stock_refinements
from torch import nn
from torch.fx.annotate import annotate
from torch.fx.tensor_type import Dyn, TensorType

import symfx.graph_gradual_typechecker as checker
import symfx.unify_refinements as refinements


class ConvPool(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 5)
        self.pool = nn.MaxPool2d(2, 2)
        self.conv2 = nn.Conv2d(6, 16, 5)
        self.pool2 = nn.AdaptiveAvgPool2d((6, 7))
        self.fc = nn.Linear(672, 5)

    def forward(self, x: TensorType((4, 3, Dyn, Dyn))):
        x = self.pool(self.conv1(x))
        x = self.pool2(self.conv2(x))
        return self.fc(torch.flatten(x, 1))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 2, 3, padding=1)
        self.bn = nn.BatchNorm2d(2)
        self.relu = nn.ReLU()

    def forward(self, x: Dyn):
        identity = x
        out = annotate(self.conv1(x), TensorType((2, 2, Dyn, 4)))
        out = self.relu(self.bn(out))
        out += identity
        return out


class ResidualWrong(Residual):
    def forward(self, x: TensorType((2, 3, 4, 4))):
        out = self.relu(self.bn(x))
        return out


def adding(t1: Any, t2: Any) -> type[nn.Module]:
    class Adding(nn.Module):
        def forward(self, x: t1, y: t2):
            return torch.add(x, y)

    return Adding


def unary(t: Any, function: Any) -> type[nn.Module]:
    class Unary(nn.Module):
        def forward(self, x: t):
            return function(x)

    return Unary


CHECKED = {
    "convolutions": ConvPool,
    "residual": Residual,
    "residual wrong": ResidualWrong,
    "add known": adding(TensorType((1, 2, 3, Dyn)), TensorType((2, 3, 4))),
    "add partly known": adding(TensorType((1, 2)), TensorType((Dyn, 2))),
    "add crossed": adding(TensorType((Dyn, 2)), TensorType((3, Dyn))),
    "add unknown": adding(Dyn, TensorType((2, 3))),
    "add wrong": adding(TensorType((1, 2, 3)), TensorType((4, 2, 4))),
    "reshape": unary(TensorType((1, 6)), lambda x: torch.reshape(x, [1, 2, 3])),
    "reshape wrong": unary(TensorType((1, 5)), lambda x: torch.reshape(x, [1, 2, 3])),
    "reshape rest wrong": unary(TensorType((1, 5)), lambda x: torch.reshape(x, [1, 2, -1])),
    "reshape part wrong": unary(TensorType((Dyn, 5)), lambda x: torch.reshape(x, [1, 2, -1])),
    "reshape unknown": unary(Dyn, lambda x: torch.reshape(x, [1, 2, -1])),
    "transpose": unary(TensorType((1, 2, 3, 5)), lambda x: torch.transpose(x, 0, 1)),
    "transpose wrong": unary(TensorType((1, 2, 3, 5)), lambda x: torch.transpose(x, 0, 10)),
    "flatten": unary(TensorType((1, 2, 3, 5, Dyn)), lambda x: torch.flatten(x, 1)),
    "flatten unknown": unary(TensorType((1, Dyn, 3)), lambda x: torch.flatten(x, 1)),
    "flatten wrong": unary(TensorType((1, 2, 3)), lambda x: torch.flatten(x, 1, 5)),
}


def plain(type_: Any) -> Any:
    return tuple(type_.dims) if isinstance(type_, TensorType) else type_


@pytest.mark.parametrize("name", CHECKED)
def test_checker_and_symbolic_types(name: str) -> None:
    outcomes: list[Any] = []
    for check, refine in ((checker, refinements), (stock_checker, stock_refinements)):
        module = torch.fx.symbolic_trace(CHECKED[name]())
        try:
            check.GraphTypeChecker({}, module).type_check()
        except TypeError:
            outcomes.append("ill-typed")
            continue
        checked = [plain(node.type) for node in module.graph.nodes]
        refine.infer_symbolic_types(module)
        symbolic = [str(plain(node.type)) for node in module.graph.nodes]
        refined = check.Refine(module)
        refined.refine()
        outcomes.append((checked, symbolic, str(refined.constraints)))
    assert outcomes[0] == outcomes[1]


# -- where stock is wrong --------------------------------------------------------------------


def test_where_the_checker_of_stock_is_wrong() -> None:
    """Programs that run and that stock refuses, or types that are not those of eager."""

    class OneRow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(3, 4)

        def forward(self, x: TensorType((3,))):
            return self.fc(x)

    module = torch.fx.symbolic_trace(OneRow())
    assert checker.GraphTypeChecker({}, module).type_check()
    with pytest.raises(TypeError):
        stock_checker.GraphTypeChecker({}, torch.fx.symbolic_trace(OneRow())).type_check()

    class Image(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.MaxPool2d(2)

        def forward(self, x: TensorType((4, 8, 12))):
            return self.pool(x)

    class Pooled(nn.Module):
        def __init__(self, size: Any) -> None:
            super().__init__()
            self.pool = nn.AdaptiveAvgPool2d(size)

        def forward(self, x: TensorType((1, 4, 10, 20))):
            return self.pool(x)

    for check, dims in ((checker, (1, 4, 10, 3)), (stock_checker, (1, 4, 3, 3))):
        module = torch.fx.symbolic_trace(Pooled((None, 3)))
        check.GraphTypeChecker({}, module).type_check()
        assert plain(list(module.graph.nodes)[-1].type) == dims

    module = torch.fx.symbolic_trace(Image())
    assert checker.GraphTypeChecker({}, module).type_check()
    refinements.infer_symbolic_types(module)
    assert plain(list(module.graph.nodes)[-1].type) == (4, 4, 6)

    def symbolic(library: Any, function: Any, type_: Any) -> str:
        module = torch.fx.symbolic_trace(unary(type_, function)())
        check, refine = library
        check.GraphTypeChecker({}, module).type_check()
        refine.infer_symbolic_types(module)
        return str(plain(list(module.graph.nodes)[-1].type))

    ours, theirs = (checker, refinements), (stock_checker, stock_refinements)
    # The dimensions behind the flattened ones are those behind them, not those at their places.
    part = (lambda x: torch.flatten(x, 1, 2)), TensorType((1, 2, 3, 5, Dyn))
    assert (symbolic(ours, *part), symbolic(theirs, *part)) == ("(1, 6, 5, ~0)", "(1, 6, 5, 5)")
    last = (lambda x: torch.flatten(x, -2)), TensorType((4, 8, 12))
    assert (symbolic(ours, *last), symbolic(theirs, *last)) == ("(4, 96)", "(4, 8, 12)")
    for (check, refine), same in ((ours, True), (theirs, False)):
        swap = unary(TensorType((1, 2, Dyn)), lambda x: torch.transpose(x, 0, 1))
        module = torch.fx.symbolic_trace(swap())
        check.GraphTypeChecker({}, module).type_check()
        refine.infer_symbolic_types(module)
        x, swapped, _ = (plain(node.type) for node in module.graph.nodes)
        assert (x[2] == swapped[2]) is same
    rest = (lambda x: torch.reshape(x, [1, 5, -1])), TensorType((1, 15))
    assert (symbolic(ours, *rest), symbolic(theirs, *rest)) == ("(1, 5, 3)", "(1, 5, ~0)")
