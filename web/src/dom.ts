// Elements of the page. Data enters it as text alone: nothing here parses HTML.

export type Child = Node | string | number | null | false;
type Listener = (event: any) => void;
export type Properties = Record<string, string | number | boolean | null | undefined | Listener>;

const SVG = "http://www.w3.org/2000/svg";

function fill<E extends Element>(element: E, properties: Properties, children: Child[]): E {
  for (const [name, value] of Object.entries(properties)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, String(value));
  }
  for (const child of children) {
    if (child === null || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
  return element;
}

/** An element; a property that is a function listens to the event of its name. */
export function el<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  return fill(document.createElement(tag), properties, children);
}

/** An element of SVG. */
export function svg<K extends keyof SVGElementTagNameMap>(
  tag: K,
  properties: Properties = {},
  ...children: Child[]
): SVGElementTagNameMap[K] {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** Hues of the first symbols, far from each other and from red; further ones turn by the golden angle. */
const HUES = [262, 320, 190, 65, 145, 290, 230, 100, 345, 170];
const hues = new Map<string, number>();

/** Give each symbol its color. */
export function colorSymbols(names: string[]): void {
  for (const name of names)
    if (!hues.has(name))
      hues.set(name, HUES[hues.size] ?? (hues.size * 137.508) % 360);
}

/** A text cut at the names of symbols; each piece with its hue, if it is a symbol. */
function pieces(text: string): [string, number | undefined][] {
  return text.split(/([A-Za-z_]\w*)/).filter(Boolean).map((piece) => [piece, hues.get(piece)]);
}

/** A text with its symbols in their colors. */
export function tinted(text: string): DocumentFragment {
  const result = document.createDocumentFragment();
  for (const [piece, hue] of pieces(text)) {
    if (hue === undefined) {
      result.append(piece);
      continue;
    }
    const span = el("span", { class: "symbol" }, piece);
    span.style.setProperty("--hue", String(hue));
    result.append(span);
  }
  return result;
}

/** The same inside a text of SVG. */
export function tintedSvg(text: string): DocumentFragment {
  const result = document.createDocumentFragment();
  for (const [piece, hue] of pieces(text)) {
    const span = svg("tspan", hue === undefined ? {} : { class: "symbol" }, piece);
    if (hue !== undefined) span.style.setProperty("--hue", String(hue));
    result.append(span);
  }
  return result;
}

/** A piece of code with its symbols in their colors. */
export const code = (text: string) => el("code", {}, tinted(text));

/** A count with its noun: `1 guard`, `2 guards`. */
export const count = (n: number, noun: string) => `${n.toLocaleString("en-US")} ${noun}${n === 1 ? "" : "s"}`;

/** A number with at most three digits and a unit: `1.25 G`; `?` where it is not known. */
function scaled(value: number, step: number, units: string[]): string {
  if (!Number.isFinite(value)) return "?";
  let at = 0;
  while (Math.abs(value) >= step && at < units.length - 1) {
    value /= step;
    at += 1;
  }
  return `${Number(value.toPrecision(3)).toLocaleString("en-US")}${units[at] ? ` ${units[at]}` : ""}`;
}

export const short = (value: number) => scaled(value, 1000, ["", "K", "M", "G", "T", "P"]);
export const bytes = (value: number) => scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
export const percent = (share: number) =>
  !Number.isFinite(share) ? "" : share > 0 && share < 0.01 ? "< 1%" : `${Math.round(share * 100)}%`;
