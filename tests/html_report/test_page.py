"""The page of a report as text: its contents, its policy, and what it lets in."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from importlib.resources import files
from pathlib import Path

import pytest
import torch

import symfx
from html_report.reported import HOSTILE, contents_in, encoder_trace, hostile_trace, pinned_trace
from symfx.html_report import report_page


def test_contents_answer_what_is_dynamic_what_is_pinned_and_by_which_line() -> None:
    t = pinned_trace()
    t.verify(shapes=2)
    contents = contents_in(report_page(t, t.verification))
    (batch,) = contents["symbols"]
    assert (batch["name"], batch["range"], batch["sources"]) == (
        "batch",
        "2 <= batch <= 64",
        "ids.shape[0]",
    )
    (pin,) = contents["pins"]
    assert (pin["symbol"], pin["value"], pin["sources"]) == ("seq", 16, "ids.shape[1]")
    assert pin["cause"]["text"].endswith("# the line that pins")
    assert re.search(r"reported\.py:\d+$", pin["cause"]["place"])
    nodes = contents["nodes"]
    assert [nodes[place]["title"] for place in pin["nodes"]] == ["transpose"]
    assert "seq is pinned to 16" in pin["proof"]["sentence"]
    guards = {guard["condition"]: guard for guard in contents["guards"]}
    assert guards["batch <= 64"]["cause"]["text"] == "if ids.shape[0] > 64:"
    assert ["rejects", "batch = 65"] in guards["batch <= 64"]["proof"]["details"]
    assert [run["sizes"] for run in contents["verification"]["runs"]] == [
        dict(run.sizes) for run in t.verification.runs
    ]
    assert contents["verification"]["passed"] is True


def test_proof_of_a_range_has_the_lines_behind_it() -> None:
    contents = contents_in(report_page(pinned_trace()))
    (batch,) = contents["symbols"]
    upper = next(r for r in batch["proof"]["reasons"] if r["statement"] == "batch <= 64")
    lines = [upper["text"], *(below["text"] for below in upper["because"])]
    assert "if ids.shape[0] > 64:" in lines


def test_page_counts_the_proofs_that_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    t = pinned_trace()
    contents = contents_in(report_page(t))
    conditions = [*contents["pins"], *contents["symbols"], *contents["guards"]]
    assert contents["proofs"]["left_out"] == 0 and all(each["proof"] for each in conditions)
    monkeypatch.setattr("symfx.html_report.contents._PROOFS", 2)
    contents = contents_in(report_page(t))
    conditions = [*contents["pins"], *contents["symbols"], *contents["guards"]]
    assert contents["proofs"] == {"most": 2, "left_out": len(conditions) - 2}
    assert [each["proof"] is None for each in conditions].count(True) == len(conditions) - 2


def test_costs_are_those_of_trace_cost() -> None:
    t = encoder_trace()
    contents = contents_in(report_page(t))
    cost = t.cost()
    assert contents["cost"]["flops"] == str(cost.flops)
    by_path = {module.path: module for module in cost.modules}
    for module in contents["modules"]:
        assert module["flops"] == str(by_path[module["path"]].flops), module["path"]
        assert module["memory"] == str(by_path[module["path"]].memory), module["path"]
    assert [node["name"] for node in contents["nodes"]] == [node.name for node in cost.nodes]


def test_each_call_of_a_module_stands_for_itself() -> None:
    contents = contents_in(report_page(pinned_trace()))
    calls = [module["call"] for module in contents["modules"] if module["path"] == "body"]
    assert calls == [1, 2]
    inner = [m for m in contents["modules"] if m["path"] == "body.0"]
    around = {contents["modules"][m["parent"]]["path"] for m in inner}
    assert around == {"body"} and len(inner) == 2


def test_parameters_stand_in_the_module_that_reads_them() -> None:
    contents = contents_in(report_page(encoder_trace()))
    paths = {
        node["label"]: contents["modules"][node["module"]]["path"]
        for node in contents["nodes"]
        if node["kind"] == "parameter"
    }
    assert paths["layers.1.linear1.weight"] == "layers.1.linear1"
    assert paths["layers.0.self_attn.in_proj_weight"] == "layers.0.self_attn"


def test_node_has_the_line_of_the_user_and_those_that_led_to_it() -> None:
    contents = contents_in(report_page(encoder_trace()))
    node = next(n for n in contents["nodes"] if n["title"] == "addmm")
    frames = [contents["frames"][place] for place in node["frames"]]
    assert [text for _, text, users in frames if users] == ["x = layer(x)"]
    assert any(place.startswith("torch/nn/modules/") for place, _, _ in frames)


@pytest.mark.parametrize("part", ["script", "style"])
def test_policy_admits_the_own_script_and_style_alone(part: str) -> None:
    page = report_page(pinned_trace())
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert found is not None
    policy = html.unescape(found[1])
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy and "http" not in policy
    (own,) = re.findall(rf"<{part}>(.*?)</{part}>", page, re.S)
    digest = base64.b64encode(hashlib.sha256(own.encode()).digest()).decode()
    assert f"{part}-src 'sha256-{digest}'" in policy


def test_no_text_of_a_trace_becomes_a_tag() -> None:
    safe, hostile = report_page(pinned_trace()), report_page(hostile_trace())

    def tags(page: str) -> list[str]:
        # Without the script of the page, whose code compares with < and >.
        return re.findall(
            r"<[/!a-zA-Z][^\s>]*", re.sub(r"<script>.*?</script>", "", page, flags=re.S)
        )

    assert tags(hostile) == tags(safe)
    contents = contents_in(hostile)
    assert contents["model"] == HOSTILE
    assert any(
        HOSTILE in node["expression"] or "hacked" in node["name"] for node in contents["nodes"]
    )


def test_own_script_and_style_end_where_they_end() -> None:
    for name in ("page.js", "page.css"):
        text = files("symfx.html_report").joinpath(name).read_text()
        assert "</script" not in text.lower() and "</style" not in text.lower()
        assert "<!--" not in text


def test_sources_of_the_page_parse_no_html() -> None:
    sources = sorted((Path(__file__).parents[2] / "web" / "src").glob("*.ts"))
    assert len(sources) > 10
    for source in sources:
        text = source.read_text()
        assert not re.search(
            r"\b(eval\(|Function\(|\w+HTML\b(?!\w*Element)|document\.write)", text
        ), source


def test_licenses_of_the_packages_in_the_script_ship_with_it() -> None:
    text = files("symfx.html_report").joinpath("licenses.txt").read_text()
    for package in ("@dagrejs/dagre", "@dagrejs/graphlib", "d3-zoom", "d3-shape"):
        assert f"\n{package} " in text
    assert "Permission is hereby granted" in text and "Chris Pettitt" in text


def test_report_verifies_a_trace_that_was_not(tmp_path: Path) -> None:
    t = encoder_trace()
    t.report(tmp_path / "report.html")
    assert t.verification is not None
    contents = contents_in((tmp_path / "report.html").read_text())
    assert contents["verification"]["passed"] is True


def test_report_of_an_unverified_trace_says_so(tmp_path: Path) -> None:
    t = encoder_trace()
    t.report(tmp_path / "report.html", verify=False)
    contents = contents_in((tmp_path / "report.html").read_text())
    assert contents["verification"] is None


def test_report_of_a_trace_without_its_model_says_why_it_is_not_verified(tmp_path: Path) -> None:
    encoder_trace().save(tmp_path / "net.symfx", weights=False)
    loaded = symfx.load(tmp_path / "net.symfx")
    loaded.report(tmp_path / "report.html")
    contents = contents_in((tmp_path / "report.html").read_text())
    assert contents["verification"] is None
    assert "loaded without Encoders" in contents["unverified"]
    paths = {module["path"] for module in contents["modules"]}
    assert "layers.1.self_attn" in paths


def test_report_shows_a_failed_verification(tmp_path: Path) -> None:
    t = encoder_trace()
    node = next(n for n in t.graph_module.graph.nodes if n.target is torch.ops.aten.relu.default)
    node.target = torch.ops.aten.neg.default
    t.graph_module.recompile()
    t.report(tmp_path / "report.html")
    verification = contents_in((tmp_path / "report.html").read_text())["verification"]
    assert verification["passed"] is False
    assert verification["verdict"].startswith("verification failed at")


def test_data_gives_symbols_without_a_size() -> None:
    def picked(x: torch.Tensor) -> torch.Tensor:
        return torch.nonzero(x) + 1

    t = symfx.trace(picked, torch.randn(5), dynamic=[("n",)])
    contents = contents_in(report_page(t))
    unbacked = [symbol for symbol in contents["symbols"] if symbol["unbacked"]]
    assert unbacked and all(symbol["example"] is None for symbol in unbacked)


def test_report_does_not_replace_a_file_that_it_cannot_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("older")
    t = encoder_trace()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        t.report(path, verify=False)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_branches_stand_in_the_graph_between_their_operands_and_the_call() -> None:
    def branched(x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda a: a.sin(), lambda a: a.cos() * 2, (x + 1,))

    t = symfx.trace(branched, torch.randn(3), dynamic=[("n",)])
    contents = contents_in(report_page(t))
    nodes = {node["name"]: (place, node) for place, node in enumerate(contents["nodes"])}
    modules = [module["path"] for module in contents["modules"]]
    assert modules == ["", "true_graph_0", "false_graph_0"]
    _, sine = nodes["true_graph_0.sin"]
    assert modules[sine["module"]] == "true_graph_0"
    operand = contents["nodes"][sine["inputs"][0]]
    assert operand["inputs"] == [nodes["add"][0]]
    _, call = nodes["cond"]
    assert {nodes[f"{branch}.output"][0] for branch in modules[1:]} <= set(call["inputs"])


def test_a_trace_without_its_model_has_the_costs_of_its_modules(tmp_path: Path) -> None:
    t = encoder_trace()
    t.save(tmp_path / "net.symfx")
    loaded = symfx.load(tmp_path / "net.symfx").cost()
    known = {module.path: module for module in t.cost().modules}
    assert {"", "layers.0", "layers.1.linear2"} <= {module.path for module in loaded.modules}
    for module in loaded.modules:
        same = known[module.path]
        assert (module.kind, module.parameters) == (same.kind, same.parameters), module.path
        assert (str(module.flops), str(module.memory)) == (str(same.flops), str(same.memory))
