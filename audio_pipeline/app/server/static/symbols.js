// One shape for each level, so that the level never depends on colour.

const NAMESPACE = "http://www.w3.org/2000/svg";

export function levelSymbol(level) {
  const svg = document.createElementNS(NAMESPACE, "svg");
  svg.setAttribute("viewBox", "0 0 32 32");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(NAMESPACE, "use");
  use.setAttribute("href", `static/symbols.svg#${level}`);
  svg.append(use);
  return svg;
}
