// The guided take: a count-in, quiet, slow turns, quiet. The recorder does not depend on it.

import { say } from "./words.js";

const COUNT_IN = 3;

// phases: [{ kind, turn, seconds, cues: [{ after, kind, words, spoken }] }]. Calls cue(cue) at each
// cue, begin(phase) when a phase starts and done() at the end; returns a way to stop it.
export function guide(phases, { cue, begin, done }) {
  const timers = [];
  const later = (seconds, work) => timers.push(setTimeout(work, 1000 * seconds));
  let start = 0;
  for (const phase of phases) {
    later(start, () => begin(phase));
    for (const each of phase.cues) later(start + each.after, () => cue(each));
    start += phase.seconds;
  }
  later(start, done);
  return () => timers.forEach(clearTimeout);
}

// Counts 3, 2, 1 so that the phone can be brought to the back; resolves to false when stopped.
export function countIn(cue, stopped) {
  return new Promise((resolve) => {
    const count = (left) => {
      if (stopped()) return resolve(false);
      if (!left) return resolve(true);
      cue({ kind: "count", words: say("record.count", { count: left }), spoken: String(left) });
      return setTimeout(count, 1000, left - 1);
    };
    count(COUNT_IN);
  });
}
