// The guided take: quiet, slow turns, quiet. Words only; the recorder does not depend on it.

// phases: [{ kind, turn, seconds, cues: [{ after, words }] }]. Calls say(words) at each cue,
// begin(phase) when a phase starts and done() at the end; returns a way to stop it.
export function guide(phases, { say, begin, done }) {
  const timers = [];
  const later = (seconds, work) => timers.push(setTimeout(work, 1000 * seconds));
  let start = 0;
  for (const phase of phases) {
    later(start, () => begin(phase));
    for (const cue of phase.cues) later(start + cue.after, () => say(cue.words));
    start += phase.seconds;
  }
  later(start, done);
  return () => timers.forEach(clearTimeout);
}
