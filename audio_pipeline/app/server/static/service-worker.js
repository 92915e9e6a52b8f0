// A copy of the page's own files, for when the server is off. Nothing else is ever copied: no
// answer of the API, no sound, nothing a person said.

const CACHE = "crepitus-page";
const MINE = '<script type="application/json" id="words">';
const FILES = [
  "./",
  "static/page.css",
  "static/icon.svg",
  "static/symbols.svg",
  "static/recorder-worklet.js",
  ..."api cues dom history live offline page picture protocol record-step recorder result screens sound-view state symbols takes wav words"
    .split(" ")
    .map((name) => `static/${name}.js`),
].map((path) => new URL(path, registration.scope).href);

self.addEventListener("install", (event) => {
  skipWaiting();
  event.waitUntil(caches.open(CACHE).then((cache) => cache.addAll(FILES)));
});

self.addEventListener("activate", (event) => event.waitUntil(clients.claim()));

// Another program that has taken over the address must not meet our copy.
async function isOurs(response) {
  return (await response.clone().text()).includes(MINE);
}

async function answer(request, key) {
  const cache = await caches.open(CACHE);
  let response;
  try {
    response = await fetch(request);
  } catch {
    return (await cache.match(key)) ?? Response.error();
  }
  if (!response.ok) return response;
  if (key === FILES[0] && !(await isOurs(response))) {
    await caches.delete(CACHE);
    await registration.unregister();
  } else await cache.put(key, response.clone());
  return response;
}

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const [key] = request.url.split(/[?#]/);
  if (request.method === "GET" && FILES.includes(key)) event.respondWith(answer(request, key));
});
