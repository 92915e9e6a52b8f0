// The page without its server: whom to call, and the copy that a person can keep on this machine.
// Only for the machine itself: a phone's address is new each time, and its certificate our own.

import { $, element, list } from "./dom.js";
import { regions, say, watch } from "./words.js";

const local = () => location.protocol === "http:" && ["localhost", "127.0.0.1"].includes(location.hostname) && location.pathname === "/";

// Nothing can be asked or heard now, but an emergency must not wait for the server.
export function offlineView(region, onRetry) {
  const { number, go } = regions[region];
  return element(
    "div",
    {},
    element("h1", { tabindex: "-1" }, say("offline.title")),
    element("p", {}, say("offline.lead")),
    element("div", { class: "buttons" }, element("button", { type: "button", class: "primary", id: "offline-again", onclick: onRetry }, say("offline.again"))),
    element("div", { class: "notice" }, element("p", {}, go), list("ul", watch), element("p", { class: "numbers" }, element("a", { href: `tel:${number}` }, number))),
  );
}

async function registered() {
  if (!local()) return null;
  return (await navigator.serviceWorker?.getRegistration("./")) ?? null;
}

async function keep() {
  await navigator.serviceWorker.register("service-worker.js").catch(() => {});
  await offer();
}

async function remove() {
  await (await registered())?.unregister();
  for (const name of await caches.keys()) await caches.delete(name);
  await offer();
}

// A copy is kept only when the person says so, or installs the page.
export async function offer() {
  const button = $("offline-copy");
  if (!local() || !navigator.serviceWorker) return;
  const kept = await registered();
  button.hidden = false;
  button.textContent = say(kept ? "offline.remove" : "offline.keep");
  button.onclick = kept ? remove : keep;
  window.onappinstalled = keep;
}
