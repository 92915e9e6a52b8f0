// Building elements from data: text is always text, never markup.

import { say } from "./words.js";

export const $ = (id) => document.getElementById(id);

export function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === false || value === undefined) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function list(tag, items, attributes = {}) {
  return element(tag, attributes, ...items.map((item) => element("li", {}, item)));
}

export const seconds = (value, digits = 2) => say("common.seconds", { count: value.toFixed(digits) });

// Trouble: one line at the top, read out at once, with a way to go on.
export function trouble(words, retry = null) {
  $("trouble").hidden = !words;
  $("trouble-text").textContent = words;
  $("trouble-retry").hidden = !retry;
  $("trouble-retry").onclick = retry;
  if (words) $("trouble").scrollIntoView({ block: "nearest" });
}

export function download(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = element("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
