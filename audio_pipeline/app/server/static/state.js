// What the person typed, kept in this tab only: a reload loses nothing, "Start again" clears it.

const KEY = "crepitus";
// highest: the highest level that the answers reached at any time.
const empty = () => ({ answers: {}, highest: "self_care", step: "first" });

function load() {
  try {
    return { ...empty(), ...JSON.parse(sessionStorage.getItem(KEY)) };
  } catch {
    return empty();
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
  Object.assign(state, empty());
  try {
    sessionStorage.removeItem(KEY);
  } catch {
    // Nothing was kept.
  }
}
