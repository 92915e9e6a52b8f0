// One shape for each level, so that the level never depends on colour.

const SHAPES = {
  emergency: "M10 1h12l9 9v12l-9 9H10l-9-9V10zM14.5 7v11h3V7zm0 14v3.5h3V21z",
  same_day: "M16 2l15 27H1zM14.5 11v9h3v-9zm0 12v3h3v-3z",
  soon: "M16 1l15 15-15 15L1 16zM14.5 8v9h3V8zm0 12v3.5h3V20z",
  routine: "M16 1a15 15 0 110 30 15 15 0 010-30zM14.5 7v3.5h3V7zm0 6v12h3V13z",
  self_care: "M16 1a15 15 0 110 30 15 15 0 010-30zM13.5 23.5l11-12-2.3-2-8.8 9.7-4-3.8-2.1 2.2z",
};

const NAMESPACE = "http://www.w3.org/2000/svg";

export function levelSymbol(level) {
  const svg = document.createElementNS(NAMESPACE, "svg");
  svg.setAttribute("viewBox", "0 0 32 32");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(NAMESPACE, "path");
  path.setAttribute("d", SHAPES[level]);
  path.setAttribute("fill", "currentColor");
  path.setAttribute("fill-rule", "evenodd");
  svg.append(path);
  return svg;
}
