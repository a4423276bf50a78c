// The tables below the graph: symbols, guards, the verification, the cost of modules, notes.

import type { Condition } from "./contents";
import { bytes, code, count, el, percent, short, tinted, type Child } from "./dom";
import type { Item, State } from "./model";
import { bars, costsBy, sizeInputs, sizesText, verdictOf } from "./overview";
import { causeOf, leftOutNote, nodeLinks, proofOf } from "./proofs";

function section(id: string, title: string, ...children: Child[]): HTMLElement {
  return el("section", { id, class: "block", "aria-labelledby": `${id}-title`, tabindex: -1 }, el("h2", { id: `${id}-title` }, title), ...children);
}

/** A table; on a narrow screen each row becomes a block whose cells have the names of the columns. */
function table(caption: string, heads: string[], rows: Child[][]): HTMLElement {
  return el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": `${caption}: table` },
    el("table", {},
      el("caption", { class: "hidden" }, caption),
      el("thead", {}, el("tr", {}, ...heads.map((head) => el("th", { scope: "col" }, head)))),
      el("tbody", {}, ...rows.map((cells) => el("tr", {}, ...cells.map((cell, i) =>
        i === 0 ? el("th", { scope: "row" }, cell) : el("td", { "data-label": heads[i] }, cell))))),
    ));
}

export function symbolsSection(state: State): HTMLElement {
  const { symbols, pins } = state.model.contents;
  const rows = symbols.map((symbol) => [
    el("span", { class: "chip" }, tinted(symbol.name)),
    symbol.unbacked ? "data, at run time" : el("code", {}, symbol.sources),
    symbol.range === "any" ? "any size" : code(symbol.range),
    symbol.example === null ? "known at run time" : String(symbol.example),
    proofOf(symbol.proof, state) ?? "",
  ]);
  const pinned = pins.map((pin) => [
    el("span", { class: "chip red" }, tinted(pin.symbol)),
    el("code", {}, pin.sources),
    el("span", { class: "red" }, `pinned to ${pin.value}`),
    String(pin.value),
    proofOf(pin.proof, state) ?? "",
  ]);
  return section("symbols", "Symbols",
    symbols.length + pins.length
      ? table("Symbols", ["symbol", "where it is", "range", "in the example", "proof"], [...pinned, ...rows])
      : el("p", { class: "dim" }, "No dimension is dynamic."),
    leftOutNote(state.model.contents));
}

function conditionRows(conditions: Condition[], state: State): Child[][] {
  return conditions.map((each) => [
    code(each.condition),
    causeOf(each.cause),
    el("span", {}, nodeLinks(each.nodes, state), proofOf(each.proof, state)),
  ]);
}

export function guardsSection(state: State): HTMLElement {
  const { guards, asserts } = state.model.contents;
  return section("guards", "Guards",
    el("p", { class: "dim" }, guards.length
      ? "The graph holds for inputs that fulfill all of these conditions. None follows from the others."
      : "The graph relies on no condition beyond the ranges of its symbols."),
    guards.length ? table("Guards", ["condition", "line that caused it", "proof"], conditionRows(guards, state)) : null,
    leftOutNote(state.model.contents),
    asserts.length ? el("h3", {}, "Asserted at run time") : null,
    asserts.length ? table("Asserted at run time", ["condition", "line that caused it", "proof"], conditionRows(asserts, state)) : null,
  );
}

export function verificationSection(state: State): HTMLElement {
  const { verification, unverified } = state.model.contents;
  const [word, tone] = verdictOf(verification);
  if (!verification)
    return section("verification", "Verification", el("p", { class: `verdict ${tone}` }, word), el("p", {}, unverified ?? "Trace.verify was not called."));
  const rows = verification.runs.map((run) => [
    code(sizesText(run.sizes)),
    run.difference === null ? "" : String(run.difference),
    run.relative === null ? "" : String(run.relative),
    el("span", { class: run.failure ? (run.compared ? "red" : "amber") : "green" },
      run.failure ? (run.compared ? "differs: " : "not comparable: ") + run.failure : "agrees", run.example ? " (the example)" : ""),
  ]);
  return section("verification", "Verification",
    el("p", { class: `verdict ${tone}` }, verification.verdict),
    el("p", { class: "dim" }, "The graph and the model ran on the same inputs, and their results were compared."),
    table("Verification against eager", ["sizes", "largest difference", "relative", "outcome"], rows),
    ...verification.notes.map((note) => el("p", { class: "note" }, note)),
  );
}

const FIRST = 24;

export function costSection(state: State): HTMLElement {
  const { model } = state;
  const { cost } = model.contents;
  const body = el("div");
  let all = false;
  const update = () => {
    const modules = inOrder(model.root);
    const shown = all ? modules : important(modules);
    const { root } = model;
    const rows = shown.map((item): Child[] => {
      const depth = model.around(item).filter((each) => each.module).length;
      const name = el("span", { class: "module-name" },
        el("button", { class: "link", click: () => { document.getElementById("graph")!.scrollIntoView(); state.select(item); } }, item.title),
        item.subtitle ? el("span", { class: "dim" }, ` ${item.subtitle}`) : null);
      name.style.paddingInlineStart = `${Math.min(depth, 8) * 14}px`;
      return [
        name,
        item.module!.parameters ? item.module!.parameters.toLocaleString("en-US") : "–",
        amount(item.flops ? short(item.flops) : "–", item.flops / root.flops, item.module!.flops),
        amount(item.memory ? bytes(item.memory) : "–", item.memory / root.memory, item.module!.memory),
      ];
    });
    const hidden = modules.length - shown.length;
    body.replaceChildren(
      table("Cost of each module", ["module", "parameters", "operations", "bytes written"], rows),
      ...(hidden > 0 ? [el("p", {}, el("button", { click: () => { all = true; update(); } }, `Show ${count(hidden, "more module")}`))] : []),
      el("div", { class: "two" },
        bars("Operations by operator", costsBy(model, (leaf) => model.data(leaf)!.title).map(({ word, flops }) => ({ word, amount: flops })), 8),
        bars("Bytes written by operator", costsBy(model, (leaf) => model.data(leaf)!.title).map(({ word, memory }) => ({ word, amount: memory })), 8)),
    );
  };
  update();
  state.listen(({ kind }) => kind === "sizes" && update());
  return section("cost", "Cost",
    el("p", { class: "dim" }, "Operations are the floating-point operations of matrix products, convolutions and attention. Each module counts all that it calls. The polynomials hold at any size; the numbers are those at the sizes below."),
    sizeInputs(state),
    el("p", {}, "In all ", code(cost.flops), " operations and ", code(cost.memory), " bytes written."),
    body,
    ...cost.notes.map((note) => el("p", { class: "note" }, note)),
  );
}

/** A module and those in it, in the order of the graph. */
function inOrder(item: Item): Item[] {
  return [...(item.module && item.size ? [item] : []), ...item.children.flatMap((part) => (part.node < 0 ? inOrder(part) : []))];
}

/** The outer modules, in the order of the model, as many as fit. */
function important(modules: Item[]): Item[] {
  const depth = (item: Item) => item.module!.path.split(".").length;
  const depths = [...new Set(modules.map(depth))].sort((a, b) => a - b);
  let shown: Item[] = [];
  for (const most of depths) {
    const next = modules.filter((item) => depth(item) <= most);
    if (shown.length && next.length > FIRST) break;
    shown = next;
  }
  return shown;
}

function amount(text: string, share: number, polynomial: string): HTMLElement {
  const bar = el("span", { class: "bar", "aria-hidden": "true" }, el("span"));
  (bar.firstElementChild as HTMLElement).style.width = `${share > 0 ? share * 100 : 0}%`;
  return el("span", { class: "cost-amount" },
    el("span", { class: "number" }, text), el("span", { class: "share" }, share > 0 ? percent(share) : ""), share > 0 ? bar : null,
    polynomial !== "0" ? el("code", { class: "polynomial" }, tinted(polynomial)) : null);
}

export function notesSection(state: State): HTMLElement | null {
  const { notes } = state.model.contents;
  return notes.length ? section("notes", "Notes", ...notes.map((note) => el("p", { class: "note" }, note))) : null;
}

