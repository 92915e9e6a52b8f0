// Sounds as they are heard: a running picture while recording, and what the computer says of it.
// The take itself does not depend on it: without a connection only the picture is drawn.

import { element, seconds } from "./dom.js";
import { labelWords } from "./sound-view.js";
import { say } from "./words.js";

const SECONDS = 20;
const BACKLOG_BYTES = 4e6;

export class LiveView {
  // cues: the page's own sounds, { start, end } in seconds; what starts in one is no sound of a back.
  constructor(node, sampleRate, cues) {
    this.sampleRate = sampleRate;
    this.cues = cues;
    this.waiting = [];
    this.frames = 0;
    this.peaks = [];
    this.events = [];
    this.canvas = element("canvas", { "aria-hidden": "true" });
    this.heard = element("p", { class: "note", id: "live-heard" });
    this.hint = element("p", { class: "note", id: "live-hint", role: "status" });
    node.replaceChildren(this.canvas, this.heard, this.hint);
    this.connect();
    const draw = () => {
      if (this.closed) return;
      this.draw();
      requestAnimationFrame(draw);
    };
    requestAnimationFrame(draw);
  }

  connect() {
    const address = new URL(`api/v1/live?sample_rate=${Math.round(this.sampleRate)}`, location.href);
    address.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    try {
      this.socket = new WebSocket(address);
    } catch {
      return;
    }
    this.socket.onopen = () => this.waiting.splice(0).forEach((block) => this.socket.send(block));
    this.socket.onmessage = ({ data }) => this.receive(JSON.parse(data));
  }

  send(block) {
    this.frames += block.length;
    let peak = 0;
    for (const sample of block) peak = Math.max(peak, Math.abs(sample));
    this.peaks.push({ at: this.frames / this.sampleRate, peak });
    const { socket } = this;
    // Every block goes out, or the times told would not be those of the take; a network too slow for
    // that must not fill the phone's memory, so then only the picture goes on.
    if (socket?.readyState === WebSocket.CONNECTING) this.waiting.push(block);
    else if (socket?.bufferedAmount > BACKLOG_BYTES) socket.close();
    else if (socket?.readyState === WebSocket.OPEN) socket.send(block);
  }

  receive(message) {
    if (message.type === "hint") this.hint.textContent = message.text;
    if (message.type !== "event") return;
    // A sound is told at once and again when its neighbours changed what it is taken for.
    this.events = this.events.filter((event) => Math.abs(event.start - message.start) > 0.001);
    this.events.push(message);
    const joints = this.heardEvents().filter((event) => event.label !== "other" && !event.uncertain);
    const told = joints.map(({ label, start }) => say("sound.at", { sound: labelWords(label).toLowerCase(), time: seconds(start, 1) }));
    this.heard.textContent = joints.length ? say("sound.live", { sounds: told.join(", ") }) : "";
  }

  heardEvents() {
    return this.events.filter(({ start }) => !this.cues.some((cue) => cue.start <= start && start < cue.end));
  }

  draw() {
    const ratio = devicePixelRatio || 1;
    const width = Math.max(1, this.canvas.clientWidth * ratio);
    const height = Math.max(1, this.canvas.clientHeight * ratio);
    if (this.canvas.width !== width) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext("2d");
    const style = getComputedStyle(this.canvas);
    const now = Math.max(SECONDS, this.frames / this.sampleRate);
    const x = (at) => ((at - now + SECONDS) / SECONDS) * width;
    context.clearRect(0, 0, width, height);
    context.fillStyle = style.color;
    const bar = Math.max(1, (2048 / this.sampleRate / SECONDS) * width);
    for (const { at, peak } of this.peaks) {
      if (at < now - SECONDS) continue;
      const loud = Math.max(0.01, 1 + (20 * Math.log10(Math.max(peak, 1e-5))) / 80);
      context.fillRect(x(at) - bar, (height * (1 - loud)) / 2, bar, height * loud);
    }
    for (const event of this.heardEvents()) {
      context.fillStyle = style.getPropertyValue(`--${event.label}`) || style.color;
      context.globalAlpha = event.uncertain ? 0.3 : 0.6;
      context.fillRect(x(event.start), 0, Math.max(3 * ratio, x(event.end) - x(event.start)), height);
      context.globalAlpha = 1;
    }
  }

  close() {
    this.closed = true;
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send("end");
    else this.socket?.close();
  }
}
