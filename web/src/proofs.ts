// A proof as a list that unfolds: a statement, and below it the statements from which it follows.

import type { Cause, Contents, Proof, Reason } from "./contents";
import { code, el, tinted } from "./dom";
import type { State } from "./model";

/** The place of a line, and its text. */
export function causeOf(cause: Cause): HTMLElement {
  if (!cause.place) return el("span", { class: "dim" }, cause.operator || "no line of the program");
  return el("span", { class: "cause" },
    el("span", { class: "place" }, cause.place),
    cause.text ? el("code", {}, cause.text) : null,
    cause.operator ? el("span", { class: "dim" }, `asked by ${cause.operator}`) : null,
  );
}

/** Buttons that show nodes in the graph. */
export function nodeLinks(places: number[], state: State): HTMLElement | null {
  if (!places.length) return null;
  const { leaves, contents } = state.model;
  return el("span", { class: "node-links" }, ...places.slice(0, 3).map((place) =>
    el("button", { class: "link", click: () => showInGraph(place) }, `show ${contents.nodes[place].name}`)));

  function showInGraph(place: number): void {
    document.getElementById("graph")!.scrollIntoView();
    state.select(leaves[place]);
  }
}

/** What a condition is; one that follows says so by what stands below it. */
const WORDS: Record<string, string> = {
  guard: "guard", stated: "stated by where=", assertion: "asserted at run time", range: "range", fact: "known",
  follows: "because", open: "open", data: "from data",
};

function reasonOf(reason: Reason): HTMLElement {
  return el("li", {},
    el("span", { class: "statement" }, tinted(reason.statement)),
    WORDS[reason.kind] ? el("span", { class: "dim" }, WORDS[reason.kind]) : null,
    reason.note ? el("span", { class: "dim" }, reason.note) : null,
    reason.place ? el("span", { class: "place" }, reason.place) : null,
    reason.text ? el("code", {}, reason.text) : null,
    reason.because.length ? el("ul", {}, ...reason.because.map(reasonOf)) : null,
  );
}

/** Says that some conditions have no proof on the page, if that is so. */
export function leftOutNote({ proofs }: Contents): HTMLElement | null {
  if (!proofs.left_out) return null;
  return el("p", { class: "note" },
    `This page has the proofs of the first ${proofs.most} pins, symbols, guards and assertions, and leaves out ${proofs.left_out}. `,
    "To see another one, call ", code("t.explain"), " or ", code("symfx explain"), ".");
}

export function proofOf(proof: Proof | null, _state: State): HTMLElement | null {
  if (!proof) return el("span", { class: "dim" }, "left out");
  return el("details", { class: "proof" },
    el("summary", {}, "Why?"),
    el("p", {}, tinted(proof.sentence)),
    proof.reasons.length ? el("ul", {}, ...proof.reasons.map(reasonOf)) : null,
    ...proof.details.filter(([label]) => label === "rejects" || label === "values").map(([label, text]) => el("p", {}, el("span", { class: "dim" }, `${label} `), code(text))),
    proof.fix ? el("p", { class: "fix" }, "To change it: ", proof.fix) : null,
  );
}
