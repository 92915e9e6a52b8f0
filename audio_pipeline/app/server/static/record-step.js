// The step with the microphone: count in, guide by ear and touch, meter, stop, play back, use.

import { Cues, canSpeak } from "./cues.js";
import { $ } from "./dom.js";
import { LiveView } from "./live.js";
import { countIn, guide } from "./protocol.js";
import { LeftError, MicrophoneError, Recorder, microphoneAvailable } from "./recorder.js";
import { save, state } from "./state.js";
import { say } from "./words.js";

const LONGEST_SECONDS = 300;
const LOUD = 0.98;
const QUIET_DBFS = -60;
const WORDS_EVERY_MS = 1500;
const LAST_WORDS_MS = 3000;
const CUES = ["speech", "tones", "vibration"];

const PROCESSING = {
  echoCancellation: "record.echo",
  noiseSuppression: "record.noise",
  autoGainControl: "record.gain",
};

let recorder = null;
let cues = null;
let live = null;
let stopGuide = () => {};
let clockTimer;
let wordsShownAt = 0;
let moving = false;
let take = null;
let onUse = () => {};
let atOnce = false;
let lastWords;
let protocol = [];

function show(phase) {
  const states = {
    ready: ["start", "record-file-label", "record-skip", "guided-option", "cue-options"],
    recording: ["stop", "live"],
    done: ["use", "again", "take"],
  };
  const all = new Set(Object.values(states).flat());
  for (const id of all) $(id).hidden = !states[phase].includes(id);
}

function caption(words) {
  $("guide").textContent = words;
}

// One cue: the caption on the screen, and whatever of speech, tones and vibration is switched on.
function cue({ kind, words, spoken }) {
  caption(words);
  cues?.give(kind, spoken ?? words);
}

function levelWords(peak) {
  const dbfs = 20 * Math.log10(Math.max(peak, 1e-6));
  if (recorder?.silent) return say("record.dead");
  if (peak >= LOUD) return say("record.loud");
  if (dbfs < QUIET_DBFS) return say(moving ? "record.quiet" : "record.quiet_right");
  return say("record.hears");
}

function showLevel(peak) {
  const dbfs = 20 * Math.log10(Math.max(peak, 1e-6));
  const share = Math.max(0, Math.min(1, 1 + dbfs / 72));
  $("level-bar").style.width = `${100 * share}%`;
  $("level-bar").classList.toggle("loud", peak >= LOUD);
  const now = performance.now();
  if (now - wordsShownAt < WORDS_EVERY_MS) return;
  wordsShownAt = now;
  const words = levelWords(peak);
  if ($("level-words").textContent !== words) $("level-words").textContent = words;
}

function silenceTold(silent) {
  if (!silent) return;
  wordsShownAt = performance.now();
  $("level-words").textContent = levelWords(0);
  cue({ kind: "trouble", words: say("record.dead_cue"), spoken: say("record.dead_spoken") });
}

// What the browser did to the sound although we asked it not to; unknown is not "off".
export function processingWords(capture) {
  const on = Object.keys(PROCESSING).filter((name) => capture?.[name] === true);
  if (!on.length) return "";
  return say("record.processed", { names: on.map((name) => say(PROCESSING[name])).join(", ") });
}

function forget() {
  if (take?.url) URL.revokeObjectURL(take.url);
  take = null;
  $("take-audio").removeAttribute("src");
}

const wanted = () => Object.fromEntries(CUES.map((name) => [name, $(`cue-${name}`).checked]));

async function start(trouble) {
  forget();
  $("start").disabled = true;
  clearTimeout(lastWords);
  cues?.close();
  cues = new Cues(wanted(), (lasts, lasted) => recorder?.noteCue(lasts, lasted));
  cues.unlock();
  const starting = new Recorder({
    onLevel: showLevel,
    onInterrupted: (words) => finish(say("record.kept", { why: words })),
    onSilent: silenceTold,
    onBlock: (block) => live?.send(block),
  });
  recorder = starting;
  try {
    await starting.start();
  } catch (error) {
    if (error instanceof LeftError) return;
    if (!(error instanceof MicrophoneError)) throw error;
    recorder = null;
    await cues.close();
    trouble(say("record.or_else", { why: error.message }));
    return;
  } finally {
    $("start").disabled = false;
  }
  trouble("");
  // A browser's own recorder writes no comment: nothing could tell its cues from the back.
  if (starting.media) Object.assign(cues.settings, { speech: false, tones: false });
  moving = false;
  show("recording");
  $("stop").focus();
  live = new LiveView($("live"), starting.context.sampleRate, starting.cues);
  if (!starting.media) starting.blocks.forEach((block) => live.send(block)); // came before it was there
  const words = processingWords(starting.capture);
  $("processing").hidden = !words;
  $("processing-text").textContent = words;
  clockTimer = setInterval(tick, 250);
  if (!$("guided").checked) {
    moving = true;
    cue({ kind: "quiet", words: say("record.recording") });
    return;
  }
  if (!(await countIn(cue, () => recorder !== starting))) return;
  const begin = (phase) => {
    moving = phase.kind === "turn";
    recorder?.beginPhase(phase);
  };
  stopGuide = guide(protocol, { cue, begin, done: () => finish("", true) });
}

function tick() {
  const elapsed = recorder?.seconds ?? 0;
  $("clock").textContent = say("common.seconds", { count: Math.floor(elapsed) });
  if (elapsed > LONGEST_SECONDS) finish();
}

// whole: the guide went to its end, so nobody needs to say that this take is the one.
async function finish(note = "", whole = false) {
  if (!recorder) return;
  const stopping = recorder;
  recorder = null;
  stopGuide();
  clearInterval(clockTimer);
  live?.close();
  const result = await stopping.stop();
  take = { ...result, url: URL.createObjectURL(result.blob) };
  $("take-audio").src = take.url;
  $("take-text").textContent = `${note} ${say("record.taken", { count: result.seconds.toFixed(0) })}`.trim();
  cue(note ? { kind: "trouble", words: say("record.interrupted") } : { kind: "done", words: say("record.done"), spoken: say("record.done_spoken") });
  $("level-words").textContent = "";
  $("level-bar").style.width = "0";
  show("done");
  $("use").focus();
  if (whole && atOnce) use();
}

function use() {
  const { blob, name, capture, seconds } = take;
  reset();
  onUse({ blob, name, capture, seconds });
}

function reset() {
  forget();
  show("ready");
  caption(say("record.ready"));
  $("clock").textContent = say("common.seconds", { count: 0 });
  $("processing").hidden = true;
}

// Leaves the step: a running recording ends and is dropped, and the microphone closes.
export async function leave() {
  stopGuide();
  clearInterval(clockTimer);
  live?.close();
  const running = recorder;
  recorder = null;
  reset();
  const told = cues;
  if (!running) lastWords = setTimeout(() => told?.close(), LAST_WORDS_MS); // "Done" may still sound
  await running?.release();
  if (running) await told?.close();
}

// onUse(recording) gets { blob, name, capture, seconds }; trouble(words) shows or clears an error;
// atOnce: a take that the guide has led to its end is used without a tap.
export function setUp({ trouble, ...more }) {
  ({ onUse, atOnce = false } = more);
  $("start").addEventListener("click", () => start(trouble));
  $("stop").addEventListener("click", () => finish());
  $("again").addEventListener("click", () => {
    reset();
    $("start").focus();
  });
  $("use").addEventListener("click", use);
  for (const name of CUES) {
    $(`cue-${name}`).checked = state.cues[name] ?? true;
    $(`cue-${name}`).addEventListener("change", () => {
      state.cues = wanted();
      save();
    });
  }
  $("cue-try").addEventListener("click", () => {
    const trial = new Cues(wanted());
    trial.unlock();
    setTimeout(() => trial.give("turn", say("record.turn")), 200);
    setTimeout(() => trial.close(), 2500);
  });
  reset();
}

// Called when the step is shown; phases: see protocol.js.
export function enter(phases, trouble) {
  protocol = phases;
  $("cue-vibration-option").hidden = !("vibrate" in navigator);
  $("cue-speech-option").hidden = !canSpeak();
  if ("speechSynthesis" in window) {
    speechSynthesis.onvoiceschanged = () => {
      $("cue-speech-option").hidden = !canSpeak();
    };
  }
  if (!microphoneAvailable()) {
    trouble(say("record.unavailable"));
  }
}
