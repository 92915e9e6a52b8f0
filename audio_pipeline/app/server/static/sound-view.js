// The recording in the result: picture with the events on it, tap one to hear it and read why.

import { element, seconds } from "./dom.js";
import { say } from "./words.js";
import { HIGHEST_HZ, drawSpectrogram, drawWaveform } from "./picture.js";

const LEAD_SECONDS = 0.15;
const TAIL_SECONDS = 0.3;
const FINE_RATE = 48000;
const COARSE_RATE = 16000;
const LONG_BYTES = 20e6;
const TAG_PIXELS = 26; // one number, wide enough to be tapped
const TAG_ROWS = 8;

const LABELS = ["pop", "grating", "other"];

export const labelWords = (label) => (LABELS.includes(label) ? say(`sound.${label}`) : label);

function eventWords(event) {
  const words = labelWords(event.label);
  return event.uncertain ? say("sound.not_sure", { sound: words }) : words;
}

const eventAt = (event) => say("sound.at", { sound: eventWords(event), time: seconds(event.start) });

// The browser's own decoder; null when it does not know the format.
async function decode(blob) {
  if (!blob) return null;
  const rate = blob.size > LONG_BYTES ? COARSE_RATE : FINE_RATE;
  try {
    const bytes = await blob.arrayBuffer();
    return await new OfflineAudioContext(1, 1, rate).decodeAudioData(bytes);
  } catch {
    return null;
  }
}

class Player {
  constructor(buffer) {
    this.buffer = buffer;
  }

  async play(from, to, onEnd) {
    this.stop();
    this.context ??= new AudioContext();
    await this.context.resume();
    const source = this.context.createBufferSource();
    source.buffer = this.buffer;
    source.connect(this.context.destination);
    source.onended = onEnd;
    source.start(0, Math.max(0, from), Math.max(0.05, to - from));
    this.source = source;
  }

  stop() {
    if (!this.source) return;
    this.source.onended = null;
    this.source.stop();
    this.source = null;
  }
}

function textEquivalent(duration, events) {
  const count = duration.toFixed(1);
  if (!events.length) return say("sound.nothing", { count });
  return say("sound.shows", { count, sounds: events.map((event) => eventAt(event).toLowerCase()).join("; ") });
}

// Lines at round frequencies across the spectrogram, so that "high" and "low" mean something.
function frequencyAxis(sampleRate) {
  const top = Math.min(HIGHEST_HZ, sampleRate / 2);
  const lines = [2, 5, 10, 15].filter((kilohertz) => 1000 * kilohertz < 0.9 * top);
  return element(
    "div",
    { class: "frequencies", "aria-hidden": "true" },
    ...lines.map((kilohertz) => {
      const line = element("span", {}, `${kilohertz} kHz`);
      line.style.bottom = `${(100 * 1000 * kilohertz) / top}%`;
      return line;
    }),
  );
}

// Marks that stand close share the height in rows, so that every number can be read and tapped.
function placeTags(marks, events, duration, width) {
  const ends = [];
  const order = events.map((_, index) => index).sort((a, b) => events[a].start - events[b].start);
  for (const index of order) {
    const middle = (width * (events[index].start + events[index].end)) / (2 * duration);
    let row = ends.findIndex((end) => end <= middle - TAG_PIXELS / 2);
    if (row < 0) row = ends.length;
    ends[row] = middle + TAG_PIXELS / 2;
    marks[index].style.setProperty("--row", row % TAG_ROWS);
  }
}

// Returns { node, draw }: draw() when the node is on the page, because a canvas needs its width.
export async function soundView(recording, blob) {
  const buffer = await decode(blob);
  const { events, duration } = recording;
  const samples = buffer?.getChannelData(0);
  const player = buffer && new Player(buffer);
  const marks = [];
  const details = [];
  const status = element("p", { class: "sr-only", role: "status" });

  const choose = (index) => {
    const event = events[index];
    marks.forEach((mark, other) => mark.setAttribute("aria-pressed", String(other === index)));
    status.textContent = say("sound.playing", { sound: eventAt(event).toLowerCase() });
    player.play(event.start - LEAD_SECONDS, event.end + TAIL_SECONDS, () => {
      marks[index].setAttribute("aria-pressed", "false");
      status.textContent = "";
    });
  };

  const markLayer = element("div", { class: "marks" });
  events.forEach((event, index) => {
    const mark = element(
      "button",
      {
        type: "button",
        class: `mark event-${event.label}`,
        "aria-label": say("sound.mark", { number: index + 1, sound: eventAt(event) }),
        "aria-pressed": "false",
        onclick: () => {
          choose(index);
          details[index].scrollIntoView({ block: "nearest" });
        },
      },
      element("span", { class: "tag", "aria-hidden": "true" }, String(index + 1)),
    );
    marks.push(mark);
    markLayer.append(mark);
    const zoom = element("canvas", { "aria-hidden": "true" });
    details.push(
      element(
        "li",
        { class: `event-${event.label}` },
        element(
          "div",
          { class: "row" },
          element("strong", {}, `${index + 1}. ${eventAt(event)}`),
          player
            ? element(
                "button",
                { type: "button", onclick: () => choose(index) },
                say("sound.play"),
                element("span", { class: "sr-only" }, ` ${say("sound.play_number", { number: index + 1 })}`),
              )
            : null,
        ),
        samples ? zoom : null,
        ...event.reasons.map((reason) => element("p", {}, reason)),
      ),
    );
  });

  const wave = element("canvas", { "aria-hidden": "true" });
  const spectrum = element("canvas", { "aria-hidden": "true" });
  const children = [status];
  if (samples) {
    children.push(
      element(
        "figure",
        {},
        element("div", { class: "picture" }, wave, spectrum, frequencyAxis(buffer.sampleRate), markLayer),
        element(
          "div",
          { class: "axis", "aria-hidden": "true" },
          element("span", {}, seconds(0, 0)),
          element("span", {}, seconds(duration / 2, 1)),
          element("span", {}, seconds(duration, 1)),
        ),
        element(
          "figcaption",
          {},
          `${textEquivalent(duration, events)} ${say("sound.how")}`,
        ),
      ),
    );
  } else if (blob) {
    children.push(element("p", { class: "note" }, say("sound.unplayable")));
  }
  if (events.length) {
    if (samples) children.push(element("p", { class: "on-screen" }, say("sound.choose")));
    children.push(element("ol", { class: "events" }, ...details));
  }
  const node = element("div", {}, ...children);

  const draw = () => {
    if (!samples) return;
    drawWaveform(wave, samples, 0, samples.length, 90);
    drawSpectrogram(spectrum, samples, buffer.sampleRate, 140);
    placeTags(marks, events, duration, markLayer.clientWidth);
    events.forEach((event, index) => {
      const mark = marks[index];
      const share = (100 * (event.end - event.start)) / duration;
      const middle = (50 * (event.start + event.end)) / duration;
      mark.style.setProperty("--share", share);
      mark.style.left = `calc(${middle}% - max(.75rem, ${share / 2}%))`;
      mark.style.width = `max(1.5rem, ${share}%)`;
      const around = 0.05 + (event.end - event.start) / 2;
      const rate = buffer.sampleRate;
      const from = Math.max(0, Math.floor((event.start - around) * rate));
      const to = Math.min(samples.length, Math.ceil((event.end + around) * rate));
      const canvas = details[index].querySelector("canvas");
      if (canvas && to > from) drawWaveform(canvas, samples, from, to, 70);
    });
  };
  return { node, draw, stop: () => player?.stop() };
}
