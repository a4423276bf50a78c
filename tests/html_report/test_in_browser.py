"""Reports in a headless Chromium: opened without a network, clicked, searched, folded, typed in."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from html_report.browser import Opened, running
from html_report.reported import encoder_trace, hostile_trace, large_trace, pinned_trace


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def pinned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reports") / "pinned.html"
    pinned_trace().report(path)
    return path


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("reports") / "encoders.html"
    encoder_trace().report(path)
    return path


def test_top_answers_the_four_questions(browser: Any, pinned: Path) -> None:
    with Opened(browser, pinned) as opened:
        cards = {
            card.locator("h2").inner_text(): card for card in opened.page.locator(".card").all()
        }
        answers = {title: card.locator(".answer").inner_text() for title, card in cards.items()}
        assert answers["Which dimensions are dynamic?"] == "batch"
        assert answers["Which were pinned, by which line?"] == "seq = 16"
        assert answers["Was it verified against eager?"] == "Yes, at 6 shapes"
        assert "operations" in answers["Where do time and memory go?"]
        assert "the line that pins" in cards["Which were pinned, by which line?"].inner_text()
        assert "batch=3, seq=16" in cards["Was it verified against eager?"].inner_text()
        assert "Linear" in cards["Where do time and memory go?"].inner_text()
        # The pins stand above all else.
        banner = opened.page.locator(".pins").bounding_box()
        assert banner["y"] < opened.page.locator(".cards").bounding_box()["y"]
        assert opened.problems == []


@pytest.mark.parametrize("width", [1440, 820, 390])
@pytest.mark.parametrize("dark", [False, True])
def test_opens_offline_at_all_widths_without_a_problem(
    browser: Any, encoders: Path, width: int, dark: bool
) -> None:
    with Opened(browser, encoders, width=width, dark=dark) as opened:
        wider = opened.page.evaluate("document.documentElement.scrollWidth - innerWidth")
        assert wider <= 0
        back = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
        level = sum(int(part) for part in back[4:-1].split(",")[:3])
        assert level < 150 if dark else level > 600
        assert opened.problems == []


def test_switch_of_colors(browser: Any, encoders: Path) -> None:
    with Opened(browser, encoders) as opened:
        color = "getComputedStyle(document.body).backgroundColor"
        before = opened.page.evaluate(color)
        opened.page.get_by_label("Dark colors").click()
        assert opened.page.evaluate(color) != before
        opened.page.get_by_label("Light colors").click()
        assert opened.page.evaluate(color) == before


def test_click_on_a_node_shows_its_line_shape_cost_and_guard(browser: Any, pinned: Path) -> None:
    with Opened(browser, pinned) as opened:
        opened.tree_item("transpose").locator(".name").first.click()
        details = opened.page.locator(".details").inner_text()
        assert "f32[batch, 8, 16]" in details
        assert "return self.pool(x.transpose(1, 2)).squeeze(-1)  # the line that pins" in details
        assert "Pinned here" in details and "seq = 16" in details
        assert "seq == 16" in details
        chosen = opened.page.locator(".canvas .selected > [role=button]")
        assert chosen.get_attribute("aria-label").startswith("transpose, operator")
        opened.tree_item("pool").locator(".name").first.click()
        assert "parameters" in opened.page.locator(".details").inner_text()


def test_click_in_the_picture_selects_and_a_double_click_folds(
    browser: Any, encoders: Path
) -> None:
    with Opened(browser, encoders) as opened:
        opened.button("Fold all modules").click()
        opened.button("Fit the whole graph").click()
        box = opened.page.locator('.canvas [aria-label^="layers.0, "]')
        box.click()
        assert "TransformerEncoderLayer" in opened.page.locator(".details").inner_text()
        folded = len(opened.boxes())
        opened.page.wait_for_timeout(700)  # else the browser counts on from the click before
        box.dblclick()
        unfolded = '.canvas [aria-label^="layers.0, "][aria-expanded="true"]'
        opened.page.locator(unfolded).wait_for(timeout=10_000)
        assert len(opened.boxes()) > folded
        assert opened.tree_item("layers.0").get_attribute("aria-expanded") == "true"


def test_picture_drags_and_zooms(browser: Any, encoders: Path) -> None:
    with Opened(browser, encoders) as opened:
        scene = opened.page.locator(".canvas > g")
        opened.page.locator(".canvas").scroll_into_view_if_needed()
        at = opened.page.locator(".canvas").bounding_box()
        places = [scene.get_attribute("transform")]
        opened.page.mouse.move(at["x"] + 20, at["y"] + 60)
        opened.page.mouse.down()
        opened.page.mouse.move(at["x"] + 120, at["y"] + 160)
        opened.page.mouse.up()
        places.append(scene.get_attribute("transform"))
        opened.button("Zoom in").click()
        places.append(scene.get_attribute("transform"))
        opened.page.mouse.move(at["x"] + 120, at["y"] + 160)
        opened.page.keyboard.down("Control")
        opened.page.mouse.wheel(0, 200)
        opened.page.keyboard.up("Control")
        opened.page.wait_for_timeout(50)
        places.append(scene.get_attribute("transform"))
        assert len(set(places)) == len(places)


def test_wheel_over_the_picture_scrolls_the_page(browser: Any, encoders: Path) -> None:
    with Opened(browser, encoders) as opened:
        opened.page.locator("#graph").scroll_into_view_if_needed()
        at = opened.page.locator(".canvas").bounding_box()
        opened.page.mouse.move(at["x"] + 40, at["y"] + 40)
        scale = opened.page.locator(".canvas > g").get_attribute("transform")
        before = opened.page.evaluate("scrollY")
        opened.page.mouse.wheel(0, 150)
        opened.page.wait_for_timeout(300)
        assert opened.page.evaluate("scrollY") != before
        assert opened.page.locator(".canvas > g").get_attribute("transform") == scale


def test_shapes_stand_on_edges_and_symbols_have_one_color(browser: Any, encoders: Path) -> None:
    with Opened(browser, encoders) as opened:
        labels = opened.page.locator(".canvas .label text").all_text_contents()
        assert "f32[batch, seq, 16]" in labels
        colors = opened.page.evaluate(
            """() => {
              const found = {};
              for (const each of document.querySelectorAll(".symbol"))
                (found[each.textContent] ??= new Set()).add(each.style.getPropertyValue("--hue"));
              return Object.entries(found).map(([name, hues]) => [name, [...hues]]);
            }"""
        )
        hues = dict(colors)
        assert set(hues) == {"batch", "seq"}
        assert all(len(each) == 1 for each in hues.values())
        assert hues["batch"] != hues["seq"]


def test_search_finds_nodes_modules_symbols_and_guards(browser: Any, pinned: Path) -> None:
    with Opened(browser, pinned) as opened:
        search, results = opened.page.get_by_role("searchbox"), opened.page.locator("#results")
        for text, kind in [
            ("body.2", "module"),
            ("relu", "node"),
            ("batch", "symbol"),
            ("<= 64", "guard"),
            ("seq", "pin"),
        ]:
            search.fill(text)
            assert kind in results.locator(".what").all_inner_texts(), text
        search.fill("no such thing")
        assert results.inner_text() == "Nothing found"
        search.fill("body.2 addmm")
        search.fill("relu")
        opened.page.keyboard.press("Enter")
        assert "relu" in opened.page.locator(".details h3").inner_text()
        assert opened.page.locator(".canvas .selected").count() == 1


def test_costs_follow_the_sizes(browser: Any, encoders: Path) -> None:
    t = encoder_trace()
    with Opened(browser, encoders) as opened:
        card = opened.page.locator(".card.wide")
        for name, size in (("batch", 16), ("seq", 128)):
            card.get_by_label(f"size of {name}").fill(str(size))
        cost = t.cost().at(batch=16, seq=128)
        flops, peak = cost.flops.value, t.cost().peak(batch=16, seq=128)
        assert f"{float(f'{flops / 1e6:.3g}'):g} M operations" in card.inner_text()
        assert f"{float(f'{peak / 2**10:.3g}'):g} KiB of memory at the peak" in card.inner_text()
        assert opened.page.locator("#cost").get_by_label("size of seq").input_value() == "128"
        card.get_by_label("size of seq").fill("")
        assert "Give seq a size to see the rest" in card.inner_text()
        assert opened.problems == []


def test_tree_by_keyboard_alone(browser: Any, encoders: Path) -> None:
    with Opened(browser, encoders) as opened:
        page = opened.page
        opened.button("Fold all modules").click()
        page.locator('[role=tree] [tabindex="0"]').focus()
        focused = "document.activeElement.querySelector('.name').textContent"
        page.keyboard.press("End")
        assert page.evaluate(focused) == "output"
        page.keyboard.press("Home")
        for _ in range(2):
            page.keyboard.press("ArrowDown")
        assert page.evaluate(focused) == "layers.0"
        page.keyboard.press("ArrowRight")
        assert opened.tree_item("layers.0").get_attribute("aria-expanded") == "true"
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.getAttribute('aria-level')") == "3"
        page.keyboard.press("Enter")
        assert page.locator(".canvas .selected").count() == 1
        page.keyboard.press("ArrowLeft")
        assert page.evaluate(focused) == "layers.0"
        page.keyboard.press("ArrowLeft")
        assert opened.tree_item("layers.0").get_attribute("aria-expanded") == "false"
        page.keyboard.press("o")
        assert page.evaluate(focused) == "output"


def test_picture_by_keyboard_alone(browser: Any, encoders: Path) -> None:
    with Opened(browser, encoders) as opened:
        page = opened.page
        opened.button("Fold all modules").click()
        page.locator(".canvas").focus()
        said = "document.activeElement.getAttribute('aria-label')"
        page.keyboard.press("ArrowDown")
        assert page.evaluate(said).startswith("x, input, f32[batch, seq, 16]")
        page.keyboard.press("ArrowDown")
        assert page.evaluate(said).startswith("layers.0, ")
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.getAttribute('aria-expanded')") == "true"
        page.keyboard.press("ArrowDown")
        inside = page.evaluate(said)
        page.keyboard.press("Escape")
        assert page.evaluate(said).startswith("layers.0, ") and inside != page.evaluate(said)
        page.keyboard.press("ArrowUp")
        assert page.evaluate(said).startswith("x, input")
        before = page.locator(".canvas > g").get_attribute("transform")
        page.keyboard.press("+")
        assert page.locator(".canvas > g").get_attribute("transform") != before


def test_tab_reaches_each_part_in_a_few_stops(browser: Any, encoders: Path) -> None:
    with Opened(browser, encoders) as opened:
        stops = []
        for _ in range(60):
            opened.page.keyboard.press("Tab")
            stops.append(
                opened.page.evaluate(
                    "document.activeElement.closest('[role=tree], .canvas, .details, .search, "
                    "#symbols, #cost')?.className.baseVal ?? "
                    "document.activeElement.closest('[role=tree], .details, .search, #symbols, "
                    "#cost')?.getAttribute('class')"
                )
            )
        assert {"tree", "canvas", "search"} <= set(stops)
        assert stops.count("tree") == 1  # one stop, then arrows
        assert stops.count("canvas") <= 2


def test_tables_are_tables_with_heads(browser: Any, pinned: Path) -> None:
    with Opened(browser, pinned) as opened:
        tables = opened.page.get_by_role("table").all()
        assert len(tables) == 4
        for table in tables:
            assert table.locator("caption").count() == 1
            heads = table.locator("thead th")
            assert heads.count() == table.locator("tbody tr").first.locator("th, td").count()
            assert table.locator("tbody th[scope=row]").count() == table.locator("tbody tr").count()
        opened.page.locator("#guards summary").first.click()
        assert "is a guard" in opened.page.locator("#guards").inner_text()


def test_page_says_that_proofs_are_left_out(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("symfx.html_report.contents._PROOFS", 1)
    path = tmp_path / "few_proofs.html"
    pinned_trace().report(path, verify=False)
    with Opened(browser, path) as opened:
        guards = opened.page.locator("#guards")
        assert "proofs of the first 1 pins" in guards.locator(".note").inner_text()
        assert guards.get_by_text("left out", exact=True).count() >= 1


def test_parameters_and_sizes_are_drawn_on_request(browser: Any, encoders: Path) -> None:
    with Opened(browser, encoders) as opened:
        opened.button("Unfold all modules").click()
        assert not any(", parameter" in label for label in opened.boxes())
        for choice, kind in (("parameters", "parameter"), ("size computations", "size")):
            opened.page.get_by_label(choice).check()
            items = opened.page.locator("[role=treeitem]").filter(
                has_text="weight" if kind == "parameter" else "sym_size"
            )
            items.last.locator(".name").last.click()
            assert any(f", {kind}" in label for label in opened.boxes())


def test_large_module_is_shown_in_runs(browser: Any, tmp_path: Path) -> None:
    large_trace(1500).report(tmp_path / "large.html", verify=False)
    with Opened(browser, tmp_path / "large.html") as opened:
        page = opened.page
        assert page.locator("[role=treeitem]").count() < 60
        assert page.evaluate("document.querySelectorAll('*').length") < 4000
        opened.button("Unfold all modules").click()
        page.wait_for_timeout(300)
        assert page.locator("[role=treeitem]").count() > 1500
        # Only what is seen has elements.
        assert page.locator(".canvas *").count() < 4000
        page.get_by_role("searchbox").fill("add_1234")
        page.keyboard.press("Enter")
        assert (
            page.locator(".canvas .selected > [role=button]")
            .get_attribute("aria-label")
            .startswith("add, ")
        )
        assert opened.problems == []


def test_hostile_texts_run_no_script(browser: Any, tmp_path: Path) -> None:
    hostile_trace().report(tmp_path / "hostile.html")
    with Opened(browser, tmp_path / "hostile.html") as opened:
        page = opened.page
        opened.button("Unfold all modules").click()
        for item in page.locator(".row").all():
            item.click()
        page.get_by_role("searchbox").fill("script")
        assert page.locator("#results button").count() > 0
        for summary in page.locator("summary").all():
            if summary.is_visible():
                summary.click()
        assert page.evaluate("typeof hacked") == "undefined"
        assert page.locator("img").count() == 0
        assert page.locator("script").count() == 2
        assert "<script>hacked=1</script>" in page.locator("h1").inner_text()
        assert opened.problems == []


def test_policy_stops_a_script_that_is_put_in(browser: Any, encoders: Path, tmp_path: Path) -> None:
    page = encoders.read_text().replace("<noscript>", "<script>hacked=1</script><noscript>")
    (tmp_path / "changed.html").write_text(page)
    with Opened(browser, tmp_path / "changed.html") as opened:
        assert opened.page.evaluate("typeof hacked") == "undefined"
        assert any("Content Security Policy" in problem for problem in opened.problems)
