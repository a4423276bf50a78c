// The picture of the graph: drawn where it is seen, dragged and zoomed by d3-zoom.

import { select } from "d3-selection";
import { curveBasis, line } from "d3-shape";
import { zoom, zoomIdentity, type ZoomTransform } from "d3-zoom";
import { count, el, percent, svg, tintedSvg } from "./dom";
import type { Point } from "./layered";
import { HEADER, Layouter, REFERENCE_HEIGHT, type Edge, type Reference } from "./layout";
import type { Item, Model, State } from "./model";
import { subtitleOf, titleOf } from "./texts";

/** A box of the picture, at its place in the whole. */
interface Placed {
  item: Item;
  x: number;
  y: number;
  width: number;
  height: number;
  open: boolean;
  depth: number;
}

interface PlacedEdge {
  edge: Edge;
  depth: number;
  points: Point[];
  left: number;
  right: number;
  top: number;
  bottom: number;
  label: { text: string; x: number; y: number; width: number } | null;
}

const curve = line().curve(curveBasis);
/** Below this scale the texts of edges and the second lines of boxes are left out. */
const FAR = 0.4;
/** Boxes smaller than this on the screen are left out, in pixels. */
const SMALLEST = 3;

export class GraphView {
  readonly element: HTMLElement;
  private readonly canvas = svg("svg", {
    class: "canvas", role: "group", tabindex: "0", "aria-label": "Picture of the graph",
    "aria-describedby": "graph-keys", keydown: (event: KeyboardEvent) => this.onKey(event),
  });
  private readonly scene = svg("g");
  private readonly status = el("p", { class: "hidden", role: "status" });
  private readonly layouter: Layouter;
  private readonly model: Model;
  private readonly zoom = zoom<SVGSVGElement, unknown>().scaleExtent([0.02, 3]);
  private transform: ZoomTransform = zoomIdentity;
  private placed: Placed[] = [];
  private edges: PlacedEdge[] = [];
  private references: Reference[] = [];
  private byItem = new Map<Item, Placed>();
  private size = { width: 0, height: 0 };
  /** The part of the picture that has elements now, and at which scale. */
  private drawnFor: { left: number; right: number; top: number; bottom: number; scale: number } | null = null;
  /** The elements that are there now. */
  private drawn: { boxes: Map<Item, SVGElement>; edges: [Edge, SVGElement][] } = { boxes: new Map(), edges: [] };
  private waiting = false;

  constructor(private readonly state: State) {
    this.model = state.model;
    this.layouter = new Layouter(state);
    this.canvas.append(
      svg("defs", {}, svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto" }, svg("path", { d: "M0,0.5 L8,4 L0,7.5 z", class: "arrow" }))),
      this.scene,
    );
    this.element = el("div", { class: "picture" }, this.canvas, this.status);
    this.zoom
      // A wheel scrolls the page until the picture was clicked, so that nobody is caught in it.
      .filter((event: MouseEvent) => !event.button && (event.type !== "wheel" || event.ctrlKey || event.metaKey || document.activeElement === this.canvas || this.canvas.contains(document.activeElement)))
      .on("zoom", ({ transform }: { transform: ZoomTransform }) => {
        this.transform = transform;
        this.scene.setAttribute("transform", transform.toString());
        this.refresh();
      });
    select(this.canvas).call(this.zoom).on("dblclick.zoom", null);
    this.canvas.addEventListener("click", (event) => this.onClick(event));
    new ResizeObserver(() => this.refresh(true)).observe(this.element);
    state.listen(({ kind, item }) => {
      if (kind === "fold") this.relayout(item);
      else if (kind === "select") this.onSelect(item);
      else this.refresh(true);
    });
    this.place();
  }

  // -- the scene ------------------------------------------------------------------------------------

  /** Find the places of all boxes and edges that unfolded modules have. */
  private place(): void {
    this.placed = [];
    this.edges = [];
    this.references = [];
    const visit = (item: Item, x: number, y: number, depth: number) => {
      const layout = this.layouter.layout(item);
      for (const box of layout.boxes) {
        const at = { item: box.item, x: x + box.x, y: y + box.y, width: box.width, height: box.height, open: !!box.inner, depth };
        this.placed.push(at);
        if (box.inner) visit(box.item, at.x + box.shift, at.y + HEADER, depth + 1);
      }
      for (const each of layout.references) this.references.push({ ...each, x: x + each.x, y: y + each.y });
      for (const edge of layout.edges) {
        const points = edge.points.map(([px, py]): Point => [x + px, y + py]);
        const xs = points.map((p) => p[0]);
        const ys = points.map((p) => p[1]);
        const label = edge.label && { ...edge.label, x: x + edge.label.x, y: y + edge.label.y };
        this.edges.push({ edge, depth, points, label, left: Math.min(...xs), right: Math.max(...xs), top: Math.min(...ys), bottom: Math.max(...ys) });
      }
      return layout;
    };
    const { width, height } = visit(this.model.root, 0, 0, 0);
    this.size = { width, height };
    this.byItem = new Map(this.placed.map((each) => [each.item, each]));
    this.drawnFor = null;
  }

  private relayout(item: Item | null): void {
    const before = item && this.byItem.get(item);
    this.layouter.forget(item);
    this.place();
    const after = item && this.byItem.get(item);
    if (before && after) {
      // The module stays where it is on the screen.
      const { k, x, y } = this.transform;
      this.moveTo(zoomIdentity.translate(x + (before.x - after.x) * k + ((before.width - after.width) / 2) * k, y + (before.y - after.y) * k).scale(k));
    }
    this.refresh(true);
    if (item) this.say(`${item.title} ${this.state.unfolded.has(item.id) ? "unfolded" : "folded"}, ${count(this.placed.length, "box")}`.replace("boxs", "boxes"));
  }

  private say(text: string): void {
    this.status.textContent = text;
  }

  /** Draw again before the next frame, if what is seen has no elements yet. */
  private refresh(anyway = false): void {
    if (anyway) this.drawnFor = null;
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      this.draw();
    });
  }

  private draw(): void {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const { k } = this.transform;
    const [left, top] = this.transform.invert([0, 0]);
    const [right, bottom] = this.transform.invert([width, height]);
    const has = this.drawnFor;
    if (has && has.scale <= k * 1.5 && k <= has.scale * 1.5 && has.left <= left && has.right >= right && has.top <= top && has.bottom >= bottom) return;
    const margin = { x: (right - left) * 0.5, y: (bottom - top) * 0.5 };
    const seen = { left: left - margin.x, right: right + margin.x, top: top - margin.y, bottom: bottom + margin.y, scale: k };
    this.drawnFor = seen;
    const inside = (l: number, r: number, t: number, b: number) => r >= seen.left && l <= seen.right && b >= seen.top && t <= seen.bottom;
    const boxes = this.placed.filter((p) => inside(p.x, p.x + p.width, p.y, p.y + p.height) && p.height * k > SMALLEST);
    const references = k < FAR ? [] : this.references.filter((r) => inside(r.x - r.width / 2, r.x + r.width / 2, r.y - 10, r.y + 10));
    const edges = this.edges.filter((e) => inside(e.left, e.right, e.top, e.bottom) && (e.bottom - e.top) * k > SMALLEST);
    this.canvas.classList.toggle("far", k < FAR);
    const focused = this.canvas.contains(document.activeElement) && document.activeElement !== this.canvas;
    this.drawn = { boxes: new Map(), edges: [] };
    this.scene.replaceChildren(
      ...boxes.filter((p) => p.open).map((p) => this.frame(p)),
      ...edges.map((e) => this.line(e, k < FAR)),
      ...boxes.filter((p) => p.open).map((p) => this.header(p)),
      ...references.map((r) => this.reference(r)),
      ...boxes.filter((p) => !p.open).map((p) => this.box(p)),
      ...(k < FAR ? [] : edges.filter((e) => e.label).map((e) => this.label(e))),
    );
    this.mark();
    if (focused) this.elementOf(this.state.selected)?.focus({ preventScroll: true });
  }

  /** Show in the elements that are drawn what is selected. */
  private mark(): void {
    const chosen = this.state.selected;
    const current = chosen && this.byItem.has(chosen) ? chosen : this.placed[0]?.item;
    for (const [item, element] of this.drawn.boxes) {
      element.parentElement!.classList.toggle("selected", item === chosen);
      element.setAttribute("tabindex", item === current ? "0" : "-1");
    }
    for (const [{ from, to, values }, element] of this.drawn.edges)
      element.classList.toggle("near", !!chosen && (from === chosen || to === chosen || values.includes(chosen.node)));
  }

  /** The group of a box: a rectangle that is the button, and what is drawn on it. */
  private button(at: Placed, classes: string, more: string, ...drawn: SVGElement[]): SVGGElement {
    const mark = this.model.pinning.has(at.item) ? " pin" : at.item.flagged ? " flagged" : "";
    const label = this.spoken(at.item);
    const rectangle = svg("rect", {
      width: at.width, height: at.height, rx: at.item.node < 0 ? 10 : 6, role: "button", tabindex: "-1", "aria-label": label,
      "aria-expanded": at.item.node < 0 ? String(at.open) : null,
    }, svg("title", {}, label + more));
    this.drawn.boxes.set(at.item, rectangle);
    return svg("g", { class: classes + mark, "data-id": at.item.id, transform: `translate(${at.x},${at.y})` }, rectangle, ...drawn);
  }

  private spoken(item: Item): string {
    const data = this.model.data(item);
    const guard = item.flagged ? ", caused a guard" : "";
    return data
      ? `${data.title}, ${data.kind}${data.value ? `, ${data.value}` : ""}${guard}`
      : `${item.title}, ${item.subtitle || "module"}, ${count(item.size, "node")}${guard}`;
  }

  private frame(at: Placed): SVGGElement {
    return this.button(at, `frame depth${at.depth % 2}`, "");
  }

  /** The name of an unfolded module, above the edges that enter it. */
  private header(at: Placed): SVGTextElement {
    return svg("text", { class: `title header depth${at.depth % 2}`, x: at.x + 12, y: at.y + 19, "aria-hidden": "true" },
      "▾ ", titleOf(this.model, at.item), svg("tspan", { class: "subtitle", dx: 8 }, at.item.subtitle));
  }

  private box(at: Placed): SVGGElement {
    const { item } = at;
    const data = this.model.data(item);
    const share = item.flops / this.model.root.flops;
    const module = item.node < 0;
    return this.button(at, data ? `box ${data.kind}` : "box module", share > 0 ? `, ${percent(share)} of the operations` : "",
      svg("text", { class: "title", x: at.width / 2, y: 18 }, (module ? "▸ " : "") + titleOf(this.model, item)),
      svg("text", { class: "subtitle", x: at.width / 2, y: 33 }, subtitleOf(item)),
      ...(module && share > 0
        ? [svg("rect", { class: "share-back", x: 10, y: 40, width: at.width - 20, height: 3, rx: 1.5 }),
           svg("rect", { class: "share", x: 10, y: 40, width: Math.max(2, (at.width - 20) * share), height: 3, rx: 1.5 })]
        : []),
      ...(item.flagged ? [svg("circle", { class: "flag", cx: at.width - 4, cy: 4, r: 5 })] : []),
    );
  }

  private reference(at: Reference): SVGGElement {
    const leaf = this.model.leaves[at.node];
    return svg("g", { class: "reference", "data-far": leaf.id, transform: `translate(${at.x},${at.y})` },
      svg("rect", { x: -at.width / 2, y: -REFERENCE_HEIGHT / 2, width: at.width, height: REFERENCE_HEIGHT, rx: REFERENCE_HEIGHT / 2 }),
      svg("text", { y: 3.5 }, at.text),
      svg("title", {}, `Go to ${this.spoken(leaf)}`),
    );
  }

  private line(at: PlacedEdge, far: boolean): SVGPathElement {
    const element = svg("path", { class: "edge", d: curve(at.points) ?? "", "marker-end": far ? null : "url(#arrow)" });
    this.drawn.edges.push([at.edge, element]);
    return element;
  }

  private label(at: PlacedEdge): SVGGElement {
    const { text, x, y, width } = at.label!;
    const element = svg("g", { class: `label depth${at.depth ? (at.depth - 1) % 2 : ""}`, transform: `translate(${x},${y})` },
      svg("rect", { x: -width / 2, y: -8, width, height: 16, rx: 4 }),
      svg("text", { y: 3.5 }, tintedSvg(text)),
    );
    this.drawn.edges.push([at.edge, element]);
    return element;
  }

  // -- where it stands ------------------------------------------------------------------------------

  private moveTo(transform: ZoomTransform): void {
    select(this.canvas).call(this.zoom.transform, transform);
  }

  /** Show the graph in the middle: as a whole, if its texts can be read then. */
  fit(whole = true): void {
    const { clientWidth, clientHeight } = this.canvas;
    const wide = clientWidth / (this.size.width + 32);
    const high = clientHeight / (this.size.height + 32);
    const scale = Math.min(whole ? Math.min(wide, high) : Math.max(wide, 0.65), 1.15);
    const x = (clientWidth - this.size.width * scale) / 2;
    const y = whole ? Math.max(8, (clientHeight - this.size.height * scale) / 2) : 8;
    this.moveTo(zoomIdentity.translate(x, y).scale(scale));
  }

  zoomBy(factor: number): void {
    select(this.canvas).call(this.zoom.scaleBy, factor);
  }

  /** Bring a box into sight. */
  private reveal(item: Item): void {
    const at = this.byItem.get(item);
    if (!at) return;
    const { clientWidth, clientHeight } = this.canvas;
    const k = Math.max(this.transform.k, 0.7);
    const [left, top] = this.transform.apply([at.x, at.y]);
    const [right, bottom] = this.transform.apply([at.x + at.width, at.y + Math.min(at.height, 80)]);
    if (k === this.transform.k && left >= 8 && top >= 8 && right <= clientWidth - 8 && bottom <= clientHeight - 8) return;
    const middle = at.y + Math.min(at.height / 2, clientHeight / k / 2 - 30);
    this.moveTo(zoomIdentity.translate(clientWidth / 2 - (at.x + at.width / 2) * k, clientHeight / 2 - middle * k).scale(k));
  }

  private onSelect(item: Item | null): void {
    if (item) this.reveal(item);
    this.draw();
    this.mark();
  }

  // -- mouse and keys -------------------------------------------------------------------------------

  private elementOf(item: Item | null): SVGElement | null {
    return (item && this.drawn.boxes.get(item)) ?? null;
  }

  private itemAt(event: Event): Item | null {
    const found = (event.target as Element).closest("[data-id]");
    return found ? this.model.items.get(found.getAttribute("data-id")!)! : null;
  }

  private onClick(event: MouseEvent): void {
    if (event.defaultPrevented) return; // the end of a drag
    const far = (event.target as Element).closest("[data-far]");
    if (far) {
      this.state.select(this.model.items.get(far.getAttribute("data-far")!)!);
      return;
    }
    const item = this.itemAt(event);
    if (!item) {
      this.canvas.focus({ preventScroll: true });
      return;
    }
    if (event.detail === 2) this.state.fold(item); // of a double click or a double tap
    else this.state.select(item, false);
    this.elementOf(item)?.focus({ preventScroll: true });
  }

  private onKey(event: KeyboardEvent): void {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const chosen = this.state.selected;
    const act: Record<string, () => void> = {
      "+": () => this.zoomBy(1.3),
      "=": () => this.zoomBy(1.3),
      "-": () => this.zoomBy(1 / 1.3),
      "0": () => this.fit(),
      ArrowDown: () => this.go(this.neighbor(chosen, 1)),
      ArrowUp: () => this.go(this.neighbor(chosen, -1)),
      ArrowRight: () => this.go(this.beside(chosen, 1)),
      ArrowLeft: () => this.go(this.beside(chosen, -1)),
      Enter: () => chosen && this.toggle(chosen),
      " ": () => chosen && this.toggle(chosen),
      Escape: () => this.go(chosen?.parent && chosen.parent !== this.model.root ? chosen.parent : null),
    };
    if (!act[event.key]) return;
    event.preventDefault();
    act[event.key]();
  }

  private toggle(item: Item): void {
    this.state.fold(item);
    this.state.select(item, false);
  }

  private go(item: Item | null): void {
    if (!item) return;
    this.state.select(item, false);
    this.elementOf(item)?.focus({ preventScroll: true });
  }

  /** The box that an edge leads to, or comes from. */
  private neighbor(item: Item | null, direction: 1 | -1): Item | null {
    if (!item || !this.byItem.has(item)) return this.placed[0]?.item ?? null;
    const inside = direction > 0 && this.byItem.get(item)!.open ? item : null;
    if (inside) return this.state.partsOf(inside)[0] ?? null;
    for (let at: Item | null = item; at; at = at.parent) {
      const found = this.edges.find(({ edge }) => (direction > 0 ? edge.from : edge.to) === at);
      const next = found && (direction > 0 ? found.edge.to : found.edge.from);
      if (next) return next;
    }
    return null;
  }

  /** The box before or after another in the same module. */
  private beside(item: Item | null, step: 1 | -1): Item | null {
    if (!item?.parent || !this.byItem.has(item)) return this.placed[0]?.item ?? null;
    const parts = this.state.partsOf(item.parent);
    return parts[parts.indexOf(item) + step] ?? null;
  }
}
