// Labelling by ear: each key one label, saved before the next sound is shown.

import { $, element, seconds } from "./dom.js";
import { drawSpectrogram, drawWaveform } from "./picture.js";
import { labelWords } from "./sound-view.js";

const RATE = 48000;
const KEYS = { pop: "p", grating: "g", other: "o", unsure: "u" };
const words = (label) => (label === "unsure" ? "Unsure" : labelWords(label));

let overview = null;
let shown = null;
let playing = null;
let context = null;
const made = []; // numbers, latest last: what undo takes back
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

async function play() {
  if (!shown) return;
  stop();
  context ??= new AudioContext();
  const source = context.createBufferSource();
  source.buffer = await sound(shown.number);
  source.connect(context.destination);
  playing = source;
  // Without a press on the page a browser may keep silent: then the Play button is needed.
  context.resume();
  source.start();
}

function stop() {
  playing?.stop();
  playing = null;
}

// Letters for our own labels, digits for those of another model.
function keyOf(label, index) {
  return KEYS[label] ?? String(index + 1);
}

function drawKeys() {
  const labels = [...overview.labels, "unsure"];
  const button = (text, key, work) =>
    element("button", { type: "button", "aria-keyshortcuts": key, "data-key": key, onclick: work }, text, element("kbd", {}, key));
  $("keys").replaceChildren(
    button("Play", "Space", play),
    ...labels.map((label, index) => button(words(label), keyOf(label, index), () => give(label))),
    button("Undo", "z", undo),
  );
}

function drawProgress() {
  const counts = Object.entries(overview.counts).map(([label, count]) => `${words(label)}: ${count}`);
  const done = overview.total - overview.open;
  const tally = counts.length ? ` ${counts.join(", ")}.` : "";
  $("progress").textContent = `${done} of ${overview.total} labelled.${tally} Saved in ${overview.saved_in}.`;
}

async function draw() {
  drawProgress();
  [shown = null] = overview.items;
  $("sound").hidden = !shown;
  $("guess").hidden = !shown;
  if (!shown) {
    $("title").textContent = "All done";
    $("where").textContent = `Now run: crepitus train ${overview.saved_in} -o MODEL`;
    return;
  }
  const item = shown;
  const given = item.given ? ` It is labelled ${words(item.given).toLowerCase()}.` : "";
  $("where").textContent = `${item.name}, ${seconds(item.start)} to ${seconds(item.end)}.${given}`;
  const chances = Object.entries(item.probabilities).sort(([, one], [, other]) => other - one);
  $("guess-text").textContent = chances.map(([label, chance]) => `${words(label)}: ${Math.round(100 * chance)} %`).join(", ");
  try {
    const buffer = await sound(item.number);
    if (item !== shown) return;
    trouble("");
    const samples = buffer.getChannelData(0);
    drawWaveform($("wave"), samples, 0, samples.length, 110);
    drawSpectrogram($("spectrum"), samples, buffer.sampleRate, 160);
    const place = (time) => (100 * (time - item.clip_start)) / buffer.duration;
    $("stretch").style.left = `${place(item.start)}%`;
    $("stretch").style.width = `max(3px, ${Math.min(100, place(item.end)) - place(item.start)}%)`;
    $("axis-start").textContent = seconds(item.clip_start);
    $("axis-end").textContent = seconds(item.clip_start + buffer.duration);
    $("picture-words").textContent = `The sound to label is marked: from ${seconds(item.start)} to ${seconds(item.end)}.`;
    play();
  } catch (error) {
    trouble(`${item.name}: ${error.message}`);
  }
  overview.items.slice(1, 4).forEach((next) => sound(next.number).catch(() => {}));
}

async function change(path, options, said) {
  try {
    overview = await (await ask(path, options)).json();
  } catch (error) {
    trouble(error.message);
    return false;
  }
  $("said").textContent = said;
  stop();
  await draw();
  return true;
}

async function give(label) {
  if (!shown) return;
  const { number } = shown;
  const sent = { method: "POST", body: JSON.stringify({ label }) };
  if (await change(`api/review/${number}`, sent, `Saved: ${words(label)}.`)) made.push(number);
}

async function undo() {
  const number = made.at(-1);
  if (number === undefined) {
    $("said").textContent = "There is nothing to undo.";
    return;
  }
  if (await change(`api/review/${number}`, { method: "DELETE" }, "Taken back.")) made.pop();
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  const onControl = event.target.closest("button, summary, a");
  const key = event.key === " " ? "Space" : event.key;
  // Space on a button presses it; anywhere else it plays.
  if (key === "Space" && onControl) return;
  const button = document.querySelector(`[data-key="${CSS.escape(key)}"]`);
  if (!button) return;
  event.preventDefault();
  button.click();
});

try {
  overview = await (await ask("api/review")).json();
  drawKeys();
  await draw();
} catch (error) {
  trouble(error.message);
}
