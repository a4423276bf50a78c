// The picture of unfolded modules: each is laid out by itself, the inner ones first.
//
// So a module that is folded or unfolded costs the layout of itself and of the modules around it.
// A module that is unfolded has a point where all values enter it, and one where all leave it. An
// edge that would run past many boxes is cut: a small box stands for its far end.

import { placesFor, type Plan, type Point } from "./layered";
import type { Item, State } from "./model";
import { LABEL_FONT, SUBTITLE_FONT, TITLE_FONT, fitted, subtitleOf, textWidth, titleOf } from "./texts";

export interface Box {
  item: Item;
  x: number;
  y: number;
  width: number;
  height: number;
  inner: Layout | null;
  /** How far the inside stands from the left, where the header is wider. */
  shift: number;
}

/** A small box for the far end of an edge: the node that makes a value, or one that reads it. */
export interface Reference {
  /** The place of the node at the far end. */
  node: number;
  text: string;
  x: number;
  y: number;
  width: number;
}

/** Values that one part of a module hands to another; without a part they enter or leave it. */
export interface Edge {
  from: Item | null;
  to: Item | null;
  values: number[];
  points: Point[];
  label: { text: string; x: number; y: number; width: number } | null;
}

export interface Layout {
  width: number;
  height: number;
  boxes: Box[];
  references: Reference[];
  edges: Edge[];
  /** Where values enter and leave, if any do. */
  entry: Point | null;
  exit: Point | null;
}

export const HEADER = 28;
export const REFERENCE_HEIGHT = 20;
/** An edge past more boxes than this is cut, if the module has more edges than `FEW`. */
const FAR = 12;
const FEW = 16;
/** Widths are rounded up, so that layers that differ in numbers alone have the same plan. */
const rounded = (width: number) => Math.ceil(width / 16) * 16;

export class Layouter {
  private kept = new Map<string, Layout>();

  constructor(private readonly state: State) {}

  /** Forget the layouts that a change of an item touches; all, if there is no item. */
  forget(item: Item | null): void {
    if (!item) this.kept.clear();
    for (let at = item; at; at = at.parent) this.kept.delete(at.id);
  }

  layout(item: Item): Layout {
    let found = this.kept.get(item.id);
    if (!found) this.kept.set(item.id, (found = this.make(item)));
    return found;
  }

  private make(item: Item): Layout {
    const parts = this.state.partsOf(item);
    const number = new Map(parts.map((part, i) => [part, i]));
    const edges = this.edgesIn(item, number);
    const plan: Plan = { boxes: [], edges: [], first: null, last: null };
    const add = (width: number, height: number) => plan.boxes.push({ width, height }) - 1;
    const inner = parts.map((part) => (part.node < 0 && this.state.unfolded.has(part.id) ? this.layout(part) : null));
    parts.forEach((part, i) => add(...this.sizeOf(part, inner[i])));
    const references: (Reference & { box: number })[] = [];
    for (const edge of edges) {
      edge.label = this.labelOf(edge);
      const start = edge.from ? number.get(edge.from)! : -1;
      const end = edge.to ? number.get(edge.to)! : parts.length;
      const label = edge.label?.width ?? 0;
      if (edges.length > FEW && end - start > FAR) {
        // The edge is drawn beside the reader; what leaves the module is drawn beside its maker.
        const node = edge.to ? edge.values[0] : this.outerReader(item, edge.values[0]);
        const text = fitted(`${edge.to ? "↑" : "↓"} ${this.state.model.contents.nodes[node].label}`, LABEL_FONT);
        const width = rounded(textWidth(text, LABEL_FONT) + 14);
        const box = add(width, REFERENCE_HEIGHT);
        references.push({ node, text, x: 0, y: 0, width, box });
        plan.edges.push(edge.to ? { from: box, to: end, label } : { from: start, to: box, label });
        continue;
      }
      if (!edge.from) plan.first ??= add(8, 8);
      if (!edge.to) plan.last ??= add(8, 8);
      plan.edges.push({ from: edge.from ? start : plan.first!, to: edge.to ? end : plan.last!, label });
    }
    const places = placesFor(plan);
    const boxes = parts.map((part, i): Box => {
      const { width, height } = plan.boxes[i];
      const [x, y] = places.boxes[i];
      return { item: part, x: x - width / 2, y: y - height / 2, width, height, inner: inner[i], shift: (width - (inner[i]?.width ?? width)) / 2 };
    });
    for (const reference of references) [reference.x, reference.y] = places.boxes[reference.box];
    edges.forEach((edge, i) => {
      const { from, to } = plan.edges[i];
      const { points, label } = places.edges[i];
      edge.points = [...points];
      const source = boxes[from];
      const target = boxes[to];
      if (from === plan.first) edge.points[0] = places.boxes[from];
      if (to === plan.last) edge.points[points.length - 1] = places.boxes[to];
      if (source?.inner?.exit) {
        const x = source.x + source.shift + source.inner.exit[0];
        edge.points.splice(0, 1, [x, source.y + HEADER + source.inner.exit[1]], [x, source.y + source.height]);
      }
      if (target?.inner?.entry) {
        const x = target.x + target.shift + target.inner.entry[0];
        edge.points.splice(-1, 1, [x, target.y], [x, target.y + HEADER + target.inner.entry[1]]);
      }
      if (edge.label && label) [edge.label.x, edge.label.y] = label;
    });
    const point = (box: number | null) => (box === null ? null : places.boxes[box]);
    return { width: places.width, height: places.height, boxes, references, edges, entry: point(plan.first), exit: point(plan.last) };
  }

  private sizeOf(part: Item, inner: Layout | null): [number, number] {
    const title = titleOf(this.state.model, part);
    if (inner) {
      const header = textWidth(`${title}  ${part.subtitle}`, TITLE_FONT) + 64;
      return [Math.max(inner.width, rounded(header)), inner.height + HEADER];
    }
    const text = Math.max(
      textWidth(title, TITLE_FONT) + (part.node < 0 ? 26 : 0),
      textWidth(subtitleOf(part), SUBTITLE_FONT),
    );
    return [Math.max(64, rounded(text + 20)), part.node < 0 ? 48 : 42];
  }

  /** The edges between parts of a module, and those that enter and leave it. */
  private edgesIn(item: Item, number: Map<Item, number>): Edge[] {
    const { model } = this.state;
    const found = new Map<string, Edge>();
    const note = (from: Item | null, to: Item | null, value: number) => {
      if (from === to || (from && !number.has(from)) || (to && !number.has(to))) return;
      const key = `${from?.id} ${to?.id}`;
      let edge = found.get(key);
      if (!edge) found.set(key, (edge = { from, to, values: [], points: [], label: null }));
      if (!edge.values.includes(value)) edge.values.push(value);
    };
    const visit = (at: Item, part: Item | null) => {
      for (const child of at.children) {
        const own = part ?? child;
        if (child.node < 0) visit(child, own);
        else if (this.state.drawn(child)) {
          for (const source of model.contents.nodes[child.node].inputs)
            if (this.state.drawn(model.leaves[source])) note(partOf(item, model.leaves[source]), own, source);
          for (const user of model.users[child.node])
            if (this.state.drawn(model.leaves[user]) && !partOf(item, model.leaves[user])) note(own, null, child.node);
        }
      }
    };
    visit(item, null);
    return [...found.values()];
  }

  /** The first node outside a module that reads a value. */
  private outerReader(item: Item, value: number): number {
    const { model } = this.state;
    return model.users[value].find((user) => this.state.drawn(model.leaves[user]) && !partOf(item, model.leaves[user]))!;
  }

  private labelOf(edge: Edge): Edge["label"] {
    const values = edge.values.map((place) => this.state.model.contents.nodes[place].value);
    const more = values.length > 1 ? ` +${values.length - 1}` : "";
    const text = fitted(values[0] + more, LABEL_FONT);
    return text ? { text, x: 0, y: 0, width: Math.ceil(textWidth(text, LABEL_FONT)) + 10 } : null;
  }
}

/** The part of a module that holds a leaf; null for a leaf that is not in the module. */
function partOf(item: Item, leaf: Item): Item | null {
  let at: Item | null = leaf;
  while (at && at.parent !== item) at = at.parent;
  return at;
}
