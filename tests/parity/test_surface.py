"""symfx has every name that torch's other packages use of these modules, with the same call."""

import importlib
import inspect
import json
from pathlib import Path

import pytest
import torch
from both import SYMFX, TORCH, symint
from torch_releases import STOCK_HAS_EVALUATE_SYMEXPR

USED = json.loads((Path(__file__).parent / "surface_names.json").read_text())
NAMES = [(module, name) for module, names in USED["modules"].items() for name in names]
# Names that neighboring releases have and torch 2.13 lacks.
ELSEWHERE = {"hint_int", "size_hint", "has_hint"}
# Flags of torch that have no meaning in symfx.
OF_TORCH_ALONE = {"codegen_config"}
# torch's own class names none of its parameters.
NAMES_ITS_PARAMETERS = {"ShapeGuardPythonPrinter"}


def parameters(function):
    """The parameters by name; None for a function without a signature."""
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return None


def check_calls(theirs, ours, name_of_both):
    """Each call of torch's function is a call of symfx's too."""
    there, here = parameters(theirs), parameters(ours)
    if there is None or here is None:
        return
    kinds = inspect.Parameter
    open_here = {p.kind for p in here.values()}
    for name, parameter in there.items():
        if parameter.kind is kinds.VAR_POSITIONAL:
            assert kinds.VAR_POSITIONAL in open_here, name_of_both
        elif parameter.kind is kinds.VAR_KEYWORD:
            continue  # torch passes them on to another function
        elif name not in here:
            by_name = parameter.kind is kinds.KEYWORD_ONLY
            needed = kinds.VAR_KEYWORD if by_name else kinds.VAR_POSITIONAL
            assert needed in open_here, f"{name_of_both} lacks the parameter {name}"
    for name, parameter in here.items():
        if name not in there and parameter.kind not in (kinds.VAR_POSITIONAL, kinds.VAR_KEYWORD):
            assert parameter.default is not kinds.empty, (
                f"{name_of_both} needs the parameter {name} besides"
            )


@pytest.mark.parametrize("module, name", NAMES)
def test_names(module, name):
    ours = getattr(importlib.import_module(f"symfx.{module}"), name)
    if name in ELSEWHERE:
        return
    theirs = getattr(importlib.import_module(f"torch.fx.experimental.{module}"), name)
    assert inspect.isclass(ours) or not inspect.isclass(theirs)
    if callable(theirs) and name not in NAMES_ITS_PARAMETERS:
        check_calls(theirs, ours, f"{module}.{name}")


@pytest.mark.parametrize("name", USED["ShapeEnv"])
def test_attributes_of_environments(name):
    theirs, ours = (m.ShapeEnv() for m in (TORCH, SYMFX))
    assert hasattr(ours, name)
    if name == "evaluate_symexpr" and not STOCK_HAS_EVALUATE_SYMEXPR:
        return
    if callable(getattr(theirs, name)):
        check_calls(getattr(theirs, name), getattr(ours, name), f"ShapeEnv.{name}")


@pytest.mark.parametrize("name", USED["SymNode"])
def test_attributes_of_nodes(name):
    theirs, ours = (symint(m, m.ShapeEnv(), 5).node for m in (TORCH, SYMFX))
    assert hasattr(ours, name)
    if name == "evaluate_symexpr" and not STOCK_HAS_EVALUATE_SYMEXPR:
        return
    if callable(getattr(theirs, name)):
        check_calls(getattr(theirs, name), getattr(ours, name), f"SymNode.{name}")


@pytest.mark.parametrize("name", sorted(set(USED["config"]) - OF_TORCH_ALONE))
def test_switches(name):
    import symfx.config

    theirs = getattr(torch.fx.experimental._config, name)
    assert name == "patch" or getattr(symfx.config, name) == theirs
