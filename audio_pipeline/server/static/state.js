// What the person typed, kept in this tab only: a reload loses nothing, "Start again" clears it.

const KEY = "crepitus";
const EMPTY = { answers: {}, step: "first", highest: null };

function load() {
  try {
    return { ...EMPTY, ...JSON.parse(sessionStorage.getItem(KEY)) };
  } catch {
    return { ...EMPTY };
  }
}

export const state = load();

export function save() {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(state));
  } catch {
    // A private window may refuse: then a reload forgets, and nothing else changes.
  }
}

export function setAnswer(id, value) {
  if (value === null) delete state.answers[id];
  else state.answers[id] = value;
  save();
}

export function clear() {
  Object.assign(state, EMPTY, { answers: {} });
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Nothing was kept.
  }
}
