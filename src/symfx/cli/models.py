"""The model that a command line names: ``package.module:attribute`` or ``file.py:attribute``.

The arguments of a class stand behind its name, ``torch.nn:Linear(8, 4)``, or in ``--init``.
"""

from __future__ import annotations

import ast
import difflib
import importlib
import importlib.util
import inspect
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from symfx.cli.steps import progress
from symfx.collection import uncollected
from symfx.errors import TargetError
from symfx.user_code import where

__all__ = ["load", "read_init"]

_FORM = "name a {} as module:attribute or file.py:attribute, such as torch.nn:{}"
#: A module or a file, an attribute, and arguments in parentheses.
_TARGET = re.compile(r"(?P<place>.+?):(?P<attribute>\w[\w.]*)(?P<call>\(.*\))?", re.DOTALL)


def load(target: str, init: Sequence[str] = (), option: str = "TARGET") -> Callable[..., Any]:
    """The model that a target names.

    A class is called with the arguments of ``init`` and those in parentheses behind its name, and
    so is a function if there are arguments or parentheses; the result is the model. Any other
    object is the model itself. Arguments are literals of Python.
    The file's directory and the current directory are put on ``sys.path``.

    Args:
        target: the target.
        init: arguments for building the model, each ``name=value``; see `read_init`.
        option: where the target stands on the command line; behind ``--loss`` it is a loss.

    Raises:
        TargetError: the module or the attribute does not exist, the model cannot be built, its
            code fails, or the result cannot be called.

    Example:
        >>> load("torch.nn:Linear", ["in_features=8", "out_features=4"])
        Linear(in_features=8, out_features=4, bias=True)
    """
    kind = "loss" if option == "--loss" else "model"
    form = _FORM.format(kind, "CrossEntropyLoss" if kind == "loss" else "Linear")
    parts = _TARGET.fullmatch(target)
    if parts is None:
        raise TargetError(f"{target!r} does not name a {kind}", where=option, fix=form)
    place, attribute, call = parts["place"], parts["attribute"], parts["call"]
    values, arguments = _called_with(call, option) if call else ([], {})
    for name, value in read_init(init).items():
        if name in arguments:
            raise TargetError(f"{name!r} is given twice", where="--init", fix="give it once")
        arguments[name] = value
    with progress(f"making the {kind}"), uncollected():
        module = _from_file(place) if place.endswith(".py") else _from_name(place, option, form)
        found = _attribute(module, place, attribute, form)
        makes = kind == "loss" and inspect.isfunction(found) and not found.__code__.co_argcount
        if inspect.isclass(found) or arguments or call or makes:
            found = _build(found, attribute, values, arguments)
    if not callable(found):
        raise TargetError(
            f"{attribute} in {place} is a {type(found).__name__}, which cannot be called",
            where=target,
            fix="name a torch.nn.Module, a function, or a class or function that makes one",
        )
    # What torch.compile returns wraps the model, and is no model of its own.
    return getattr(found, "_orig_mod", found)  # type: ignore[no-any-return]


def _called_with(call: str, option: str) -> tuple[list[Any], dict[str, Any]]:
    """The arguments in parentheses; they are literals, as no code of the command line is run."""
    fix = "write arguments as literals: (8, bias=False); a function in a file can make others"
    try:
        tree = ast.parse(f"f{call}", mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise TargetError(f"{call} cannot be read as arguments", where=option, fix=fix) from None
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise TargetError(f"{call} cannot be read as arguments", where=option, fix=fix)
    given = [*tree.args, *(keyword.value for keyword in tree.keywords)]
    values = []
    for each in given:
        try:
            values.append(ast.literal_eval(each))
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            raise TargetError(
                f"the argument {ast.unparse(each)} is no literal", where=option, fix=fix
            ) from None
    names = [keyword.arg for keyword in tree.keywords]
    if None in names:
        raise TargetError("** is no argument that can be read", where=option, fix=fix)
    plain = values[: len(tree.args)]
    return plain, {str(name): v for name, v in zip(names, values[len(plain) :], strict=True)}


def read_init(items: Sequence[str]) -> dict[str, Any]:
    """The arguments ``name=value`` for building a model.

    A value is a Python literal, ``true`` or ``false``; anything else is text. No code is run.

    Raises:
        TargetError: an item has no name, or a name comes twice.

    Example:
        >>> read_init(["layers=2", "norm=pre", "bias=false", "shape=(2, 3)"])
        {'layers': 2, 'norm': 'pre', 'bias': False, 'shape': (2, 3)}
    """
    arguments: dict[str, Any] = {}
    for item in items:
        name, equals, text = item.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise TargetError(
                f"{item!r} is not name=value", where="--init", fix="write --init layers=2"
            )
        if name in arguments:
            raise TargetError(f"{name!r} is given twice", where="--init", fix="give it once")
        arguments[name] = _literal(text.strip())
    return arguments


def _literal(text: str) -> Any:
    # Python's literals are capitalized; "false" must not become a text, which counts as true.
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _from_file(place: str) -> ModuleType:
    path = Path(place).expanduser().absolute()
    if not path.is_file():
        raise TargetError(f"there is no file {place}", where=str(path.parent), fix="check the path")
    name = path.stem
    _importable(str(path.parent))
    if name in sys.modules or not name.isidentifier():
        name = f"symfx_target_{abs(hash(path))}"  # hides no module that is loaded
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"{place} cannot be loaded as Python", where=place, fix="check the file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look it up
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise _failure(f"{place} cannot be loaded", error) from error
    return module


def _from_name(place: str, option: str, form: str) -> ModuleType:
    if not all(part.isidentifier() for part in place.split(".")):
        raise TargetError(f"{place!r} is not the name of a module", where=option, fix=form)
    _importable(os.getcwd())
    try:
        return importlib.import_module(place)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if place != missing and not place.startswith(missing + "."):
            raise _failure(f"the module {place} cannot be loaded", error) from error
        hint = (
            f"{place}.py is a file: write {place}.py:..."
            if Path(f"{place}.py").is_file()
            else "check the name; the module must be installed or in the current directory"
        )
        raise TargetError(f"there is no module {missing}", where=place, fix=hint) from None
    except (Exception, SystemExit) as error:
        raise _failure(f"the module {place} cannot be loaded", error) from error


def _importable(directory: str) -> None:
    """Put a directory on ``sys.path``."""
    if directory not in sys.path:
        sys.path.insert(0, directory)


def _attribute(module: ModuleType, place: str, attribute: str, form: str) -> Any:
    found: Any = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            usable = (
                [
                    name
                    for name, value in vars(found).items()
                    if not name.startswith("_") and callable(value)
                ]
                if hasattr(found, "__dict__")
                else []
            )
            near = difflib.get_close_matches(part, usable, n=1)
            fix = f"did you mean {near[0]}?" if near else None
            if fix is None and usable:
                fix = f"it has {', '.join(usable[:8])}" + (", ..." if len(usable) > 8 else "")
            raise TargetError(
                f"{place} has no attribute {attribute!r}", where=place, fix=fix or form
            ) from None
    return found


def _build(factory: Any, name: str, values: list[Any], arguments: dict[str, Any]) -> Any:
    if not callable(factory) or (hasattr(factory, "forward") and not inspect.isclass(factory)):
        raise TargetError(
            f"{name} is an instance of {type(factory).__name__}, which takes no arguments",
            where=name,
            fix="leave its arguments and --init out, or name its class instead",
        )
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        signature = None
    if signature is not None:
        try:
            signature.bind(*values, **arguments)
        except TypeError as error:
            raise TargetError(
                f"{name} cannot be built: {error}",
                where=f"{name}{signature}",
                fix=_near_argument(arguments, signature)
                or "give its arguments as --init name=value",
            ) from None
    try:
        return factory(*values, **arguments)
    except (Exception, SystemExit) as error:
        raise _failure(f"{name} cannot be built", error) from error


def _near_argument(arguments: dict[str, Any], signature: inspect.Signature) -> str | None:
    """What to write for the first argument that the signature does not have, if one is near."""
    names = {name.lower(): name for name in signature.parameters}
    for name, value in arguments.items():
        if name not in signature.parameters:
            near = difflib.get_close_matches(name.lower(), names, n=1)
            return f"did you mean {names[near[0]]}={value}?" if near else None
    return None


def _failure(what: str, error: BaseException) -> TargetError:
    """The error for an exception in the user's code, with the line that raised it."""
    if isinstance(error, TargetError):
        return error
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    lines = message.strip().splitlines()
    detail = f": {lines[0]}" if lines else ""
    return TargetError(
        f"{what}: {type(error).__name__}{detail}", where=where(error), fix="correct this line"
    )
