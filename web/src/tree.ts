// The modules as a tree for mouse, keyboard and screen reader; what is unfolded in it is unfolded in
// the picture. The keys are those of the tree pattern of the ARIA authoring practices.

import { el, percent, tinted } from "./dom";
import type { Item, State } from "./model";

export class TreeView {
  readonly element = el("ul", {
    role: "tree", "aria-label": "Modules and nodes", class: "tree",
    keydown: (event: KeyboardEvent) => this.onKey(event),
    click: (event: MouseEvent) => this.onClick(event),
  });
  private readonly rows = new Map<Item, HTMLLIElement>();

  constructor(private readonly state: State) {
    this.element.append(this.row(state.model.root, 1));
    this.focusable(state.model.root);
    state.listen(({ kind, item }) => {
      if (kind === "fold") this.refold(item);
      else if (kind === "select") this.onSelect(item);
    });
  }

  private row(item: Item, level: number): HTMLLIElement {
    const data = this.state.model.data(item);
    const share = item.flops / this.state.model.root.flops;
    const open = this.state.unfolded.has(item.id);
    const pinned = this.state.model.pinning.has(item);
    const row = el("li", {
      role: "treeitem", "aria-level": level, tabindex: -1, "data-id": item.id,
      "aria-expanded": item.node < 0 ? String(open) : null, "aria-selected": String(item === this.state.selected),
    },
      el("div", { class: "row" },
        el("span", { class: "fold", "aria-hidden": "true" }),
        el("span", { class: data ? "name node" : "name" }, this.state.model.nameInside(item)),
        el("span", { class: "kind" }, data ? tinted(data.value) : item.subtitle),
        pinned && item.parent ? el("span", { class: "badge red" }, "pin") : item.flagged && item.parent ? el("span", { class: "badge amber" }, "guard") : null,
        item.node < 0 && share > 0 ? el("span", { class: "amount", title: "share of the operations" }, percent(share)) : null,
      ),
    );
    this.rows.set(item, row);
    if (item.node < 0 && open) row.append(this.group(item, level));
    return row;
  }

  private group(item: Item, level: number): HTMLUListElement {
    return el("ul", { role: "group" }, ...this.state.partsOf(item).map((part) => this.row(part, level + 1)));
  }

  /** Make the parts of one item anew, or the whole tree. */
  private refold(item: Item | null): void {
    const at = item ?? this.state.model.root;
    const row = this.rows.get(at);
    if (!row) return;
    const focused = this.element.contains(document.activeElement) ? this.itemOf(document.activeElement!) : null;
    row.querySelector(":scope > ul")?.remove();
    const open = this.state.unfolded.has(at.id);
    row.setAttribute("aria-expanded", String(open));
    if (open) row.append(this.group(at, Number(row.getAttribute("aria-level"))));
    if (focused) (this.visible(focused) ? this.rows.get(focused) : row)?.focus();
    if (!this.element.querySelector('[tabindex="0"]')) this.focusable(at);
  }

  private visible(item: Item): boolean {
    return this.state.model.around(item).every((each) => this.state.unfolded.has(each.id));
  }

  private focusable(item: Item): void {
    this.element.querySelector('[tabindex="0"]')?.setAttribute("tabindex", "-1");
    this.rows.get(item)?.setAttribute("tabindex", "0");
  }

  private onSelect(item: Item | null): void {
    this.element.querySelector('[aria-selected="true"]')?.setAttribute("aria-selected", "false");
    const row = item && this.rows.get(item);
    if (!row || !row.isConnected) return;
    row.setAttribute("aria-selected", "true");
    this.focusable(item);
    // Scroll the tree alone, not the page.
    const line = row.firstElementChild as HTMLElement;
    const box = this.element.getBoundingClientRect();
    const at = line.getBoundingClientRect();
    if (at.top < box.top || at.bottom > box.bottom)
      this.element.scrollTop += at.top - box.top - box.height / 2;
  }

  private itemOf(element: Element): Item | null {
    const id = element.closest("[data-id]")?.getAttribute("data-id");
    return id ? this.state.model.items.get(id)! : null;
  }

  private onClick(event: MouseEvent): void {
    const target = event.target as Element;
    const item = this.itemOf(target);
    if (!item) return;
    if (target.classList.contains("fold")) this.state.fold(item);
    else this.state.select(item);
    this.focusable(item);
    this.rows.get(item)?.focus({ preventScroll: true });
  }

  private onKey(event: KeyboardEvent): void {
    const item = this.itemOf(event.target as Element);
    if (!item || event.altKey || event.ctrlKey || event.metaKey) return;
    const open = this.state.unfolded.has(item.id);
    const shown = [...this.element.querySelectorAll<HTMLElement>('[role="treeitem"]')];
    const at = shown.indexOf(this.rows.get(item)!);
    const move = (to: HTMLElement | undefined | null) => {
      const found = to && this.itemOf(to);
      if (!found) return;
      this.focusable(found);
      to.focus();
    };
    const act: Record<string, () => void> = {
      ArrowDown: () => move(shown[at + 1]),
      ArrowUp: () => move(shown[at - 1]),
      Home: () => move(shown[0]),
      End: () => move(shown.at(-1)),
      ArrowRight: () => (item.node < 0 && !open ? this.state.fold(item, false) : move(item.node < 0 ? shown[at + 1] : null)),
      ArrowLeft: () => (open && item.node < 0 ? this.state.fold(item, true) : move(item.parent && this.rows.get(item.parent))),
      Enter: () => this.state.select(item),
      " ": () => this.state.select(item),
    };
    const typed = event.key.length === 1 && event.key !== " ";
    if (act[event.key]) act[event.key]();
    else if (typed)
      move([...shown.slice(at + 1), ...shown.slice(0, at)].find((row) => this.state.model.nameInside(this.itemOf(row)!).toLowerCase().startsWith(event.key.toLowerCase())));
    else return;
    event.preventDefault();
    event.stopPropagation();
  }
}
