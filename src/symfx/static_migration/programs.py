"""Programs that are no module of the user's: a function, and a model together with its loss.

Both become modules with keyword arguments alone, so that everything that captures or runs a module
takes them too. `input_parameters` has the parameters of any program by name.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType
from typing import Any

import torch

from symfx.errors import SpecError
from symfx.user_code import is_user_file

__all__ = [
    "FunctionProgram",
    "ModelWithLoss",
    "Program",
    "input_parameters",
    "program_name",
    "used_namespaces",
]


class Program(torch.nn.Module):
    """A program with inputs that its ``forward`` does not name.

    Args:
        parameters: the parameters of the program, by the name of the input.
    """

    def __init__(self, parameters: Mapping[str, inspect.Parameter]) -> None:
        super().__init__()
        self.inputs = dict(parameters)

    def rewritten(self, rewrite: Callable[[Any], Any]) -> Program:
        """A copy in which the user's code is rewritten.

        Args:
            rewrite: rewrites a module or a function.
        """
        raise NotImplementedError


class FunctionProgram(Program):
    """A function as a module.

    Args:
        function: the function.
        given: the names of the inputs that the user describes, in order. They name the parameters
            of a function without a signature.
    """

    def __init__(self, function: Callable[..., Any], given: Iterable[str] = ()) -> None:
        positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
        try:
            parameters = dict(inspect.signature(function).parameters)
        except (TypeError, ValueError):  # a builtin such as torch.relu has none
            parameters = {name: inspect.Parameter(name, positional) for name in given}
        super().__init__(parameters)
        self.function = function

    def forward(self, **inputs: Any) -> Any:
        """Call the function."""
        by_position: list[Any] = []
        for name, parameter in self.inputs.items():
            if name not in inputs or parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                break
            by_position.append(inputs.pop(name))
        return self.function(*by_position, **inputs)

    def rewritten(self, rewrite: Callable[[Any], Any]) -> FunctionProgram:
        """A copy in which the function is rewritten, if it is the user's."""
        copied = copy.copy(self)
        function = self.function
        if isinstance(function, FunctionType) and is_user_file(function.__code__.co_filename):
            copied.function = rewrite(function)
        return copied


class ModelWithLoss(Program):
    """A model and the loss of its result.

    An input that the model does not take goes to the loss: under its name, if the loss has a
    parameter of this name, and otherwise as the next argument.

    Args:
        model: the model.
        loss: a module or a function; its first argument is the result of the model.
        given: the names of the inputs that the user describes, in order.

    Raises:
        SpecError: the loss takes no further input.
    """

    def __init__(
        self, model: torch.nn.Module, loss: Callable[..., Any], given: Iterable[str]
    ) -> None:
        of_model = input_parameters(model)
        further = [name for name in given if name not in of_model]
        loss = loss if isinstance(loss, torch.nn.Module) else FunctionProgram(loss, ["_", *further])
        of_loss = list(input_parameters(loss).values())[1:]
        parameters = dict(of_model)
        names: dict[str, str] = {}
        for name in further:
            free = [each for each in of_loss if each.name not in names.values()]
            named = [each for each in free if each.name == name]
            if not free:
                raise SpecError(
                    f"neither the model nor the loss takes the input {name}",
                    where="--input",
                    fix=f"the model takes {', '.join(of_model) or 'nothing'}, the loss "
                    f"{', '.join(each.name for each in of_loss) or 'nothing further'}",
                )
            taken = (named or free)[0]
            names[name] = taken.name
            parameters[name] = taken.replace(name=name)
        super().__init__(parameters)
        self.model, self.loss = model, loss
        self._names = names

    def forward(self, **inputs: Any) -> Any:
        """Call the model, and then the loss."""
        further = {to: inputs.pop(name) for name, to in self._names.items() if name in inputs}
        result = self.model(**inputs)
        if isinstance(self.loss, FunctionProgram):
            first = next(iter(self.loss.inputs))
            return self.loss(**{first: result, **further})
        return self.loss(result, **further)

    def rewritten(self, rewrite: Callable[[Any], Any]) -> ModelWithLoss:
        """A copy in which the model and the loss are rewritten."""
        copied = copy.copy(self)
        copied._modules = {
            name: part.rewritten(rewrite) if isinstance(part, Program) else rewrite(part)
            for name, part in self._modules.items()
        }
        return copied


def input_parameters(program: torch.nn.Module) -> dict[str, inspect.Parameter]:
    """The parameters of a program, by the name of the input."""
    if isinstance(program, Program):
        return dict(program.inputs)
    return dict(inspect.signature(program.forward).parameters)


def program_name(program: torch.nn.Module) -> str:
    """The name of a program for messages: of its class, or of its function."""
    if isinstance(program, ModelWithLoss):
        return program_name(program.model)
    if isinstance(program, FunctionProgram):
        return str(getattr(program.function, "__name__", type(program.function).__name__))
    return type(program).__name__


def used_namespaces(root: torch.nn.Module) -> Iterator[dict[str, Any]]:
    """The globals of the user's functions that a program consists of."""
    for module in root.modules():
        function = module.function if isinstance(module, FunctionProgram) else type(module).forward
        plain: Any = inspect.unwrap(function)
        if inspect.isfunction(plain) and is_user_file(plain.__code__.co_filename):
            yield plain.__globals__
