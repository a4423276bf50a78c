// The widths of texts in the picture, and texts cut to a width.

import { count } from "./dom";
import type { Item, Model } from "./model";

export const LABEL_FONT = "10.5px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace";
export const TITLE_FONT = "600 12.5px system-ui, sans-serif";
export const SUBTITLE_FONT = "11px system-ui, sans-serif";
const WIDEST = 220;

const pen = document.createElement("canvas").getContext("2d")!;
const widths = new Map<string, number>();

export function textWidth(text: string, font: string): number {
  const key = font + text;
  let width = widths.get(key);
  if (width === undefined) {
    pen.font = font;
    width = pen.measureText(text).width;
    widths.set(key, width);
  }
  return width;
}

/** A text that fits a width: its begin, where it is too long. */
export function fitted(text: string, font: string, width = WIDEST): string {
  if (textWidth(text, font) <= width) return text;
  let length = Math.floor((text.length * width) / textWidth(text, font));
  while (length > 1 && textWidth(`${text.slice(0, length)}…`, font) > width) length -= 1;
  return `${text.slice(0, length)}…`;
}

export function titleOf(model: Model, item: Item): string {
  return fitted(model.nameInside(item), TITLE_FONT);
}

export function subtitleOf(item: Item): string {
  const parts = item.node >= 0 ? item.subtitle : `${item.subtitle}${item.subtitle && " · "}${count(item.size, "node")}`;
  return fitted(parts, SUBTITLE_FONT);
}
