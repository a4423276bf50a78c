// All about the node or the module that is selected.

import type { Condition, Frame } from "./contents";
import { bytes, code, count, el, percent, short, tinted, type Child } from "./dom";
import type { Item, State } from "./model";
import { proofOf } from "./proofs";

export class DetailsView {
  readonly element = el("section", { class: "details", "aria-label": "Details of the selection", "aria-live": "polite", tabindex: -1 });

  constructor(private readonly state: State) {
    state.listen(({ kind, item }) => {
      if (kind === "select") this.show(item);
      else if (kind === "sizes") this.show(state.selected);
    });
    this.show(null);
  }

  private show(item: Item | null): void {
    this.element.classList.toggle("empty", !item);
    if (!item) {
      const { root } = this.state.model;
      const hint = el("p", { class: "dim" }, "Select a box to see its line, its shape, its cost, and the guards that it caused.");
      this.element.replaceChildren(el("h3", {}, root.title), hint, ...this.module(root).filter((part) => part instanceof Node));
      return;
    }
    const data = this.state.model.data(item);
    this.element.replaceChildren(
      el("div", { class: "head" },
        el("h3", {}, data ? data.label : item.title),
        el("button", { class: "quiet", "aria-label": "Close the details", click: () => this.state.select(null) }, "×"),
      ),
      ...(data ? this.node(item) : this.module(item)).filter((part): part is HTMLElement => part instanceof Node),
    );
    this.element.scrollTop = 0;
  }

  private node(item: Item): Child[] {
    const { contents, users } = this.state.model;
    const data = contents.nodes[item.node];
    const frames = data.frames.map((place) => contents.frames[place]);
    return [
      el("p", { class: "expression" }, el("code", {}, data.expression)),
      this.facts([
        ["value", data.value ? code(data.value) : null],
        ["operator", data.op === "call_function" ? el("code", {}, data.target) : data.kind],
        ["module", this.link(this.moduleOf(item))],
        ...data.meta.map(([name, text]): [string, Child] => [name, code(text)]),
        ...this.costs(item),
      ]),
      ...this.lines(frames),
      ...this.conditions(item),
      ...this.nodes("Reads", data.inputs),
      ...this.nodes("Read by", users[item.node]),
    ];
  }

  private module(item: Item): Child[] {
    const module = item.module;
    return [
      this.facts([
        ["class", module ? el("code", {}, module.kind) : null],
        ["nodes", item.size.toLocaleString("en-US")],
        ["parameters", module?.parameters ? module.parameters.toLocaleString("en-US") : null],
        ...this.costs(item),
      ]),
      item.node < 0 && item !== this.state.model.root
        ? el("p", {}, el("button", { click: () => this.state.fold(item) }, "Fold or unfold"))
        : null,
      ...this.conditions(item),
      ...this.parts(item),
    ];
  }

  private costs(item: Item): [string, Child][] {
    const { root, contents } = this.state.model;
    const data = this.state.model.data(item);
    const share = (part: number, whole: number) => (part > 0 && whole > 0 ? ` (${percent(part / whole)})` : "");
    return [
      ["operations", item.flops ? `${short(item.flops)}${share(item.flops, root.flops)}` : null],
      ["", item.module && item.flops ? code(item.module.flops) : null],
      ["writes", item.memory ? `${bytes(item.memory)}${share(item.memory, root.memory)}` : data && data.kind === "operator" ? "nothing: a view" : null],
      ["", item.module && item.memory ? code(`${item.module.memory} bytes`) : null],
      ["alive until", data && item.memory ? contents.nodes[data.life[1]].name : null],
    ];
  }

  private facts(pairs: [string, Child][]): HTMLElement {
    const shown = pairs.filter(([, value]) => value !== null && value !== false);
    return el("dl", {}, ...shown.flatMap(([name, value]) => (name ? [el("dt", {}, name), el("dd", {}, value)] : [el("dd", { class: "more" }, value)])));
  }

  private lines(frames: Frame[]): Child[] {
    if (!frames.length) return [];
    const own = frames.findLastIndex(([, , users]) => users);
    const line = ([place, text]: Frame) => el("li", {}, el("span", { class: "place" }, place), el("code", {}, text));
    const shown = own < 0 ? frames.length - 1 : own;
    return [
      el("h4", {}, own < 0 ? "Line" : "Your line"),
      el("ul", { class: "lines own" }, line(frames[shown])),
      frames.length > 1
        ? el("details", {}, el("summary", {}, `All ${frames.length} lines that led here`), el("ul", { class: "lines" }, ...frames.map(line)))
        : null,
    ];
  }

  /** Guards, pins and assertions that nodes of an item caused. */
  private conditions(item: Item): Child[] {
    const { contents, leaves, around } = this.state.model;
    const within = (places: number[]) => places.some((place) => leaves[place] === item || around.call(this.state.model, leaves[place]).includes(item));
    const list = (title: string, found: Condition[]) =>
      found.length
        ? [el("h4", {}, title), el("ul", { class: "conditions" }, ...found.map((each) => el("li", {}, code(each.condition), el("span", { class: "place" }, each.cause.place), proofOf(each.proof, this.state))))]
        : [];
    if (item === this.state.model.root) return [];
    const pins = contents.pins.filter((pin) => within(pin.nodes));
    return [
      ...(pins.length ? [el("h4", { class: "red" }, "Pinned here"), el("ul", { class: "conditions" }, ...pins.map((pin) => el("li", {}, code(`${pin.symbol} = ${pin.value}`), el("span", { class: "place" }, pin.cause.place))))] : []),
      ...list("Guards from here", contents.guards.filter((guard) => within(guard.nodes))),
      ...list("Asserted at run time", contents.asserts.filter((each) => within(each.nodes))),
    ];
  }

  private nodes(title: string, places: number[]): Child[] {
    if (!places.length) return [];
    const { contents, leaves } = this.state.model;
    const rows = places.slice(0, 30).map((place) => el("li", {}, this.link(leaves[place]), " ", el("code", { class: "dim" }, tinted(contents.nodes[place].value))));
    const more = places.length - rows.length;
    return [el("h4", {}, title), el("ul", { class: "links" }, ...rows, more > 0 ? el("li", { class: "dim" }, `and ${count(more, "more node")}`) : null)];
  }

  private parts(item: Item): Child[] {
    const costly = item.children.filter((part) => part.flops > 0).sort((a, b) => b.flops - a.flops).slice(0, 8);
    if (costly.length < 2) return [];
    return [
      el("h4", {}, "Where its operations are"),
      el("ul", { class: "links" }, ...costly.map((part) => el("li", {}, this.link(part), " ", el("span", { class: "dim" }, percent(part.flops / item.flops))))),
    ];
  }

  private moduleOf(item: Item): Item {
    let at = item;
    while (!at.module) at = at.parent!;
    return at;
  }

  private link(item: Item): HTMLElement {
    const data = this.state.model.data(item);
    return el("button", { class: "link", click: () => this.state.select(item) }, data ? data.label : item.title);
  }
}
