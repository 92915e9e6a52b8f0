// The take, kept through a reload and through Back, and no longer than this tab.
// The browser's database lies on the phone's disk, so the sound goes there locked, and its key is
// only in this tab's memory (sessionStorage): when the tab is closed, nobody can open it any more.
// What is left of it is wiped when the page is next opened.

const DATABASE = "crepitus";
const STORE = "take";
const KEY = "crepitus-take-key";

function request(work) {
  return new Promise((resolve, reject) => {
    work.onsuccess = () => resolve(work.result);
    work.onerror = () => reject(work.error);
  });
}

async function store(mode) {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await request(opening);
  const transaction = database.transaction(STORE, mode);
  transaction.oncomplete = () => database.close();
  return transaction.objectStore(STORE);
}

const encode = (bytes) => btoa(String.fromCharCode(...new Uint8Array(bytes)));
const decode = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

async function key() {
  const kept = sessionStorage.getItem(KEY);
  if (kept) return crypto.subtle.importKey("raw", decode(kept), "AES-GCM", false, ["encrypt", "decrypt"]);
  const made = await crypto.subtle.generateKey({ name: "AES-GCM", length: 256 }, true, ["encrypt", "decrypt"]);
  sessionStorage.setItem(KEY, encode(await crypto.subtle.exportKey("raw", made)));
  return made;
}

// Keeps { blob, name, capture, ... }; where the browser refuses, a reload loses the take.
export async function keepTake({ blob, ...rest }) {
  try {
    const iv = crypto.getRandomValues(new Uint8Array(12));
    const data = await crypto.subtle.encrypt({ name: "AES-GCM", iv }, await key(), await blob.arrayBuffer());
    const note = { ...rest, type: blob.type };
    await request((await store("readwrite")).put({ iv, data, note }, STORE));
  } catch {
    // A private window, or no room: the take is in memory, as before.
  }
}

// Returns the take of this tab, or null; a take of another time is wiped.
export async function restoreTake() {
  try {
    const kept = await request((await store("readonly")).get(STORE));
    if (!kept) return null;
    if (!sessionStorage.getItem(KEY)) {
      await forgetTake();
      return null;
    }
    const { type, ...rest } = kept.note;
    const data = await crypto.subtle.decrypt({ name: "AES-GCM", iv: kept.iv }, await key(), kept.data);
    return { ...rest, blob: new Blob([data], { type }) };
  } catch {
    await forgetTake();
    return null;
  }
}

export async function forgetTake() {
  try {
    await request((await store("readwrite")).delete(STORE));
    sessionStorage.removeItem(KEY);
  } catch {
    // There was none.
  }
}
