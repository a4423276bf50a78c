// The graph as a tree of modules with nodes as leaves, and the state that all views share.

import type { Contents, GraphNode, Module } from "./contents";
import { evaluate, symbolsOf } from "./terms";

/** A module, a run of nodes of a large module, or a node. */
export interface Item {
  id: string;
  parent: Item | null;
  children: Item[];
  /** The place of the node; -1 for a module or a run. */
  node: number;
  module: Module | null;
  /** What it is called where it stands, and what it is. */
  title: string;
  subtitle: string;
  /** How many nodes it has, itself among them. */
  size: number;
  flops: number;
  memory: number;
  flagged: boolean;
}

/** A module with more parts than this shows them in runs. */
const MOST_PARTS = 120;

export class Model {
  readonly root: Item;
  readonly items = new Map<string, Item>();
  readonly leaves: Item[];
  /** The places of the nodes that read each node. */
  readonly users: number[][];
  /** The sizes at which costs are computed: a value for each symbol that they depend on. */
  readonly sizes = new Map<string, number>();
  peak = NaN;
  /** The items with a node whose line pinned a dimension. */
  readonly pinning = new Set<Item>();

  constructor(readonly contents: Contents) {
    const { nodes, modules } = contents;
    const made = modules.map((module, i) => this.add(`m${i}`, -1, module));
    this.leaves = nodes.map((node, i) => this.add(`n${i}`, i, null, node));
    this.users = nodes.map(() => []);
    nodes.forEach((node, i) => node.inputs.forEach((source) => this.users[source].push(i)));
    this.root = made[0];
    // Parts stand in the order of the graph: a module where its first node stands.
    const placed = new Set<Item>([this.root]);
    const place = (item: Item, around: Item) => {
      if (placed.has(item)) return;
      placed.add(item);
      if (around !== this.root) place(around, made[around.module!.parent!]);
      item.parent = around;
      around.children.push(item);
    };
    nodes.forEach((node, i) => place(this.leaves[i], made[node.module]));
    for (const item of made) this.cutIntoRuns(item);
    const needed = new Set(symbolsOf(contents.terms));
    const named = contents.symbols.map(({ name }) => name).filter((name) => needed.delete(name));
    this.setSizes(new Map([...named, ...needed].map((name) => [name, this.exampleOf(name)])));
    for (const { nodes: places } of contents.pins)
      for (const place of places)
        for (let at: Item | null = this.leaves[place]; at; at = at.parent) this.pinning.add(at);
    const causes = [...contents.pins, ...contents.guards, ...contents.asserts].flatMap((guard) => guard.nodes);
    for (const place of causes)
      for (let at: Item | null = this.leaves[place]; at; at = at.parent) at.flagged = true;
  }

  private exampleOf(name: string): number {
    const symbol = this.contents.symbols.find((each) => each.name === name);
    return typeof symbol?.example === "number" ? symbol.example : NaN;
  }

  private add(id: string, node: number, module: Module | null, data?: GraphNode): Item {
    const item: Item = {
      id, node, module, parent: null, children: [], size: 0, flops: 0, memory: 0, flagged: false,
      title: data ? data.title : module!.path || module!.kind,
      subtitle: data ? data.name : module!.path ? module!.kind : "",
    };
    if (module && module.call > 1) item.title += ` (call ${module.call})`;
    this.items.set(id, item);
    return item;
  }

  private cutIntoRuns(item: Item): void {
    const parts = item.children;
    if (parts.length <= MOST_PARTS) return;
    const length = Math.max(40, Math.ceil(Math.sqrt(parts.length)));
    item.children = [];
    for (let start = 0; start < parts.length; start += length) {
      const children = parts.slice(start, start + length);
      const run: Item = {
        id: `r${item.id}.${start}`, node: -1, module: null, parent: item, children,
        title: `parts ${start + 1} to ${start + children.length}`, subtitle: "", size: 0, flops: 0,
        memory: 0, flagged: false,
      };
      for (const child of children) child.parent = run;
      item.children.push(run);
      this.items.set(run.id, run);
    }
  }

  /** Compute all costs at sizes. */
  setSizes(sizes: ReadonlyMap<string, number>): void {
    for (const [name, size] of sizes) this.sizes.set(name, size);
    const values = evaluate(this.contents.terms, this.sizes);
    const sum = (item: Item): void => {
      const data = item.node < 0 ? null : this.contents.nodes[item.node];
      item.size = data ? 1 : 0;
      item.flops = data ? values[data.flops] : 0;
      item.memory = data ? values[data.memory] : 0;
      for (const child of item.children) {
        sum(child);
        item.size += child.size;
        item.flops += child.flops;
        item.memory += child.memory;
      }
    };
    sum(this.root);
    this.peak = this.peakAt(values);
  }

  /** The most bytes that inputs and results take at once. */
  private peakAt(values: number[]): number {
    const change = new Float64Array(this.leaves.length + 1);
    for (const node of this.contents.nodes) {
      change[node.life[0]] += values[node.held];
      change[node.life[1] + 1] -= values[node.held];
    }
    let alive = 0;
    let most = 0;
    for (const step of change) {
      alive += step;
      most = Number.isNaN(alive) ? NaN : Math.max(most, alive);
    }
    return most;
  }

  /** The symbols that have no size yet, such as those whose value data gives. */
  get unsized(): string[] {
    return [...this.sizes].filter(([, size]) => !Number.isFinite(size)).map(([name]) => name);
  }

  data(item: Item): GraphNode | null {
    return item.node < 0 ? null : this.contents.nodes[item.node];
  }

  /** What an item is called beside its parent: `self_attn` inside `layers.0`. */
  nameInside(item: Item): string {
    let around = item.parent;
    while (around && !around.module) around = around.parent;
    const prefix = around?.module?.path;
    return item.module && prefix && item.title.startsWith(`${prefix}.`)
      ? item.title.slice(prefix.length + 1)
      : item.title;
  }

  /** The items around an item, the outermost first. */
  around(item: Item): Item[] {
    const chain: Item[] = [];
    for (let at = item.parent; at; at = at.parent) chain.unshift(at);
    return chain;
  }
}

/** What is unfolded, selected and shown; a change tells all views. */
export class State {
  readonly unfolded = new Set<string>();
  selected: Item | null = null;
  showParameters = false;
  showSizes = false;
  private listeners: ((change: Change) => void)[] = [];

  constructor(readonly model: Model) {
    this.unfolded.add(model.root.id);
    this.unfoldSome();
  }

  /** Unfold modules from the outside in, as long as the picture stays small. */
  private unfoldSome(): void {
    let shown = this.partsOf(this.model.root).length;
    let waiting = [...this.model.root.children];
    while (waiting.length && shown < 14) {
      const largest = waiting.reduce((a, b) => (b.size > a.size ? b : a));
      const more = this.partsOf(largest).length;
      if (largest.node >= 0 || shown + more > 40) break;
      this.unfolded.add(largest.id);
      shown += more - 1;
      waiting = [...waiting.filter((each) => each !== largest), ...largest.children];
    }
  }

  listen(listener: (change: Change) => void): void {
    this.listeners.push(listener);
  }

  private tell(change: Change): void {
    for (const listener of this.listeners) listener(change);
  }

  /** Whether the picture has a place for an item, now or when modules are unfolded. */
  drawn(item: Item): boolean {
    const kind = this.model.data(item)?.kind;
    if (kind === "parameter") return this.showParameters;
    if (kind === "size") return this.showSizes;
    return item.node >= 0 || item.children.some((child) => this.drawn(child));
  }

  partsOf(item: Item): Item[] {
    return item.children.filter((child) => this.drawn(child));
  }

  fold(item: Item, folded = this.unfolded.has(item.id)): void {
    if (item.node >= 0) return;
    if (folded) this.unfolded.delete(item.id);
    else this.unfolded.add(item.id);
    this.tell({ kind: "fold", item });
  }

  /** Fold all modules, or unfold all. */
  foldAll(folded: boolean): void {
    this.unfolded.clear();
    this.unfolded.add(this.model.root.id);
    if (!folded)
      for (const item of this.model.items.values()) if (item.node < 0) this.unfolded.add(item.id);
    this.tell({ kind: "fold", item: null });
  }

  /** Select an item, and unfold what is around it. */
  select(item: Item | null, reveal = true): void {
    this.selected = item;
    let unfolded = false;
    if (item && reveal) {
      const kind = this.model.data(item)?.kind;
      if (kind === "parameter" && !this.showParameters) unfolded = this.showParameters = true;
      if (kind === "size" && !this.showSizes) unfolded = this.showSizes = true;
      for (const around of this.model.around(item))
        if (!this.unfolded.has(around.id)) {
          this.unfolded.add(around.id);
          unfolded = true;
        }
    }
    if (unfolded) this.tell({ kind: "fold", item: null });
    this.tell({ kind: "select", item });
  }

  show(what: "showParameters" | "showSizes", shown: boolean): void {
    this[what] = shown;
    this.tell({ kind: "fold", item: null });
  }

  setSize(name: string, size: number): void {
    this.model.setSizes(new Map([[name, size]]));
    this.tell({ kind: "sizes", item: null });
  }
}

export interface Change {
  kind: "fold" | "select" | "sizes";
  item: Item | null;
}
