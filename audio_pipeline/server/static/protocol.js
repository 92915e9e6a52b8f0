// The guided take: quiet, slow turns, quiet. Words only; the recorder does not depend on it.

// phases: [{ words, seconds }]. Calls say(words) at the start of each and done() at the end;
// returns a way to stop it.
export function guide(phases, say, done) {
  let timer;
  const remaining = [...phases];
  const next = () => {
    const phase = remaining.shift();
    if (!phase) {
      done();
      return;
    }
    say(phase.words);
    timer = setTimeout(next, 1000 * phase.seconds);
  };
  next();
  return () => clearTimeout(timer);
}
