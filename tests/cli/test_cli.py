"""The command line, end to end: what it prints where, and with which exit code it leaves."""

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest

from symfx.cli import main

pty = pytest.importorskip("pty")  # the terminal tests need one of their own

MODELS = """
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self, width=8, dropout=0.1):
            super().__init__()
            self.lin = nn.Linear(width, width)
            self.drop = nn.Dropout(dropout)
        def forward(self, x, mask=None, *, flag=False):
            print("a model may print")
            if x.shape[1] > 4:
                x = x * 2
            y = self.drop(self.lin(x))
            return y if mask is None else y.masked_fill(mask.unsqueeze(-1), 0.0)

    def times(x, n: int, p, flag):
        return (x * n + p).relu() if flag else x

    def embed(ids):
        return torch.ones(90, 4)[ids]

    def wrong(x):
        return x @ torch.ones(9, 9)  # does not fit

    def branch(x):
        return x if x.sum() > 0 else -x

    def items(x):
        return x * 2 if x.argmax().item() > 3 else x

    def pinned(x):
        return x + torch.ones(16, 4)

    def by_seven(x):
        return x.view(-1, 7)

    def equal(x, y):
        return torch.stack([x, y])

    def make():
        return Net()

    compiled = torch.compile(nn.Linear(4, 4))

    calls = []
    def unsteady(x):
        calls.append(1)
        return x * len(calls)
"""


def line_of(text):
    return textwrap.dedent(MODELS).split(text)[0].count("\n") + 1


BRANCH = line_of("x.sum() > 0")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "cli_models.py"
    path.write_text(textwrap.dedent(MODELS))
    return str(path)


@pytest.fixture
def run(capsys, monkeypatch, models):
    """Run the command line in this process: (exit code, stdout, stderr)."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delenv("SYMFX_DEBUG", raising=False)

    def go(*arguments):
        with pytest.raises(SystemExit) as left:
            main([a.format(models) for a in arguments])
        out, err = capsys.readouterr()
        return left.value.code or 0, out, err

    return go


NET = ("trace", "{}:Net", "-i", "x: f32[batch, seq=7, 8]", "--input", "mask: bool[batch, seq]")


def test_a_trace_is_printed_and_verified(run, models):
    code, out, err = run(*NET, "--init", "dropout=0.5")
    assert code == 0 and err == ""
    out = out.replace("a model may print\n", "")
    lines = out.splitlines()
    assert lines[0].startswith("Net: ")
    sections = [line for line in lines if re.match(r"[a-z]", line)]
    assert sections == ["graph", "symbols", "guards", "verification against eager"]
    assert re.search(r"^  lin.weight +f32\[8, 8\] +parameter$", out, re.M)
    assert re.search(r"^  mask +bool\[batch, seq\] +input$", out, re.M)
    assert re.search(r"^  batch +2 <= batch +example 3 +x.shape\[0\], mask.shape\[0\]$", out, re.M)
    line = line_of("if x.shape[1] > 4")
    assert re.search(rf"^  seq >= 5 +\S*cli_models.py:{line} +if x.shape\[1\] > 4:$", out, re.M)
    assert re.search(r"^  batch=3, seq=7 +0 +0 +agrees \(the example\)$", out, re.M)
    assert lines[-1] == "  verified at 6 shapes: equal to eager"
    assert "\x1b" not in out


def test_piped_lines_are_whole(run):
    _, out, _ = run("trace", "torch.nn:LSTM", "--init", "input_size=8", "--init", "hidden_size=8",
                    "-i", "input: f32[4, batch, 8]", "--shapes", "1")  # fmt: skip
    longest = max(out.splitlines(), key=len)
    assert len(longest) > 150 and "…" not in out


def test_json_alone_on_stdout(run):
    code, out, err = run(*NET, "--json", "--shapes", "2")
    data = json.loads(out)
    assert code == 0 and "a model may print" in err
    assert data["model"] == "Net"
    assert [s["name"] for s in data["symbols"]] == ["batch", "seq"]
    assert len(data["verification"]["runs"]) == 3
    assert data["graph"][-1]["op"] == "output"


def test_quiet_is_one_line(run):
    code, out, err = run(*NET, "--quiet", "--eval")
    (line,) = out.replace("a model may print\n", "").splitlines()
    assert code == 0 and err == ""
    assert line.startswith("Net: ") and line.endswith("verified at 6 shapes: equal to eager")


def test_the_graph_and_the_verification_can_be_left_out(run):
    code, out, _ = run(*NET, "--no-graph", "--no-verify")
    assert code == 0 and "symbols" in out
    assert "\ngraph" not in out and "verification" not in out


def test_scalars_and_constants(run):
    code, out, err = run("trace", "{}:times", "-i", "x: f64[n, 2]", "-i", "n: int=6",
                         "-i", "p: float=0.5", "-i", "flag: bool=true")  # fmt: skip
    assert code == 0, err
    assert re.search(r"^  n +\S+ <= n +example 6 +x.shape\[0\], n$", out, re.M)
    assert re.search(r"^  p +0.5 +input \(not used\)$", out, re.M)


def test_bounds_of_indices_and_dimensions(run):
    code, out, err = run("trace", "{}:embed", "-i", "ids: i64[2<=batch<=4, seq] < 90")
    assert code == 0, err
    assert "2 <= batch <= 4" in out
    assert not re.search(r"batch=(?![234],)", out)


def test_train_and_eval(run):
    for mode, there in (("--train", True), ("--eval", False)):
        code, out, _ = run(*NET[:2], "-i", "x: f32[n, 3, 8]", mode)
        assert code == 0 and ("dropout" in out or "bernoulli" in out) is there
    code, _, err = run("trace", "torch:relu", "-i", "input: f32[n]", "--eval")
    assert code == 2 and "has no train and eval modes" in err


def test_the_seed_decides(run):
    def difference(seed):
        _, out, _ = run("trace", "{}:unsteady", "-i", "x: f32[n]", "--seed", seed, "--json")
        return json.loads(out)["verification"]["runs"]

    assert difference("1") != difference("2")


def test_a_failed_verification_leaves_with_1(run):
    code, out, err = run("trace", "{}:unsteady", "-i", "x: f32[n]")
    assert code == 1 and "FAILS: the result differs beyond the tolerance" in out
    assert out.splitlines()[-1] == "  verification failed at 6 of 6 shapes"
    code, out, err = run("trace", "{}:unsteady", "-i", "x: f32[n]", "-q")
    assert code == 1 and len(out.splitlines()) == 1
    assert "error: at n=3: the result differs" in err
    code, out, err = run("trace", "{}:unsteady", "-i", "x: f32[n]", "--json")
    assert code == 1 and json.loads(out)["verification"]["passed"] is False
    code, _, _ = run("trace", "{}:unsteady", "-i", "x: f32[n]", "--tolerance", "1e9")
    assert code == 0


def test_a_pinned_dimension_is_an_error_unless_allowed(run):
    command = ("trace", "{}:pinned", "-i", "x: f32[batch, n=16, 4]")
    line = line_of("x + torch.ones(16, 4)")
    for options in ((), ("-q",), ("--json",)):
        code, out, err = run(*command, *options)
        assert code == 2 and out == "" and err.count("error: ") == 1
        assert "specializes a size that is to be dynamic: n, dimension 1 of x, to 16" in err
        assert f"cli_models.py:{line}: " in err and "--allow-pinned" in err
    for options in ((), ("-q",), ("--json",)):
        code, out, err = run(*command, "--allow-pinned", *options)
        assert code == 0, err
        assert "warning: the graph holds for n = 16 alone" in err
        assert f"cli_models.py:{line}: " in err
    _, out, _ = run(*command, "--allow-pinned", "-q")
    assert "fixed: n = 16; verified at 6 shapes" in out
    _, out, _ = run(*command, "--allow-pinned", "--json")
    (record,) = json.loads(out)["specializations"]
    assert (record["symbol"], record["value"], record["line"]) == ("n", 16, line)


def test_a_model_that_fails_on_the_example_leaves_with_2(run):
    code, out, err = run("trace", "torch.nn:Embedding", "--init", "num_embeddings=10",
                         "--init", "embedding_dim=3", "-i", "input: i64[n=50] < 100")  # fmt: skip
    assert code == 2 and out == "" and err.count("error: ") == 1
    assert "the model itself fails on the example: IndexError" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trace", "net"], ["'net' does not name a model", "file.py:attribute"]),
        (["trace", "nowhere.py:f"], ["there is no file nowhere.py"]),
        (["trace", "nowhere:f"], ["there is no module nowhere"]),
        (["trace", "{}:Nett"], ["has no attribute 'Nett'", "did you mean Net?"]),
        (["trace", "{}:Net", "--init", "wide=3"], ["unexpected keyword argument 'wide'"]),
        (["trace", "{}:Net"], ["the model needs an input 'x'", "--input"]),
        (["trace", "{}:Net", "-i", "y: f32[n]"], ["no input 'y'", "x, mask, flag"]),
        (["trace", "{}:Net", "-i", "x: f33[n]"], ["'f33' is not a dtype", "\n         ^\n"]),
        (["trace", "{}:Net", "-i", "x: f32[n=1, 4, 8]"], ["dimension 0 of x is 1", "2 or more"]),
        (["trace", "{}:wrong", "-i", "x: f32[n, 3]"], ["cannot be traced", "does not fit"]),
        (["trace", "{}:branch", "-i", "x: f32[n]"], ["data-dependent", f"cli_models.py:{BRANCH}: "]),
    ],
)  # fmt: skip
def test_mistakes_are_one_message_and_2(run, arguments, words):
    code, out, err = run(*arguments)
    assert code == 2
    assert out.replace("a model may print\n", "") == ""
    assert err.startswith("error: ") and err.count("error: ") == 1
    assert "  at: " in err and "  to fix: " in err
    assert "Traceback" not in err
    for word in words:
        assert word in err


@pytest.mark.parametrize(
    "arguments",
    [["trace"], ["nothing"], ["trace", "a:b", "--shapes", "-1"], ["trace", "a:b", "--no"]],
)
def test_usage_errors_leave_with_2(run, arguments):
    code, out, err = run(*arguments)
    assert code == 2 and out == "" and "Usage: symfx" in err


def test_debug_shows_the_traceback(run, monkeypatch):
    wrong = ("trace", "{}:wrong", "-i", "x: f32[n, 3]")
    code, _, err = run(*wrong, "--debug")
    assert code == 2 and "Traceback" in err and "error: wrong cannot be traced" in err
    monkeypatch.setenv("SYMFX_DEBUG", "1")
    assert "Traceback" in run(*wrong)[2]


def test_a_fault_of_symfx_itself_is_owned_up_to(run, monkeypatch):
    import symfx.tracing.report

    def fault(trace):
        raise KeyError("lost")

    monkeypatch.setattr(symfx.tracing.report, "headline", fault)
    code, _, err = run("trace", "torch:relu", "-i", "x: f32[n]")
    assert code == 70 and "error: symfx itself failed: KeyError: 'lost'" in err
    assert "Traceback" not in err


def test_version_and_help(run):
    from symfx import __version__

    assert run("--version")[:2] == (0, f"symfx {__version__}\n")
    code, out, _ = run("trace", "--help")
    assert code == 0
    assert "f32[batch, seq=7, 64]" in " ".join(re.sub("[│\n]", " ", out).split())
    for option in ("--input", "--init", "--json", "--quiet", "--shapes", "--seed", "--train"):
        assert option in out


# -- on a terminal --------------------------------------------------------------------------------


def on_terminal(*arguments, columns=100, **environment):
    """Run the command on a terminal of its own; what it wrote there."""
    master, slave = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR")}
    env |= {"TERM": "xterm-256color", "COLUMNS": str(columns), **environment}
    process = subprocess.Popen(
        [sys.executable, "-c", "from symfx.cli import main; main()", *arguments],
        stdin=slave, stdout=slave, stderr=slave, env=env,
    )  # fmt: skip
    os.close(slave)
    written = b""
    while True:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        written += part
    os.close(master)
    assert process.wait() == 0
    return written.decode().replace("\r\n", "\n")


def test_a_terminal_gets_colors_progress_and_wrapped_lines(models):
    text = on_terminal(
        "trace", f"{models}:Net", "-i", "x: f32[batch, seq=7, 8]", "--no-verify", columns=60
    )
    assert "\x1b[1;36mbatch" in text
    assert "tracing ..." in text
    text = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", text)
    body = text[text.index("graph\n") :]
    assert max(len(line) for line in body.splitlines()) <= 60
    assert "\n        " in body


def test_no_color_is_heeded(run, monkeypatch):
    colors = re.compile(r"\x1b\[[\d;]*3\dm")
    monkeypatch.setenv("FORCE_COLOR", "1")
    _, out, err = run(*NET, "--no-verify")
    assert colors.search(out) and err == "", "no progress into a pipe"
    monkeypatch.setenv("NO_COLOR", "1")
    assert not colors.search(run(*NET, "--no-verify")[1])


# -- symfx replay --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def event_log(tmp_path_factory):
    import torch
    from torch._dynamo.source import LocalSource

    from symfx.recording import EventLog
    from symfx.symbolic_shapes import ShapeEnv

    env = ShapeEnv(should_record_events=True)
    (n,), _, _ = env.create_symbolic_sizes_strides_storage_offset(torch.empty(8), LocalSource("x"))
    u = env.create_unbacked_symint()
    assert n % 4 == 0
    torch._check(u <= n)
    path = tmp_path_factory.mktemp("logs") / "log.json"
    EventLog.of(env).save(path)
    return path


def replayed(capsys, *arguments):
    with pytest.raises(SystemExit) as leaving:
        main(["replay", *map(str, arguments)])
    out, err = capsys.readouterr()
    return leaving.value.code, out, err


def test_a_log_is_replayed(event_log, capsys):
    code, out, err = replayed(capsys, event_log)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "5 events"
    assert lines[1] == "    0  ShapeEnv()"
    assert "2 symbols" in lines and "1 guard" in lines
    assert "1 condition to check at run time" in lines
    code, out, _ = replayed(capsys, event_log, "--no-events")
    assert code == 0 and "events" not in out


@pytest.mark.parametrize(
    ("language", "text"),
    [("python", "def check(x):"), ("c", "bool check_guards("), ("smtlib", "(set-logic ALL)")],
)
def test_a_logs_guards_as_a_program(event_log, capsys, language, text):
    code, out, err = replayed(capsys, event_log, "--guards", language)
    assert (code, err) == (0, "") and text in out and "symbols" not in out


def test_a_replayed_log_as_json(event_log, capsys):
    code, out, err = replayed(capsys, event_log, "--json")
    data = json.loads(out)
    assert (code, err) == (0, "") and (data["schema"], data["version"]) == ("symfx replay", 1)
    assert data["events"][0] == "ShapeEnv()" and len(data["events"]) == 5
    backed, unbacked = data["symbols"]
    assert backed["sources"] and backed["example"] is not None
    assert unbacked["unbacked"] and unbacked["example"] is None
    assert len(data["guards"]) == len(data["runtime_asserts"]) == 1
    code, out, _ = replayed(capsys, event_log, "--json", "--no-events")
    assert code == 0 and "events" not in json.loads(out)
    code, out, _ = replayed(capsys, event_log, "--json", "--guards", "c")
    assert code == 0 and "bool check_guards(" in json.loads(out)["program"]


def test_a_cleared_cache_as_json(tmp_path, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["cache", "clear", "--directory", str(tmp_path), "--json"])
    data = json.loads(capsys.readouterr().out)
    assert leaving.value.code == 0 and data["schema"] == "symfx cache clear"
    assert (data["version"], data["removed_entries"], data["removed_size"]) == (1, 0, 0)


def test_what_is_no_log(tmp_path, capsys):
    (tmp_path / "bad.json").write_text('{"format": "symfx event log", "version": 9}')
    code, out, err = replayed(capsys, tmp_path / "bad.json")
    assert (code, out) == (2, "") and "version 9" in err
    code, _, err = replayed(capsys, tmp_path / "none.json")
    assert code == 2 and "Error" in err


def test_an_event_that_fails(event_log, capsys, tmp_path):
    data = json.loads(event_log.read_text())
    del data["events"][0]
    (tmp_path / "short.json").write_text(json.dumps(data))
    code, _, err = replayed(capsys, tmp_path / "short.json")
    assert code == 2 and "no event before this one made a symbol" in err
    assert "while replaying evaluate_term(" in err


def test_a_trace_leaves_a_log(models, tmp_path, capsys):
    path = tmp_path / "log.json"
    with pytest.raises(SystemExit) as leaving:
        main(["trace", f"{models}:embed", "-i", "ids: i64[batch, seq] < 90", "--record", str(path)])
    assert leaving.value.code == 0
    capsys.readouterr()
    code, out, err = replayed(capsys, path, "--no-events")
    assert (code, err) == (0, "") and "batch in [2, oo]" in out


@pytest.mark.parametrize("dim", ["8*batch", "2*batch + 1"])
def test_a_trace_with_expressions_leaves_a_log(models, tmp_path, capsys, dim):
    path = tmp_path / "log.json"
    with pytest.raises(SystemExit) as leaving:
        given = ["-i", f"input: f32[{dim}, k]", "-w", "k <= batch"]
        main(["trace", "torch:relu", *given, "--record", str(path)])
    assert leaving.value.code == 0, capsys.readouterr().err
    capsys.readouterr()
    code, out, err = replayed(capsys, path, "--no-events")
    assert (code, err) == (0, "") and "batch" in out


def test_a_trace_that_fails_leaves_one_too(models, tmp_path, capsys):
    path = tmp_path / "log.json"
    with pytest.raises(SystemExit) as leaving:
        main(["trace", f"{models}:items", "-i", "x: f32[rows, 2]", "--record", str(path)])
    assert leaving.value.code == 2
    capsys.readouterr()
    code, _, err = replayed(capsys, path)
    assert code == 2 and "while replaying evaluate_term(u0 >= 4" in err


# -- mistakes that are the user's, and not faults of symfx --------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-i", "x: f32[999999999999, 4]"], "x needs "),
        (["-i", "x: f32[n=99999999999, 4]"], "x needs "),
        (["-i", "x: f32[99999999, 99999999, 99999999]"], "x needs "),
        (["-i", f"x: f32[{', '.join(['1'] * 65)}]"], "a tensor has 65 dimensions"),
        (["-i", f"x: f32[{'9' * 5000}]"], "the number has 5000 digits"),
        (["-i", "x: f32[99999999999999999999]"], "the number has 20 digits"),
        (["-i", "x: f32[n]", "-i", "n: 007"], "007 begins with 0"),
        (["-i", "x: f32[n]", "-i", "n: int=007"], "007 begins with 0"),
        (["-i", "x: f32[07]"], "07 begins with 0"),
        (["-i", "x: f32[n]", "-i", f"n: {'9' * 5000}"], "the number has 5000 digits"),
        (["-i", "x: f32[n]", "-i", f"n: int={'9' * 5000}"], "the number has 5000 digits"),
        (["-i", "x: f32[n]", "-i", f"n: -{'9' * 5000}"], "the number has 5000 digits"),
        (["-i", "x: f32[n]", "-i", "mode: str='\\'"], "'\\' cannot be read as Python's"),
        (["-i", "x: f32[n]", "-i", "mode: '\\x'"], "'\\x' cannot be read as Python's"),
        (["-i", "x: f32[n]", "--record", "/nonexistent/log.json"], "no directory /nonexistent"),
    ],
)
def test_no_mistake_counts_as_a_fault(run, arguments, words):
    code, out, err = run("trace", "{}:pinned", *arguments)
    assert code == 2 and out == ""
    assert err.startswith("error: ") and err.count("error: ") == 1, err
    assert words in err and "  to fix: " in err
    assert max(map(len, err.splitlines())) < 250, "no long text is repeated"


@pytest.mark.parametrize("command", ["trace", "optimize"])
@pytest.mark.parametrize("seed", [2**70, -(2**70), 2**63])
def test_a_seed_of_more_than_64_bits(run, command, seed):
    code, _, err = run(command, "torch.nn:ReLU", "-i", "input: f32[n]", "--seed", str(seed))
    assert code == 2 and "--seed" in err


def test_the_largest_seed(run):
    code, _, err = run("trace", "torch:relu", "-i", "input: f32[n]", "--seed", str(2**63 - 1), "-q")
    assert code == 0, err


def test_a_log_that_cannot_be_written(run, tmp_path):
    code, _, err = run("trace", "torch:relu", "-i", "input: f32[n]", "--record", str(tmp_path))
    assert code == 2 and "directory" in err
    code, _, err = run(
        "optimize", "torch.nn:ReLU", "-i", "input: f32[2]", "--save", str(tmp_path), "-q"
    )
    assert code == 2 and f"{tmp_path} is a directory" in err


def test_memory_and_files_that_fail_later(run, monkeypatch):
    import symfx.tracing.report

    for error, words in [
        (MemoryError(), "there is not enough memory"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
            "not enough memory",
        ),
        (OSError(28, "No space left on device", "log.json"), "No space left on device: log.json"),
    ]:

        def fail(trace, error=error):
            raise error

        monkeypatch.setattr(symfx.tracing.report, "headline", fail)
        code, _, err = run("trace", "torch:relu", "-i", "input: f32[n]", "-q")
        assert code == 2 and words in err and "symfx itself" not in err


def test_the_chosen_sizes_are_told(run):
    code, _, err = run("trace", "{}:by_seven", "-i", "x: f32[batch, seq]")
    assert code == 2 and "by_seven cannot be traced" in err
    assert "note: tried with batch=3, seq=5, which symfx chose; the model runs with batch=7" in err
    assert "to fix: give an example size in --input: batch=7" in err
    code, _, err = run("trace", "{}:by_seven", "-i", "x: f32[batch=7, seq]", "-q")
    assert code == 0, err
    # A size that the user gave is not told, and an error that has nothing to do with sizes
    # offers no others.
    code, _, err = run("trace", "{}:by_seven", "-i", "x: f32[batch=3, seq=5]")
    assert code == 2 and "tried with" not in err
    code, _, err = run("trace", "{}:branch", "-i", "x: f32[n]")
    assert "note: tried with n=3, which symfx chose\n" in err
    code, _, err = run("trace", "{}:equal", "-i", "x: f32[a]", "-i", "y: f32[b]")
    assert code == 2 and re.search(
        "tried with a=3, b=5, which symfx chose; the model runs with", err
    )


def test_the_function_that_makes_the_model(run):
    code, _, err = run("trace", "{}:make", "-i", "x: f32[n, 3, 8]")
    assert code == 2 and "if make makes the model, write make() as target" in err
    code, out, err = run("trace", "{}:make()", "-i", "x: f32[n, 3, 8]", "-q")
    assert code == 0 and "Net: " in out, err


def test_an_argument_in_other_letters(run):
    code, _, err = run("trace", "{}:Net", "--init", "Width=8", "-i", "x: f32[n, 3, 8]")
    assert code == 2 and "did you mean width=8?" in err
    code, _, err = run("trace", "{}:Net", "-i", "X: f32[n, 3, 8]")
    assert code == 2 and "its inputs are x, mask, flag" in err


def test_a_compiled_model_is_unwrapped(run):
    code, out, err = run("trace", "{}:compiled", "-i", "input: f32[n, 4]", "-q")
    assert code == 0 and "Linear: " in out, err


def test_a_closed_pipe_is_no_fault(models):
    """The reader of the output leaves at once, as ``head -0`` does."""
    for options in ([], ["--json"]):
        reading, writing = os.pipe()
        os.close(reading)
        process = subprocess.run(
            [sys.executable, "-c", "from symfx.cli import main; main()", "trace", f"{models}:Net",
             "-i", "x: f32[n, 3, 8]", "--no-verify", *options],
            stdout=writing, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
        os.close(writing)
        assert process.returncode == 141 and process.stderr.replace("a model may print\n", "") == ""
