"""The models of a sweep from TOML and from patterns, and the mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from symfx.errors import SpecError
from symfx.sweep.architectures import ARCHITECTURES
from symfx.sweep.model_lists import (
    Options,
    jobs_of_patterns,
    jobs_of_toml,
    read_size,
    read_steps,
)


def jobs(folder: Path, text: str) -> list:
    path = folder / "models.toml"
    path.write_text(text)
    return jobs_of_toml(path)


WHOLE = """
steps = ["trace", "export"]
time_limit = 30
memory_limit = "2G"

[[model]]
name = "net"
target = "nets.py:Net"
init = { width = 8, norm = "pre", bias = false }
inputs = ["x: f32[batch, 8]"]
where = "batch % 2 == 0"
train = true
seed = 3

[[model]]
target = "transformers:bert"
steps = ["verify"]
time_limit = 5.5
"""


def test_all_keys(tmp_path: Path) -> None:
    net, bert = jobs(tmp_path, WHOLE)
    assert (net.name, net.kind, net.target, net.seed, net.train) == (
        "net", "target", "nets.py:Net", 3, True,
    )  # fmt: skip
    assert net.init == ("width=8", "norm='pre'", "bias=False")
    assert net.inputs == ("x: f32[batch, 8]",) and net.where == ("batch % 2 == 0",)
    assert net.steps == ("trace", "export")
    assert (net.time_limit, net.memory_limit) == (30.0, 2 << 30)
    assert net.directory == str(tmp_path)
    assert (bert.name, bert.kind, bert.steps) == ("bert", "architecture", ("trace", "verify"))
    assert bert.time_limit == 5.5


def test_the_command_line_goes_first(tmp_path: Path) -> None:
    net, _ = jobs(tmp_path, WHOLE)
    changed = Options(("trace",), 1.0, 1 << 30).applied(net)
    assert (changed.steps, changed.time_limit, changed.memory_limit) == (("trace",), 1.0, 1 << 30)
    assert Options().applied(net) == net


MODEL = '[[model]]\nname = "a"\ntarget = "nets.py:Net"\n'


@pytest.mark.parametrize(
    "text, line, message",
    [
        ("[[model]]\nname = a\n", 2, "no TOML"),
        (MODEL + 'inputts = ["x"]\n', 4, "did you mean 'inputs'"),
        ("step = 3\n" + MODEL, 1, "did you mean 'steps'"),
        ('steps = ["trase"]\n' + MODEL, 1, "did you mean 'trace'"),
        (MODEL + 'steps = ["prove"]\n', 4, "the steps are trace"),
        (MODEL + 'inputs = ["x: f33[batch]"]\n', 4, "f33"),
        (MODEL + 'inputs = "x: f32[batch"\n', 4, ""),
        (MODEL + 'where = ["batch %% 2"]\n', 4, ""),
        (MODEL + "inputs = [3]\n", 4, "a list of texts"),
        (MODEL + 'init = "width"\n', 4, "a table"),
        (MODEL + 'memory_limit = "much"\n', 4, "no size"),
        (MODEL + "time_limit = 0\n", 4, "above 0"),
        (MODEL + "time_limit = true\n", 4, "seconds"),
        (MODEL + "seed = 1.5\n", 4, "a whole number"),
        (MODEL + 'train = "yes"\n', 4, "true or false"),
        (MODEL + "\n" + MODEL, 6, "two models have the name 'a'"),
        ('\n[[model]]\nname = "b"\n', 3, "no target"),
        ('[[model]]\ntarget = "transformers:brt"\n', 2, "did you mean 'bert'"),
        (
            '[[model]]\ntarget = "transformers:bert"\ninputs = ["x: f32[3]"]\n',
            3,
            "leave inputs out",
        ),
        ("", 1, "describes no models"),
        ("model = 3\n", 1, "describes no models"),
    ],
)
def test_a_mistake_names_its_line(text: str, line: int, message: str, tmp_path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        jobs(tmp_path, text)
    assert caught.value.where == f"{tmp_path / 'models.toml'}:{line}"
    assert message in str(caught.value)


def test_patterns() -> None:
    assert [job.name for job in jobs_of_patterns(["transformers:*"])] == list(ARCHITECTURES)
    named = [job.name for job in jobs_of_patterns(["transformers:deberta*", "transformers:bert"])]
    assert named == ["deberta", "deberta-v2", "bert"]
    with pytest.raises(SpecError, match="did you mean 'llama'"):
        jobs_of_patterns(["transformers:lama"])


def test_steps_and_sizes() -> None:
    assert read_steps(["export", "verify"], "--steps") == ("trace", "verify", "export")
    assert read_size("512 MiB", "x") == 512 << 20
    assert read_size("1.5g", "x") == 3 << 29
    for text in ("", "-1", "G", "4X", "1e9", "9" * 30):
        with pytest.raises(SpecError):
            read_size(text, "x")


def test_the_descriptions_of_architectures_are_in_the_shape_language() -> None:
    from symfx.shape_language import parse_input

    for name in ("bert", "clip", "encodec"):
        for text in ARCHITECTURES[name].descriptions():
            parse_input(text)
