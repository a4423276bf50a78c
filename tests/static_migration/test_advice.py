"""The advice of `typecheck`: warnings, hints for mends, open branches, functions and losses."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from typer.testing import CliRunner

from symfx.cli import app
from symfx.errors import SpecError
from symfx.static_migration import Migration, migrate, typecheck
from symfx.static_migration.conditions import parse_input

HERE = __file__


class Made(nn.Module):
    """A module whose ``forward`` is a function of the test."""

    def __init__(self, function: Any, **layers: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x, y=None):
        return self.function(self, x) if y is None else self.function(self, x, y)


def check(program: Any, *inputs: str, where: tuple[str, ...] = (), **options: Any) -> Migration:
    if isinstance(program, nn.Module):
        program.eval()
    return typecheck(program, dict(map(parse_input, inputs)), where, **options)


def output_of(found: Migration) -> str:
    assert found.verdict == "well-typed", str(found)
    return found.shapes[found.graph.output_node()]


# -- warnings ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x, y: F.mse_loss(m.fc(x), y),
        lambda m, x, y: F.l1_loss(y, m.fc(x)),
        lambda m, x, y: ((m.fc(x) - y) ** 2).mean(),
        lambda m, x, y: (m.fc(x).round() == y).float().mean(),
        lambda m, x, y: torch.where(m.fc(x) > y, 1.0, 0.0),
        lambda m, x, y: y * torch.sigmoid(m.fc(x)),
        lambda m, x, y: x.sum(1, keepdim=True) - y,
    ],
)
@pytest.mark.parametrize("n", ["n", "16"])
def test_a_column_with_a_vector_is_a_warning(function: Any, n: str) -> None:
    found = check(Made(function, fc=nn.Linear(8, 1)), f"x: [{n}, 8]", f"y: [{n}]")
    assert found.verdict == "well-typed" and len(found.warnings) == 1, str(found)
    assert f"[{n}, 1]" in found.warnings[0] and f"[{n}]" in found.warnings[0]
    assert "test_advice.py:" in found.warnings[0]


@pytest.mark.parametrize(
    "function",
    [
        lambda m, x, y: F.mse_loss(m.fc(x).squeeze(1), y),
        lambda m, x, y: F.mse_loss(m.fc(x).sum(), y.sum()),
        lambda m, x, y: y[:, None] == y,  # all pairs
        lambda m, x, y: y.unsqueeze(1) * 2 - y,
        lambda m, x, y: torch.arange(9)[:, None] >= torch.arange(9),
        lambda m, x, y: m.fc(x) - y[:, None],
        lambda m, x, y: x * y.unsqueeze(-1),
        lambda m, x, y: x + m.fc.bias,
        lambda m, x, y: x @ x.transpose(0, 1),
    ],
)
def test_broadcasts_that_are_meant_are_silent(function: Any) -> None:
    found = check(Made(function, fc=nn.Linear(8, 1)), "x: [n, 8]", "y: [n]")
    assert found.verdict == "well-typed" and not found.warnings, str(found)


def test_a_result_with_one_name_twice_is_a_warning() -> None:
    found = check(Made(lambda m, x, y: x * y), "x: [n, 1, k]", "y: [n, k]")
    assert len(found.warnings) == 1 and "[n, n, k]" in found.warnings[0]


# -- hints -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "layer", "inputs", "hint"),
    [
        (lambda m, x: m.f(x), nn.Conv2d(3, 4, 3), ["[n, 9, 9, 3]"], "3 is last: x.permute(0, 3, 1, 2)"),
        (lambda m, x: m.f(x), nn.Conv2d(3, 4, 3), ["[n, h, w, 3]"], "3 is last: x.permute(0, 3, 1, 2)"),
        (lambda m, x: m.f(x), nn.Conv1d(3, 4, 3), ["[n, 9, 3]"], "x.transpose(1, 2)"),
        (lambda m, x: m.f(x), nn.BatchNorm2d(3), ["[3, 9, 9]"], "x.unsqueeze(0)"),
        (lambda m, x: m.f(x), nn.Linear(12, 4), ["[n, 3, 4]"], "x.flatten(1)"),
        (lambda m, x, y: x @ y, None, ["[n, 4]", "[m, 4]"], "y.transpose(0, 1)"),
        (lambda m, x, y: x.gather(1, y), None, ["[n, 4]", "i64[n]"], "y.unsqueeze(-1)"),
        (lambda m, x, y: torch.cat([x, y], 1), None, ["[n, 4]", "[n]"], "y.unsqueeze(-1)"),
        (lambda m, x, y: F.cross_entropy(x, y), None, ["[n, 4]", "i64[n, 1]"], "y.squeeze(1)"),
        (lambda m, x, y: F.cross_entropy(x, y), None, ["[n, t, 4]", "i64[n, t]"], "x.transpose(1, 2)"),
        (lambda m, x, y: x * y, None, ["[n, t, 4]", "[n, t]"], "y.unsqueeze(-1)"),
    ],
)  # fmt: skip
def test_a_mend_that_fits_is_offered(
    function: Any, layer: Any, inputs: list[str], hint: str
) -> None:
    layers = {} if layer is None else {"f": layer}
    given = [f"{name}: {text}" for name, text in zip("xy", inputs, strict=False)]
    found = check(Made(function, **layers), *given)
    hints = [found.conflict.hint] if found.conflict else []
    hints += [part.hint for part in (*found.fixed, *found.excluded)]
    assert hints and hints[0].endswith(f"{hint}?"), str(found)


def test_no_mend_is_offered_where_none_fits() -> None:
    wrong = [
        (Made(lambda m, x: m.f(x), f=nn.Linear(9, 4)), ["x: [n, 8]"]),
        (Made(lambda m, x, y: x + y), ["x: [2, 8, 4, 4]", "y: [2, 16, 4, 4]"]),
        (Made(lambda m, x: m.f(x), f=nn.Conv2d(16, 4, 3)), ["x: [n, 8, h, w]"]),
    ]
    for program, inputs in wrong:
        conflict = check(program, *inputs).conflict
        assert conflict is not None and not conflict.hint


class Unpacking(nn.Module):
    """torch.fx needs the shape behind the operator that fails: its graph ends there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, images):
        features = self.conv(images)
        n, c, *rest = features.shape
        return features.view(n, c, rest[0] * rest[1])


def test_a_hint_is_checked_by_tracing_the_mended_program() -> None:
    conflict = check(Unpacking(), "images: [n, 9, 9, 3]").conflict
    assert conflict is not None and "images.permute(0, 3, 1, 2)?" in conflict.hint
    mended = Unpacking()
    mended.forward = lambda images: Unpacking.forward(mended, images.permute(0, 3, 1, 2))  # type: ignore[method-assign]
    assert mended(torch.zeros(2, 9, 9, 3)).shape == (2, 8, 49)


# -- branches ----------------------------------------------------------------------------


def test_each_path_of_an_open_branch_is_typed() -> None:
    def pooled(m, x):
        return x.mean(1) if x.size(1) > 4 else x

    found = check(Made(pooled), "x: [n, t, 8]")
    assert [path.shapes[path.graph.output_node()] for path in found.paths] == [
        "[n, 8]",
        "[n, t, 8]",
    ]
    assert [path.conditions for path in found.paths] == [["t >= 5"], ["t <= 4"]]
    assert output_of(found) == "Dyn" and not found.excluded
    assert "where t >= 5" in str(found) and "where t <= 4" in str(found)


def test_paths_with_one_result_are_one_program() -> None:
    def kernels(m, x):
        return torch.bmm(x, x.mT) if x.size(1) > 1 else (x * x).sum(-1, keepdim=True)

    found = check(Made(kernels), "x: [n, t, 8]")
    assert output_of(found) == "[n, t, t]" and not found.paths and not found.conditions
    assert "another path has the same result: where t == 1" in str(found)


def test_parameters_have_shapes_while_torch_fx_traces() -> None:
    def needs_rank(m, x):
        h = x + m.fc.bias
        return h.reshape(*h.shape[:-1], 2, -1)

    assert output_of(check(Made(needs_rank, fc=nn.Linear(8, 8)), "x: [n, t, 8]")) == "[n, t, 2, 4]"


def test_a_tensor_has_no_attributes_that_tensors_lack() -> None:
    def asks(m, x):
        return x.jax() if hasattr(x, "jax") else x.type_as(x)

    assert output_of(check(Made(asks), "x: [n, 8]")) == "[n, 8]"


def test_a_bug_on_one_path_is_found_with_its_branch() -> None:
    def branching(m, x):
        if x.size(1) > 4:
            return m.fc(x)
        return m.fc(x[:, :3])

    conflict = check(Made(branching, fc=nn.Linear(8, 2)), "x: [n, 8]").conflict
    assert conflict is None
    found = check(Made(branching, fc=nn.Linear(8, 2)), "x: [8, t]")
    assert found.verdict == "ill-typed" and "where t <= 4" in str(found)
    assert "m.fc(x[:, :3])" in str(found)


def test_a_program_that_branches_on_data_keeps_the_explanation() -> None:
    def branching(m, x):
        h = m.fc(x)
        if h.sum() > 0:
            h = h * 2
        return m.head(h)

    wrong = Made(branching, fc=nn.Linear(8, 4), head=nn.Linear(5, 2))
    found = check(wrong, "x: [n, 8]")
    assert found.verdict == "ill-typed"
    assert "head = Linear(5, 2)" in str(found) and "return m.head(h)" in str(found)
    right = Made(branching, fc=nn.Linear(8, 5), head=nn.Linear(5, 2))
    assert output_of(check(right, "x: [n, 8]")) == "[n, 2]"


def test_squeeze_is_typed_for_both_sizes() -> None:
    def classify(m, x, y):
        return F.cross_entropy(m.fc(x.squeeze()), y)

    found = check(Made(classify, fc=nn.Linear(8, 3)), "x: [n, 8, 1, 1]", "y: i64[n]")
    assert found.verdict == "well-typed" and found.conditions == ["n >= 2"]
    (excluded,) = found.excluded
    assert excluded.sizes == {"n": 1} and "x.squeeze()" in excluded.origin
    harmless = check(Made(lambda m, x: m.fc(x).squeeze() + 1, fc=nn.Linear(8, 1)), "x: [n, 8]")
    assert harmless.verdict == "well-typed" and not harmless.excluded
    assert [path.shapes[path.graph.output_node()] for path in harmless.paths] == ["[n]", "[]"]


class Trying(nn.Module):
    def forward(self, x):
        try:
            return x.view(x.size(0), -1, 3)
        except RuntimeError:
            return x.view(x.size(0), -1)


def test_try_around_a_view_is_followed() -> None:
    assert output_of(check(Trying(), "x: [n, 9]")) == "[n, 3, 3]"
    assert output_of(check(Trying(), "x: [n, 8]")) == "[n, 8]"
    found = check(Trying(), "x: [n, k]")
    assert [path.shapes[path.graph.output_node()] for path in found.paths] == [
        "[n, k//3, 3]",
        "[n, k]",
    ]
    assert not found.excluded


class TryingInVain(nn.Module):
    def forward(self, x):
        try:
            return x.view(x.size(0), -1, 3)
        except KeyError:
            return x


def test_an_error_that_the_program_does_not_catch_is_explained() -> None:
    found = check(TryingInVain(), "x: [n, 8]")
    assert found.verdict == "ill-typed" and "return x.view(x.size(0), -1, 3)" in str(found)


# -- functions, losses, batches ----------------------------------------------------------

layer = nn.Linear(8, 4)


def step(x, y, weight=0.5):
    return weight * F.mse_loss(layer(x), y)


def test_functions_are_checked() -> None:
    assert output_of(check(step, "x: [n, 8]", "y: [n, 4]")) == "[]"
    found = check(step, "x: [n, 9]", "y: [n, 4]")
    assert found.verdict == "ill-typed" and "layer(x)" in str(found)
    assert output_of(check(F.softmax, "input: [n, 8]")) == "[n, 8]"
    assert output_of(check(torch.relu, "input: [n, 8]")) == "[n, 8]"


def test_layers_in_a_list_are_layers() -> None:
    layers = [nn.Linear(8, 8) for _ in range(2)]
    found = check(lambda x: layers[1](layers[0](x)), "x: [n, 8]")
    assert output_of(found) == "[n, 8]" and len(found.graph.nodes) == 4


def test_a_loss_is_checked_with_its_model() -> None:
    model = nn.Sequential(nn.Linear(8, 5))
    loss = nn.CrossEntropyLoss()
    assert output_of(check(model, "input: [n, 8]", "target: i64[n]", loss=loss)) == "[]"
    assert output_of(check(model, "input: [n, 8]", "labels: i64[n]", loss=F.cross_entropy)) == "[]"
    found = check(model, "input: [n, 8]", "y: i64[n, 1]", loss=loss)
    assert found.conflict is not None and "y.squeeze(1)" in found.conflict.hint
    warned = check(nn.Linear(8, 1), "input: [n, 8]", "y: [n]", loss=nn.MSELoss())
    assert len(warned.warnings) == 1
    with pytest.raises(SpecError, match="neither the model nor the loss takes the input more"):
        check(model, "input: [n, 8]", "y: i64[n]", "more: i64[n]", loss=loss)


def test_the_last_batch_is_an_input_of_its_own() -> None:
    fixed = Made(lambda m, x: x.view(64, -1))
    assert check(fixed, "x: [64, 1, 28, 28]")
    last = check(fixed, "x: [64, 1, 28, 28]", last_batch=15)
    assert last.verdict == "ill-typed" and "for the last batch, x: [15, 1, 28, 28]" in str(last)
    assert check(Made(lambda m, x: x.view(x.size(0), -1)), "x: [64, 1, 28, 28]", last_batch=15)
    given = check(fixed, "x: [64, 1, 28, 28]", last_batch={"x": "[15, 1, 2, 2]"})
    assert "for the last batch, x: [15, 1, 2, 2]" in str(given)
    with pytest.raises(SpecError, match="the program none of this name"):
        check(fixed, "x: [64, 1, 28, 28]", last_batch={"z": "[15]"})


# -- names, offers -----------------------------------------------------------------------


def test_each_name_of_a_size_is_shown_by_an_input() -> None:
    conflict = check(Made(lambda m, x: m.f(x), f=nn.Linear(3, 4)), "x: [?, 5]").conflict
    assert conflict is not None and "x: [x_0, 5], where you wrote [Dyn, 5]" in str(conflict)
    every = migrate(torch.fx.symbolic_trace(lambda x, y: x.flatten(1).sum(1) + y))
    assert every.inputs["x"] == "Dyn" and "x_0" not in str(every)


def test_an_unknown_size_is_no_size_that_the_user_named() -> None:
    found = check(Made(lambda m, x, y: (x.relu(), y)), "x: [?, 3]", "y: [x_0, 4]")
    assert found.inputs["x"] == "[x_0_, 3]" and found.inputs["y"] == "[x_0, 4]"


def test_offered_inputs_run_in_eager() -> None:
    class OnData(nn.Module):
        def forward(self, x, y):
            return x[y > 2] + x  # the number of rows depends on data

    found = check(OnData(), "x: [4, 3]", "y: [5]")
    assert found.conflict is not None and found.conflict.example is None
    wrong = Made(lambda m, x: m.f(x), f=nn.Conv2d(3, 4, 3))
    example = check(wrong, "x: [2, 4, 5, 5]").conflict.example  # type: ignore[union-attr]
    assert example is not None and wrong(torch.zeros(*example["x"])).shape[1] == 4


# -- the command -------------------------------------------------------------------------


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)
        self.fc = nn.Linear(8, 1)

    def forward(self, x):
        return self.fc(self.norm(x))


def run(*args: str) -> Any:
    return CliRunner().invoke(app, ["typecheck", *args])


def test_warnings_are_errors_under_strict() -> None:
    target = [f"{HERE}:Classifier", "-i", "x: [n, 8]", "-i", "y: [n]", "--loss", "torch.nn:MSELoss"]
    done = run(*target)
    assert done.exit_code == 0 and "warning: a loss of [n, 1] with [n]" in done.stdout
    assert run(*target, "--strict").exit_code == 1
    assert json.loads(run(*target, "--json").stdout)["warnings"]


def test_train_is_another_mode() -> None:
    target = [f"{HERE}:Classifier", "-i", "x: [1, 8]"]
    assert run(*target).exit_code == 0
    done = run(*target, "--train")
    assert done.exit_code == 1 and "while training" in done.stdout


def test_options_of_the_command() -> None:
    assert run(f"{HERE}:step", "-i", "x: [n, 8]", "-i", "y: [n, 4]").exit_code == 0
    view = [f"{HERE}:Trying", "-i", "x: [6, 9]"]
    assert run(*view, "--last-batch", "5").exit_code == 0
    assert run(*view, "--last-batch", "x: [5, 8]").exit_code == 0
    assert run(*view, "--last-batch", "z: [5, 8]").exit_code == 2
    assert run(*view, "--loss", "torch.nn:Nothing").exit_code == 2
    paths = json.loads(run(f"{HERE}:Trying", "-i", "x: [n, k]", "--json").stdout)["paths"]
    assert [path["where"] for path in paths] == [["k % 3 == 0"], ["k % 3 != 0"]]


class Normalized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(8)

    def forward(self, x):
        return self.norm(x)


def test_training_needs_several_values_of_each_channel() -> None:
    found = typecheck(Normalized().train(), {"x": "[n, 8]"})
    assert [excluded.condition for excluded in found.excluded] == ["n >= 2"]
    assert not typecheck(Normalized().eval(), {"x": "[n, 8]"}).excluded
    assert not typecheck(Normalized().train(), {"x": "[n, 8]"}, ["n >= 2"]).excluded
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        Normalized().train()(torch.zeros(1, 8))


def test_an_offered_input_is_close_to_the_one_that_was_written() -> None:
    layers = (nn.Conv2d(3, 6, 5), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.MaxPool2d(2))
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * 4 * 4, 10))
    conflict = check(model, "input: f32[2, 3, 32, 32]").conflict
    assert conflict is not None and conflict.example == {"input": (2, 3, 31, 31)}
    model(torch.zeros(2, 3, 31, 31))
    one = nn.Sequential(nn.Conv2d(1, 4, 5), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(400, 10))
    conflict = check(one, "input: f32[n, 1, 28, 28]").conflict
    assert conflict is not None and conflict.example == {"input": (1, 1, 25, 25)}


def test_a_missing_dimension_is_put_where_the_sizes_differ() -> None:
    masked = Made(lambda m, x, y: x.masked_fill(y, 0.0))
    conflict = check(masked, "x: f32[3, 4, 5, 5]", "y: bool[3, 1, 5]").conflict
    assert conflict is not None and conflict.hint.endswith("y.unsqueeze(1)?")
    scaled = Made(lambda m, x, y: x / y)
    conflict = check(scaled, "x: f32[10, 16]", "y: f32[10]").conflict
    assert conflict is not None and conflict.hint.endswith("y.unsqueeze(-1)?")


def test_a_dimension_too_many_is_one_that_the_program_puts() -> None:
    def smoothed(m: Any, x: Any, y: Any) -> Any:
        return torch.full_like(x, 0.1).scatter_(1, y.unsqueeze(1), 0.9)

    conflict = check(Made(smoothed), "x: f32[6, 8]", "y: i64[3, 2]").conflict
    assert conflict is not None
    assert conflict.hint == "a dimension too many: y without unsqueeze(1)?"


def test_the_tensor_that_is_changed_is_no_argument_to_mend() -> None:
    def added(m: Any, x: Any, y: Any) -> Any:
        total = x.sum(1)
        total += y
        return total

    conflict = check(Made(added), "x: f32[4, 3]", "y: f32[4, 1]").conflict
    assert conflict is not None and conflict.hint.endswith("y.squeeze(1)?")
    conflict = check(Made(added), "x: f32[4, 3]", "y: f32[4, 5]").conflict
    assert conflict is not None and "total" not in conflict.hint


def test_sizes_with_a_one_inside_are_a_warning_where_tensors_are_compared() -> None:
    def differs(m: Any, x: Any, y: Any) -> Any:
        return (x - y).pow(2).mean()

    assert check(Made(differs), "x: f32[4, 1, 8, 8]", "y: f32[4, 8, 8]").warnings
    assert not check(Made(differs), "x: f32[1, 4, 8, 8]", "y: f32[4, 8, 8]").warnings
    bias = Made(lambda m, x, y: x + y)  # a mask of samples and a bias of heads
    assert not check(bias, "x: f32[4, 1, 8, 8]", "y: f32[4, 8, 8]").warnings


def test_the_programs_line_stands_before_that_of_a_package() -> None:
    from transformers import ResNetConfig, ResNetForImageClassification

    config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic")
    model = ResNetForImageClassification(config)
    model.classifier = nn.Sequential(nn.Flatten(), nn.Linear(512, 5))
    conflict = check(
        Made(lambda m, x: m.net(pixel_values=x).logits, net=model), "x: f32[n, 3, 64, 64]"
    ).conflict
    assert conflict is not None
    line = conflict.lines[-1]
    assert "test_advice.py" in line and "m.net(pixel_values=x)" in line
    assert ", in transformers/models/resnet/modeling_resnet.py:" in line


class Explains(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        try:
            return self.fc(x)
        except RuntimeError as error:
            raise ValueError(f"bad input {x.shape}") from error


def test_a_handler_that_raises_leaves_the_operator_to_blame() -> None:
    conflict = check(Explains(), "x: f32[n, 7]").conflict
    assert conflict is not None
    assert conflict.message.endswith("7 == 8 does not hold")
    fixed = check(Explains(), "x: f32[n, k]").fixed
    assert [(name.name, name.value) for name in fixed] == [("k", 8)]
    assert output_of(check(Explains(), "x: f32[n, 8]")) == "[n, 4]"


class ViewsOrCopies(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.transpose(1, 2)
        try:
            return y.view(x.size(0), -1)
        except RuntimeError:
            return y.contiguous().view(x.size(0), -1)


def test_conditions_of_a_try_have_no_impossible_alternatives() -> None:
    one, many = check(ViewsOrCopies(), "x: f32[n, t, 3]").paths
    assert one.branches[0].startswith("where t == 1, at") and output_of(one) == "[n, 3]"
    assert many.branches[0].startswith("where t != 1, at") and output_of(many) == "[n, 3*t]"
    assert many.conditions == ["t >= 2"] and not one.excluded and not many.excluded


class TakesOptions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        return x + self.attention(x, x, x, need_weights=False)[0]


def test_arguments_that_are_not_given_are_no_inputs() -> None:
    found = check(TakesOptions(), "x: f32[n, t, 16]")
    assert "Dyn" not in "".join(found.shapes.values())
    assert [n.name for n in found.graph.nodes if n.op == "placeholder"] == ["x"]
