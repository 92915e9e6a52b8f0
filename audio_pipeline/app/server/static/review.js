// Labelling by ear: each key one label, saved before the next sound is shown.

import { $, element, seconds } from "./dom.js";
import { drawSpectrogram, drawWaveform } from "./picture.js";
import { labelWords } from "./sound-view.js";

const RATE = 48000;
const KEYS = { pop: "p", grating: "g", other: "o", unsure: "u" };
const MOST_ZOOM = 32;
const words = (label) => (label === "unsure" ? "Unsure" : labelWords(label));

let overview = null;
let shown = null;
let playing = null;
let context = null;
let saving = false;
let back = 0; // how many steps back through what was labelled; 0 is the next open sound
let zoom = 1;
let looped = false;
let slow = false;
const fetched = new Map();

function trouble(text) {
  $("trouble").hidden = !text;
  $("trouble-text").textContent = text;
}

async function ask(path, options) {
  const response = await fetch(path, options).catch(() => null);
  if (response?.ok) return response;
  const problem = await response?.json().catch(() => null);
  throw new Error(problem?.error ?? "Crepitus cannot be reached. Is it still running?");
}

const askJson = async (path, options) => (await ask(path, options)).json();

function sound(number) {
  if (!fetched.has(number)) {
    const decoded = ask(`api/review/${number}/sound`)
      .then((response) => response.arrayBuffer())
      .then((bytes) => new OfflineAudioContext(1, 1, RATE).decodeAudioData(bytes));
    decoded.catch(() => fetched.delete(number));
    fetched.set(number, decoded);
  }
  return fetched.get(number);
}

// The part of the clip that is drawn and looped, in seconds of the clip, around the marked sound.
function view(item, buffer) {
  const middle = (item.start + item.end) / 2 - item.clip_start;
  const length = Math.max(buffer.duration / zoom, Math.min(buffer.duration, 1.2 * (item.end - item.start)));
  const from = Math.min(Math.max(0, middle - length / 2), buffer.duration - length);
  return { from, to: from + length };
}

async function play() {
  if (!shown) return;
  stop();
  context ??= new AudioContext();
  const buffer = await sound(shown.number);
  const source = context.createBufferSource();
  const { from, to } = view(shown, buffer);
  source.buffer = buffer;
  source.playbackRate.value = slow ? 0.5 : 1;
  source.loop = looped;
  [source.loopStart, source.loopEnd] = [from, to];
  source.connect(context.destination);
  playing = source;
  // Without a press on the page a browser may keep silent: then the Play button is needed.
  context.resume();
  if (looped) source.start(0, from);
  else source.start(0, from, to - from);
}

function stop() {
  playing?.stop();
  playing = null;
}

// Letters for our own labels, digits for those of another model.
function keyOf(label, index) {
  return KEYS[label] ?? String(index + 1);
}

function button(text, key, work, attributes = {}) {
  const name = { ArrowLeft: "←", ArrowRight: "→" }[key] ?? key;
  return element(
    "button",
    { type: "button", "aria-keyshortcuts": key, "data-key": key, onclick: work, ...attributes },
    text,
    element("kbd", { "aria-hidden": "true" }, name),
  );
}

function drawKeys() {
  const labels = [...overview.labels, "unsure"];
  $("keys").replaceChildren(
    button("Play", "Space", play),
    ...labels.map((label, index) => button(words(label), keyOf(label, index), () => give(label))),
    button("Undo", "z", undo),
  );
  const pressed = (on) => ({ "aria-pressed": String(on) });
  $("tools").replaceChildren(
    button("Closer", "+", () => zoomBy(2)),
    button("Wider", "-", () => zoomBy(0.5)),
    button("Loop", "l", toggle(() => (looped = !looped)), pressed(looped)),
    button("Half speed", "h", toggle(() => (slow = !slow)), pressed(slow)),
    button("Step back", "ArrowLeft", () => step(1)),
    button("Step on", "ArrowRight", () => step(-1)),
    button("More like this", "m", moreLikeThis),
    button("Write a note", "n", () => $("note").focus()),
    button("Show what is hidden", "i", reveal),
  );
}

function toggle(change) {
  return (event) => {
    event.currentTarget.setAttribute("aria-pressed", String(change()));
    play();
  };
}

function zoomBy(factor) {
  zoom = Math.min(MOST_ZOOM, Math.max(1, zoom * factor));
  drawPicture();
}

function drawProgress() {
  const counts = Object.entries(overview.counts).map(([label, count]) => `${words(label)}: ${count}`);
  const done = overview.total - overview.open;
  const tally = counts.length ? ` ${counts.join(", ")}.` : "";
  const who = overview.rater ? ` Rater: ${overview.rater}.` : "";
  const learning = overview.learning ? " The model is learning from your labels." : "";
  $("progress").textContent = `${done} of ${overview.total} labelled.${tally} Saved in ${overview.saved_in}.${who}${learning}`;
}

function shareWords(share) {
  if (share.value === null) return "none yet";
  return `${share.value.toFixed(2)} [${share.low.toFixed(2)}, ${share.high.toFixed(2)}] of ${share.count}`;
}

function drawLearnt() {
  const told = overview.history.filter((one) => one.estimate && one.estimate.right.count);
  $("learnt").hidden = !told.length;
  if (!told.length) return;
  const { estimate } = told.at(-1);
  $("learnt-words").textContent = told
    .slice(-4)
    .map((one) => `After ${one.labels} labels it named ${shareWords(one.estimate.right)} rightly.`)
    .join(" ");
  $("learnt-rows").replaceChildren(
    ...overview.labels.map((label) =>
      element(
        "tr",
        {},
        element("th", { scope: "row" }, words(label)),
        element("td", {}, shareWords(estimate.precision[label])),
        element("td", {}, shareWords(estimate.recall[label])),
      ),
    ),
  );
  drawNarrowing(told.map((one) => one.estimate.right));
}

// A bar for each fit, from the lower to the upper end of its interval, with the share as a line.
function drawNarrowing(shares) {
  const canvas = $("narrowing");
  canvas.width = Math.max(200, $("learnt-picture").clientWidth);
  canvas.height = 80;
  const drawing = canvas.getContext("2d");
  drawing.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--accent").trim();
  const width = canvas.width / Math.max(8, shares.length);
  const y = (share) => (canvas.height - 2) * (1 - share);
  shares.forEach(({ value, low, high }, index) => {
    const x = index * width + width * 0.2;
    drawing.globalAlpha = 0.35;
    drawing.fillRect(x, y(high), width * 0.6, Math.max(1, y(low) - y(high)));
    drawing.globalAlpha = 1;
    drawing.fillRect(x, y(value), width * 0.6, 2);
  });
}

async function drawPicture() {
  const item = shown;
  const buffer = await sound(item.number);
  if (item !== shown) return;
  const { from, to } = view(item, buffer);
  const samples = buffer.getChannelData(0).subarray(Math.floor(from * buffer.sampleRate), Math.ceil(to * buffer.sampleRate));
  drawWaveform($("wave"), samples, 0, samples.length, 110);
  drawSpectrogram($("spectrum"), samples, buffer.sampleRate, 160);
  const place = (time) => Math.min(100, Math.max(0, (100 * (time - item.clip_start - from)) / (to - from)));
  $("stretch").style.left = `${place(item.start)}%`;
  $("stretch").style.width = `max(3px, ${place(item.end) - place(item.start)}%)`;
  $("axis-start").textContent = seconds(from);
  $("axis-end").textContent = seconds(to);
  const [start, end] = [item.start, item.end].map((time) => seconds(time - item.clip_start));
  $("picture-words").textContent = `The sound to label is marked: from ${start} to ${end}.`;
}

async function draw() {
  drawProgress();
  drawLearnt();
  const heading = shown ? "What do you hear?" : "All done";
  $("title").textContent = heading;
  $("sound").hidden = !shown;
  $("hidden").hidden = true;
  if (!shown) {
    $("where").textContent = `Now run: crepitus train ${overview.saved_in} -o MODEL`;
    return;
  }
  const item = shown;
  const before = back ? `${back} ${back === 1 ? "step" : "steps"} back. ` : "";
  $("where").textContent = item.label ? `${before}You called it: ${words(item.label)}.` : before;
  $("note").value = item.note;
  try {
    await drawPicture();
    if (item !== shown) return;
    trouble("");
    play();
  } catch (error) {
    trouble(error.message);
  }
  overview.items.slice(1, 4).forEach((next) => sound(next.number).catch(() => {}));
}

async function showNext() {
  [shown = null] = overview.items;
  back = 0;
  await draw();
}

// One change at a time: a key pressed while one is saved is not a second label.
async function change(path, options) {
  if (saving) return null;
  saving = true;
  stop();
  try {
    overview = await askJson(path, options);
    return overview;
  } catch (error) {
    trouble(error.message);
    return null;
  } finally {
    saving = false;
  }
}

async function give(label) {
  if (!shown) return;
  const sent = { method: "POST", body: JSON.stringify({ label, note: $("note").value }) };
  const relabelled = back;
  if (!(await change(`api/review/${shown.number}`, sent))) return;
  $("said").textContent = `Saved: ${words(label)}.`;
  if (relabelled > 1) await goBack(relabelled - 1);
  else await showNext();
}

async function undo() {
  const changed = await change("api/review", { method: "DELETE" });
  if (!changed) return;
  $("said").textContent = changed.undone ? "Taken back." : "There is nothing to undo.";
  back = 0;
  shown = changed.undone ?? overview.items[0] ?? null;
  await draw();
}

async function goBack(steps) {
  const number = overview.made.at(-steps);
  shown = await askJson(`api/review/${number}`);
  back = steps;
  await draw();
}

async function step(by) {
  const steps = Math.min(overview.made.length, back + by);
  if (saving || steps < 0 || (steps === 0 && back === 0)) return;
  stop();
  try {
    if (steps === 0) await showNext();
    else await goBack(steps);
  } catch (error) {
    trouble(error.message);
  }
}

async function moreLikeThis() {
  if (!shown) return;
  const changed = await change(`api/review/${shown.number}/like`, { method: "POST" });
  if (!changed) return;
  $("said").textContent = changed.alike ? `Next come ${changed.alike} that sound most like this.` : "There are no others.";
  if (shown.label) await showNext();
  else drawProgress();
}

async function reveal() {
  if (!shown) return;
  const item = shown;
  try {
    const told = await askJson(`api/review/${item.number}`);
    if (item !== shown) return;
    const given = told.given ? ` It is labelled ${words(told.given).toLowerCase()}.` : "";
    const chances = Object.entries(told.probabilities).sort(([, one], [, other]) => other - one);
    const model = chances.map(([label, chance]) => `${words(label)}: ${Math.round(100 * chance)} %`).join(", ");
    const votes = Object.entries(told.votes).map(([rater, label]) => `${rater}: ${words(label)}`);
    const others = votes.length ? ` Raters: ${votes.join(", ")}.` : "";
    $("hidden").hidden = false;
    $("hidden-text").textContent = `${told.name}, ${seconds(told.start)} to ${seconds(told.end)}.${given} The model: ${model}.${others}`;
  } catch (error) {
    trouble(error.message);
  }
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target === $("note")) {
    if (event.key === "Enter" || event.key === "Escape") $("note").blur();
    return;
  }
  const onControl = event.target.closest("button, summary, a");
  const key = event.key === " " ? "Space" : event.key;
  // Space on a button presses it; anywhere else it plays.
  if (key === "Space" && onControl) return;
  const pressed = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (!pressed) return;
  event.preventDefault();
  pressed.click();
});

// A note about a sound that has a label already is saved when the field is left.
$("note").addEventListener("change", async () => {
  if (!shown?.label) return;
  const { number, label } = shown;
  const sent = { method: "POST", body: JSON.stringify({ label, note: $("note").value }) };
  if (await change(`api/review/${number}`, sent)) {
    $("said").textContent = "Note saved.";
    drawProgress();
  }
});

// The model learns in the background; what it found is fetched without touching the sound shown.
setInterval(async () => {
  if (!overview?.learning || saving) return;
  const now = await askJson("api/review").catch(() => null);
  if (!now || saving) return;
  overview = now;
  drawProgress();
  drawLearnt();
}, 1000);

try {
  overview = await askJson("api/review");
  drawKeys();
  await showNext();
} catch (error) {
  trouble(error.message);
}
