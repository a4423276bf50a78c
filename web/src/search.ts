// The search over nodes, modules, symbols and conditions.

import { code, count, el, tinted, type Child } from "./dom";
import type { State } from "./model";

interface Entry {
  text: string;
  kind: string;
  shown: () => Child[];
  open: () => void;
}

const MOST = 40;

export function searchBox(state: State): HTMLElement {
  let entries: Entry[] | null = null;
  const results = el("ul", { id: "results", class: "results", hidden: true, "aria-label": "Results", keydown: onKey });
  const status = el("span", { class: "hidden", role: "status" });
  const input = el("input", {
    type: "search", id: "search", placeholder: "Search", "aria-label": "Search nodes, modules, symbols, guards",
    "aria-controls": "results", autocomplete: "off", spellcheck: "false",
    input: update, focus: update, keydown: onKey,
  });
  const box = el("div", { class: "search", role: "search" }, input, results, status);
  document.addEventListener("click", (event) => {
    if (!box.contains(event.target as Node)) close();
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement;
    if ((event.key === "/" && !typing) || (event.key === "k" && (event.ctrlKey || event.metaKey))) {
      event.preventDefault();
      input.focus();
    }
  });
  return box;

  function close(): void {
    results.hidden = true;
  }

  function update(): void {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) {
      close();
      status.textContent = "";
      return;
    }
    entries ??= entriesOf(state);
    const found = entries.filter(({ text }) => words.every((word) => text.includes(word)));
    // What begins with the words stands first.
    found.sort((a, b) => Number(b.text.startsWith(words[0])) - Number(a.text.startsWith(words[0])));
    const more = found.length - MOST;
    results.replaceChildren(
      ...found.slice(0, MOST).map((entry) => el("li", {}, el("button", { click: () => choose(entry) }, el("span", { class: "what" }, entry.kind), el("span", { class: "found" }, ...entry.shown())))),
      ...(more > 0 ? [el("li", { class: "dim" }, `and ${count(more, "more result")}`)] : []),
      ...(found.length ? [] : [el("li", { class: "dim" }, "Nothing found")]),
    );
    results.hidden = false;
    status.textContent = count(found.length, "result");
  }

  function choose(entry: Entry): void {
    close();
    entry.open();
  }

  function onKey(event: KeyboardEvent): void {
    const buttons = [...results.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement as HTMLButtonElement);
    if (event.key === "Escape") {
      input.focus();
      close();
    } else if (event.key === "ArrowDown") (buttons[at + 1] ?? buttons[0])?.focus();
    else if (event.key === "ArrowUp") (at > 0 ? buttons[at - 1] : input).focus();
    else if (event.key === "Enter" && event.target === input) buttons[0]?.click();
    else return;
    event.preventDefault();
  }
}

function entriesOf(state: State): Entry[] {
  const { contents, items } = state.model;
  const at = (id: string) => () => {
    const section = document.getElementById(id)!;
    section.scrollIntoView();
    section.focus({ preventScroll: true });
  };
  const entry = (kind: string, texts: string[], shown: () => Child[], open: () => void): Entry => ({ kind, text: texts.join(" ").toLowerCase(), shown, open });
  return [
    ...contents.pins.map((pin) => entry("pin", [pin.symbol, pin.cause.place, pin.cause.text], () => [code(`${pin.symbol} = ${pin.value}`)], at("symbols"))),
    ...contents.symbols.map((symbol) => entry("symbol", [symbol.name, symbol.sources], () => [tinted(symbol.name), el("span", { class: "dim" }, symbol.sources)], at("symbols"))),
    ...[...contents.guards, ...contents.asserts].map((guard) => entry("guard", [guard.condition, guard.cause.place, guard.cause.text], () => [code(guard.condition)], at("guards"))),
    ...[...items.values()].filter((item) => item.module || item.node >= 0).map((item) => {
      const data = state.model.data(item);
      const open = () => {
        document.getElementById("graph")!.scrollIntoView();
        state.select(item);
      };
      if (!data) return entry("module", [item.title, item.subtitle], () => [item.title, el("span", { class: "dim" }, item.subtitle)], open);
      const place = data.frames.length ? contents.frames[data.frames.at(-1)!] : ["", ""];
      return entry("node", [data.label, data.target, data.value, `${place[0]}`, `${place[1]}`], () => [data.label, el("span", { class: "dim" }, tinted(data.value))], open);
    }),
  ];
}
