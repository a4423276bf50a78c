// The top of the page: what pinned dimensions, and the answers to the four first questions.

import type { Contents, Pin, Verification } from "./contents";
import { bytes, code, count, el, percent, short, tinted, type Child } from "./dom";
import type { Item, Model, State } from "./model";
import { causeOf, nodeLinks, proofOf } from "./proofs";

/** The pins, in red: the graph holds for these values alone. */
export function pinsBanner(state: State): HTMLElement | null {
  const { pins } = state.model.contents;
  if (!pins.length) return null;
  const one = pins.length === 1;
  return el("section", { class: "pins", "aria-labelledby": "pins-title" },
    el("h2", { id: "pins-title" }, one ? "The program pinned a dimension" : `The program pinned ${pins.length} dimensions`),
    el("p", {}, `The graph holds for ${one ? "this value" : "these values"} alone.`),
    el("ul", {}, ...pins.map((pin) => pinItem(pin, state))),
  );
}

function pinItem(pin: Pin, state: State): HTMLElement {
  return el("li", {},
    el("strong", {}, code(`${pin.symbol} = ${pin.value}`)),
    pin.sources ? el("span", { class: "dim" }, `${pin.sources} in the inputs`) : null,
    causeOf(pin.cause),
    nodeLinks(pin.nodes, state),
    proofOf(pin.proof, state),
  );
}

function card(question: string, answer: Child, tone: string, ...rest: Child[]): HTMLElement {
  return el("section", { class: `card ${tone}` }, el("h2", {}, question), el("p", { class: "answer" }, answer), ...rest);
}

export function overview(state: State): HTMLElement {
  const { contents } = state.model;
  return el("div", { class: "cards" }, dynamicCard(contents), pinnedCard(contents), verifiedCard(contents), costCard(state));
}

function dynamicCard({ symbols }: Contents): HTMLElement {
  const open = symbols.filter((symbol) => !symbol.unbacked);
  const data = symbols.filter((symbol) => symbol.unbacked);
  const names = open.length ? open.slice(0, 6).map(({ name }) => name).join(", ") + (open.length > 6 ? ` and ${open.length - 6} more` : "") : "None";
  const rows = [...open, ...data].slice(0, 8).map((symbol) =>
    el("li", {}, el("span", { class: "chip" }, tinted(symbol.name)), el("span", {}, symbol.unbacked ? "comes from data at run time" : symbol.sources), el("span", { class: "dim" }, tinted(symbol.range === "any" ? "any size" : symbol.range))));
  return card("Which dimensions are dynamic?", tinted(names), "",
    rows.length ? el("ul", { class: "facts" }, ...rows) : el("p", { class: "dim" }, "The graph holds for the shapes of the example alone."),
    symbols.length > 8 ? el("p", {}, el("a", { href: "#symbols" }, `All ${symbols.length} symbols`)) : null);
}

function pinnedCard({ pins, guards }: Contents): HTMLElement {
  const answer = pins.length ? pins.map(({ symbol, value }) => `${symbol} = ${value}`).join(", ") : "None";
  const lines = pins.slice(0, 4).map((pin) => el("li", {}, causeOf(pin.cause)));
  const more = guards.length
    ? el("p", {}, "The graph relies on ", el("a", { href: "#guards" }, count(guards.length, "guard")), ".")
    : el("p", { class: "dim" }, "The graph relies on no guards.");
  return card("Which were pinned, by which line?", tinted(answer), pins.length ? "bad" : "good", pins.length ? el("ul", { class: "facts" }, ...lines) : null, more,
    // Where nothing is pinned there is room for the first conditions.
    pins.length ? null : el("ul", { class: "facts" }, ...guards.slice(0, 3).map((guard) => el("li", {}, code(guard.condition), el("span", { class: "place" }, guard.cause.place)))));
}

export const sizesText = (sizes: Record<string, number>) =>
  Object.entries(sizes).map(([name, size]) => `${name}=${size}`).join(", ") || "the example's shape";

/** A word for a verification, and whether that is good. */
export function verdictOf(verification: Verification | null): [string, string] {
  if (!verification) return ["Not verified", "unsure"];
  if (!verification.passed) return ["Verification failed", "bad"];
  const compared = verification.runs.filter((run) => run.compared).length;
  return [`Yes, at ${count(compared, "shape")}`, "good"];
}

function verifiedCard({ verification, unverified }: Contents): HTMLElement {
  const [word, tone] = verdictOf(verification);
  if (!verification) return card("Was it verified against eager?", word, tone, el("p", {}, unverified ?? "Trace.verify was not called."));
  const failed = verification.runs.find((run) => !run.passed);
  const runs = verification.runs.slice(0, 7).map((run) =>
    el("li", {}, el("span", { class: run.failure ? "mark bad" : "mark good", "aria-hidden": "true" }, run.failure ? "✗" : "✓"),
      code(sizesText(run.sizes)),
      el("span", { class: "dim" }, !run.compared ? "not comparable" : run.passed ? (run.example ? "the example" : "") : "differs")));
  return card("Was it verified against eager?", word, tone, el("p", {}, verification.verdict),
    failed ? el("p", { class: "red" }, `At ${sizesText(failed.sizes)}: ${failed.failure}`) : null,
    el("ul", { class: "facts runs" }, ...runs));
}

/** Inputs for the sizes at which costs are shown; all of them show the same sizes. */
export function sizeInputs(state: State): HTMLElement | null {
  const { sizes } = state.model;
  if (!sizes.size) return null;
  const fields = [...sizes].map(([name, size]) => {
    const input = el("input", {
      type: "number", min: 0, step: 1, value: Number.isFinite(size) ? size : "", placeholder: "?", "aria-label": `size of ${name}`,
      input: () => state.setSize(name, input.value === "" ? NaN : Number(input.value)),
    });
    state.listen(({ kind }) => {
      const now = state.model.sizes.get(name)!;
      if (kind === "sizes" && document.activeElement !== input) input.value = Number.isFinite(now) ? String(now) : "";
    });
    return el("label", {}, tinted(name), " ", input);
  });
  return el("div", { class: "sizes", role: "group", "aria-label": "Sizes for the costs" }, el("span", { class: "dim" }, "at"), ...fields);
}

/** The costs by a word for each node: its name, its operations, its bytes. */
export function costsBy(model: Model, wordOf: (item: Item) => string): { word: string; flops: number; memory: number }[] {
  const sums = new Map<string, { word: string; flops: number; memory: number }>();
  for (const leaf of model.leaves) {
    const word = wordOf(leaf);
    let sum = sums.get(word);
    if (!sum) sums.set(word, (sum = { word, flops: 0, memory: 0 }));
    sum.flops += leaf.flops;
    sum.memory += leaf.memory;
  }
  return [...sums.values()];
}

/** The innermost module around a node; none if that is the model. */
export function moduleAround(leaf: Item): Item | null {
  let at = leaf.parent;
  while (at && !at.module) at = at.parent;
  return at?.module?.path ? at : null;
}

export function bars(title: string, sums: { word: string; amount: number }[], most = 4): HTMLElement {
  const total = sums.reduce((sum, { amount }) => sum + amount, 0);
  if (Number.isNaN(total)) return el("div", { class: "bars" }, el("h3", {}, title), el("p", { class: "dim" }, "known when each symbol has a size"));
  const sorted = sums.filter(({ amount }) => amount > 0).sort((a, b) => b.amount - a.amount);
  const shown = sorted.slice(0, sorted.length > most ? most - 1 : most);
  const rest = sorted.slice(shown.length).reduce((sum, { amount }) => sum + amount, 0);
  if (rest > 0) shown.push({ word: `${sorted.length - shown.length} others`, amount: rest });
  return el("div", { class: "bars" }, el("h3", {}, title),
    shown.length
      ? el("ul", {}, ...shown.map(({ word, amount }) => {
          const bar = el("span", { class: "bar", "aria-hidden": "true" }, el("span"));
          (bar.firstElementChild as HTMLElement).style.width = `${(100 * amount) / total}%`;
          return el("li", {}, el("span", { class: "word" }, word), bar, el("span", { class: "amount" }, percent(amount / total)));
        }))
      : el("p", { class: "dim" }, "none"));
}

function costCard(state: State): HTMLElement {
  const { model } = state;
  const { cost } = model.contents;
  const answer = el("span");
  const about = el("p", { class: "dim" });
  const shares = el("div", { class: "two" });
  const update = () => {
    const { root, peak } = model;
    const missing = model.unsized.join(", ");
    const known = [
      ...(Number.isFinite(root.flops) ? [`${short(root.flops)} operations`] : []),
      ...(Number.isFinite(peak) ? [`${bytes(peak)} of memory at the peak`] : []),
    ];
    answer.textContent = known.join(", ") || "It depends on the sizes";
    about.textContent =
      (missing ? `Give ${missing} a size to see the rest. ` : "") +
      `The peak counts inputs and results, not the ${short(cost.parameters)} parameters.` +
      (Number.isFinite(root.memory) ? ` All operators together write ${bytes(root.memory)}.` : "");
    const by = costsBy(model, (leaf) => moduleAround(leaf)?.module?.kind ?? model.data(leaf)!.title);
    shares.replaceChildren(
      bars("Operations", by.map(({ word, flops }) => ({ word, amount: flops }))),
      bars("Bytes written", by.map(({ word, memory }) => ({ word, amount: memory }))),
    );
  };
  update();
  state.listen(({ kind }) => kind === "sizes" && update());
  return card("Where do time and memory go?", answer, "wide", sizeInputs(state), about, shares, el("p", {}, el("a", { href: "#cost" }, "Cost of each module")));
}
