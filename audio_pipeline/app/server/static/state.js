// What the person said, kept in this tab only: a reload loses nothing, "Start again" clears it.

const KEY = "crepitus";
// answers: question to value, null where the person left it out; details: ticked items whose
// detail was left out; highest: the highest level that the answers reached at any time; kept: this
// visit lies in the history.
const empty = () => ({ answers: {}, details: [], highest: "self_care", region: null, invited: false, cues: {}, kept: false });

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

// given: question to value, null where it was left out.
export function keepAnswers(given, isDetail) {
  for (const [id, value] of Object.entries(given)) {
    state.details = state.details.filter((other) => other !== id);
    if (isDetail && value === null) state.details.push(id);
    else state.answers[id] = value;
  }
  state.kept = false;
  save();
}

export function clear() {
  const { region, cues } = state;
  Object.assign(state, empty(), { region, cues });
  save();
}
