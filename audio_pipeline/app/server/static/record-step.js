// The step with the microphone: start, guide, meter, stop, play back, use.

import { $ } from "./dom.js";
import { guide } from "./protocol.js";
import { LeftError, MicrophoneError, Recorder, microphoneAvailable } from "./recorder.js";

const LONGEST_SECONDS = 300;
const LOUD = 0.98;
const QUIET_DBFS = -60;
const WORDS_EVERY_MS = 1500;

const PROCESSING = {
  echoCancellation: "echo cancellation",
  noiseSuppression: "noise suppression",
  autoGainControl: "automatic volume",
};

let recorder = null;
let stopGuide = () => {};
let clockTimer;
let wordsShownAt = 0;
let take = null;
let protocol = [];

function show(phase) {
  const states = {
    ready: ["start", "record-file-label", "record-skip", "guided-option"],
    recording: ["stop"],
    done: ["use", "again", "take"],
  };
  const all = new Set(Object.values(states).flat());
  for (const id of all) $(id).hidden = !states[phase].includes(id);
}

function say(words) {
  $("guide").textContent = words;
}

function showLevel(peak) {
  const dbfs = 20 * Math.log10(Math.max(peak, 1e-6));
  const share = Math.max(0, Math.min(1, 1 + dbfs / 72));
  $("level-bar").style.width = `${100 * share}%`;
  $("level-bar").classList.toggle("loud", peak >= LOUD);
  const now = performance.now();
  if (now - wordsShownAt < WORDS_EVERY_MS) return;
  wordsShownAt = now;
  let words = "The microphone hears you.";
  if (peak >= LOUD) words = "Too loud: move the microphone a little further away.";
  else if (dbfs < QUIET_DBFS) words = "Very quiet. That is right while you stay still.";
  if ($("level-words").textContent !== words) $("level-words").textContent = words;
}

// What the browser did to the sound although we asked it not to; unknown is not "off".
export function processingWords(capture) {
  const on = Object.keys(PROCESSING).filter((name) => capture[name] === true);
  if (!on.length) return "";
  const names = on.map((name) => PROCESSING[name]).join(", ");
  return `Your browser changed the sound (${names}). This can remove short sounds such as pops. Try another browser if you can.`;
}

function forget() {
  if (take?.url) URL.revokeObjectURL(take.url);
  take = null;
  $("take-audio").removeAttribute("src");
}

async function start(trouble) {
  forget();
  $("start").disabled = true;
  const starting = new Recorder(showLevel, (words) => finish(`${words} What was recorded until then is kept.`));
  recorder = starting;
  try {
    await starting.start();
  } catch (error) {
    if (error instanceof LeftError) return;
    if (!(error instanceof MicrophoneError)) throw error;
    recorder = null;
    trouble(`${error.message} You can also choose a recording, or skip it: your answers alone give advice.`);
    return;
  } finally {
    $("start").disabled = false;
  }
  trouble("");
  show("recording");
  $("stop").focus();
  const words = processingWords(starting.capture);
  $("processing").hidden = !words;
  $("processing-text").textContent = words;
  clockTimer = setInterval(tick, 250);
  const begin = (phase) => recorder?.beginPhase(phase);
  if ($("guided").checked) stopGuide = guide(protocol, { say, begin, done: () => finish() });
  else say("Recording. Move when you are ready.");
}

function tick() {
  const elapsed = recorder?.seconds ?? 0;
  $("clock").textContent = `${Math.floor(elapsed)} s`;
  if (elapsed > LONGEST_SECONDS) finish();
}

async function finish(note = "") {
  if (!recorder) return;
  const stopping = recorder;
  recorder = null;
  stopGuide();
  clearInterval(clockTimer);
  const result = await stopping.stop();
  take = { ...result, url: URL.createObjectURL(result.blob) };
  $("take-audio").src = take.url;
  $("take-text").textContent = `${note} ${result.seconds.toFixed(0)} seconds. Listen to it if you like, use it, or record again.`.trim();
  say(note ? "The recording was interrupted." : "Recorded.");
  $("level-words").textContent = "";
  $("level-bar").style.width = "0";
  show("done");
  $("use").focus();
}

function reset() {
  forget();
  show("ready");
  say("Press Start when you are ready.");
  $("clock").textContent = "0 s";
  $("processing").hidden = true;
}

// Leaves the step: a running recording ends and is dropped.
export async function leave() {
  stopGuide();
  clearInterval(clockTimer);
  const running = recorder;
  recorder = null;
  await running?.release();
  reset();
}

// onUse(recording) gets { blob, name, capture }; trouble(words) shows or clears an error.
export function setUp({ onUse, trouble }) {
  $("start").addEventListener("click", () => start(trouble));
  $("stop").addEventListener("click", () => finish());
  $("again").addEventListener("click", () => {
    reset();
    $("start").focus();
  });
  $("use").addEventListener("click", () => {
    const { blob, name, capture } = take;
    reset();
    onUse({ blob, name, capture });
  });
  reset();
}

// Called when the step is shown; phases: see protocol.js.
export function enter(phases, trouble) {
  protocol = phases;
  if (!microphoneAvailable()) {
    trouble("This browser gives no microphone to this page. Choose a recording instead, or skip it.");
  }
}
