// The report as a page: its parts put together.

import { readContents } from "./contents";
import { colorSymbols, count, el, type Child } from "./dom";
import { DetailsView } from "./details";
import { GraphView } from "./graph";
import { Model, State } from "./model";
import { overview, pinsBanner } from "./overview";
import { searchBox } from "./search";
import { costSection, guardsSection, notesSection, symbolsSection, verificationSection } from "./tables";
import { TreeView } from "./tree";
import { themeSwitch } from "./theme";
import "./page.css";

function main(): void {
  const contents = readContents();
  colorSymbols([...contents.symbols.map(({ name }) => name), ...contents.pins.map(({ symbol }) => symbol)]);
  const state = new State(new Model(contents));
  const graph = graphSection(state);
  const pages = ["graph", "symbols", "guards", "verification", "cost"];
  document.getElementById("page")!.replaceWith(
    el("a", { class: "skip", href: "#main" }, "Skip to the report"),
    el("header", { class: "top" },
      el("div", { class: "brand" }, el("strong", { title: contents.model }, contents.model), el("span", { class: "dim" }, "symfx report")),
      el("nav", { "aria-label": "Sections" }, ...pages.map((id) => el("a", { href: `#${id}` }, id[0].toUpperCase() + id.slice(1)))),
      searchBox(state),
      themeSwitch(),
    ),
    el("main", { id: "main", tabindex: -1 },
      el("h1", {}, contents.model),
      el("p", { class: "dim about" }, `${count(contents.nodes.length, "node")} · ${contents.modules.length > 1 ? `${count(contents.modules.length - 1, "module call")} · ` : ""}traced with symfx ${contents.symfx}, torch ${contents.torch}`),
      ...[pinsBanner(state)].filter((each) => each !== null),
      overview(state),
      graph.element,
      symbolsSection(state),
      guardsSection(state),
      verificationSection(state),
      costSection(state),
      ...[notesSection(state)].filter((each) => each !== null),
    ),
    el("footer", {}, el("p", { class: "dim" }, `Made by symfx ${contents.symfx}. This file is complete in itself and loads nothing.`)),
  );
  graph.view.fit(false);
  document.documentElement.dataset.ready = String(Math.round(performance.now()));
}

function graphSection(state: State): { element: HTMLElement; view: GraphView } {
  const view = new GraphView(state);
  const button = (text: string, label: string, click: () => void) => el("button", { title: label, "aria-label": label, click }, text);
  const toggle = (text: string, what: "showParameters" | "showSizes"): Child => {
    const box = el("input", { type: "checkbox", change: () => state.show(what, box.checked) });
    state.listen(() => (box.checked = state[what]));
    return el("label", { class: "check" }, box, ` ${text}`);
  };
  const full = button("Full screen", "Full screen for the graph", () => {
    const on = element.classList.toggle("full");
    full.setAttribute("aria-pressed", String(on));
    document.documentElement.classList.toggle("locked", on);
  });
  const has = (kind: string) => state.model.contents.nodes.some((node) => node.kind === kind);
  const element = el("section", { id: "graph", class: "block graph", "aria-labelledby": "graph-title", tabindex: -1, keydown: (event: KeyboardEvent) => event.key === "Escape" && element.classList.contains("full") && full.click() },
    el("div", { class: "bar-of-tools" },
      el("h2", { id: "graph-title" }, "Graph"),
      el("div", { class: "tools", role: "toolbar", "aria-label": "Picture" },
        button("Fold all", "Fold all modules", () => state.foldAll(true)),
        button("Unfold all", "Unfold all modules", () => state.foldAll(false)),
        has("parameter") ? toggle("parameters", "showParameters") : null,
        has("size") ? toggle("size computations", "showSizes") : null,
        el("span", { class: "space" }),
        button("−", "Zoom out", () => view.zoomBy(1 / 1.4)),
        button("+", "Zoom in", () => view.zoomBy(1.4)),
        button("Fit", "Fit the whole graph", () => view.fit()),
        full,
      ),
    ),
    el("p", { id: "graph-keys", class: "hint" }, "Drag to move, pinch or Ctrl and wheel to zoom, double-click a module to fold or unfold it. ", el("span", { class: "keys" }, "Keys: arrows follow edges, Enter folds, plus and minus zoom, 0 fits.")),
    el("div", { class: "panes" },
      el("details", { class: "tree-pane", open: window.innerWidth > 700 }, el("summary", {}, "Modules"), new TreeView(state).element),
      view.element,
      new DetailsView(state).element,
    ),
  );
  return { element, view };
}

main();
