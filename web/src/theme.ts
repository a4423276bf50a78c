// The switch between light and dark; without it the page follows the system.

import { el } from "./dom";

export function themeSwitch(): HTMLElement {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  let dark = system.matches;
  const button = el("button", { class: "theme quiet", click: () => set(!dark) });
  const set = (wanted: boolean) => {
    dark = wanted;
    root.style.colorScheme = dark ? "dark" : "light";
    label();
  };
  const label = () => {
    button.textContent = dark ? "☀" : "☾";
    button.setAttribute("aria-label", dark ? "Light colors" : "Dark colors");
    button.title = button.getAttribute("aria-label")!;
  };
  system.addEventListener("change", ({ matches }) => {
    if (root.style.colorScheme) return;
    dark = matches;
    label();
  });
  label();
  return button;
}
