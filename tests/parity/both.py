"""torch's modules and symfx's side by side: `TORCH` and `SYMFX` have the same names."""

from types import SimpleNamespace

import torch
import torch.fx.experimental.sym_node as torch_nodes
import torch.fx.experimental.symbolic_shapes as torch_shapes
from torch._dynamo.source import ConstantSource
from torch._subclasses.fake_tensor import FakeTensorMode

import symfx.sym_node as symfx_nodes
import symfx.symbolic_shapes as symfx_shapes


def _namespace(name, *modules):
    names = {}
    for module in modules:
        names.update(vars(module))
    names.update(name=name, modules=modules)
    return SimpleNamespace(**names)


TORCH = _namespace("torch", torch_nodes, torch_shapes)
SYMFX = _namespace("symfx", symfx_nodes, symfx_shapes)
BOTH = [TORCH, SYMFX]


def name_of(value):
    return getattr(value, "name", None)


def symbol(m, env, kind, pytype, value, duck=True):
    """A symbolic number with a value, made as torch's own tests make them."""
    source = ConstantSource(f"__testing_only{len(env.backed_var_to_val)}")
    dynamic = m.DimDynamic.DUCK if duck else m.DimDynamic.DYNAMIC
    expr = env.create_symbol(value, source=source, dynamic_dim=dynamic, constraint_dim=None)
    return kind(m.SymNode(expr, env, pytype, hint=value))


def symint(m, env, value, duck=True):
    return symbol(m, env, torch.SymInt, int, value, duck)


def symfloat(m, env, value):
    return symbol(m, env, torch.SymFloat, float, value)


def fake(m, env, real, kinds=None, **context):
    """A tensor made symbolic; all dimensions are DYNAMIC if no kinds are given."""
    kinds = [m.DimDynamic.DYNAMIC] * real.dim() if kinds is None else kinds
    given = m.StatelessSymbolicContext(dynamic_sizes=kinds, **context)
    with FakeTensorMode(shape_env=env) as mode:
        return mode.from_tensor(real, symbolic_context=given, source=ConstantSource("x"))
