// The microphone: asks for unprocessed sound, reads back what the browser really gives, and
// collects raw samples. Where there is no AudioWorklet, MediaRecorder is the fallback.

import { encodeWav } from "./wav.js";
import { say } from "./words.js";

const WANTED = {
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
  channelCount: 1,
};

const FALLBACK_TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];

const STALLED_MS = 1500;
const SILENT = 1e-5; // -100 dBFS: no room is as quiet, only a microphone that is off
const SILENT_SECONDS = 1.5;
const RESUME_MS = 4000;

export class MicrophoneError extends Error {}

// The person left while the browser was still asking: nothing is wrong, and nothing may stay open.
export class LeftError extends Error {}

const REASONS = {
  NotAllowedError: "record.denied",
  NotFoundError: "record.missing",
  NotReadableError: "record.taken_by_other",
};

export function microphoneAvailable() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

export class Recorder {
  // onLevel(peak) is called about 20 times a second with the largest sample of a block, 0 to 1;
  // onInterrupted(words) once, when sound stops coming although nobody pressed Stop;
  // onSilent(silent) when nothing but zeros comes, and when that is over; onBlock(samples) with
  // every block, where the browser gives samples.
  constructor({ onLevel, onInterrupted = () => {}, onSilent = () => {}, onBlock = () => {} }) {
    Object.assign(this, { onLevel, onInterrupted, onSilent, onBlock });
    this.cues = [];
    this.loudAt = 0;
    this.silent = false;
    this.released = false;
    this.watches = new AbortController();
    this.blocks = [];
    this.frames = 0;
    this.received = 0;
    this.phases = [];
    this.capture = {};
  }

  async start() {
    if (!microphoneAvailable()) {
      throw new MicrophoneError(say("record.no_https"));
    }
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: WANTED });
    } catch (error) {
      if (this.released) throw new LeftError();
      throw new MicrophoneError(say(REASONS[error.name] ?? "record.not_opened"));
    }
    this.stream = stream;
    // Permission can come long after the person has gone on: then the microphone closes at once.
    await this.stillWanted();
    const [track] = stream.getAudioTracks();
    const applied = track.getSettings();
    this.capture = Object.fromEntries(
      ["echoCancellation", "noiseSuppression", "autoGainControl", "sampleRate"].map((name) => [
        name,
        applied[name] ?? null,
      ]),
    );
    try {
      this.context = new AudioContext();
      await this.running();
      this.source = this.context.createMediaStreamSource(stream);
      if (this.context.audioWorklet) await this.startWorklet();
      else this.startMediaRecorder();
    } catch {
      const left = this.released;
      await this.release();
      if (left) throw new LeftError();
      throw new MicrophoneError(say("record.not_read"));
    }
    await this.stillWanted();
    this.watch(track);
  }

  async stillWanted() {
    if (!this.released) return;
    await this.release();
    throw new LeftError();
  }

  // Some browsers never answer resume(): that must not hang the page.
  async running() {
    await Promise.race([this.context.resume(), new Promise((resolve) => setTimeout(resolve, RESUME_MS))]);
    if (this.context.state !== "running") throw new Error("the sound system did not start");
  }

  // A call, a locked screen or another program can take the microphone in the middle. What counts
  // is whether samples come, whatever the browser says about its state.
  watch(track) {
    const { signal } = this.watches;
    const interrupted = (words) => {
      if (this.released || signal.aborted) return;
      this.watches.abort();
      this.onInterrupted(words);
    };
    track.addEventListener("ended", () => interrupted(say("record.unplugged")), { signal });
    track.addEventListener("mute", () => interrupted(say("record.muted")), { signal });
    this.context.addEventListener(
      "statechange",
      () => this.context.state === "running" || interrupted(say("record.stopped")),
      { signal },
    );
    let last = this.received;
    const timer = setInterval(() => {
      if (this.received === last) interrupted(say("record.stalled"));
      last = this.received;
    }, STALLED_MS);
    signal.addEventListener("abort", () => clearInterval(timer));
    this.keepAwake(signal);
  }

  // A screen that goes dark ends a recording on most phones.
  async keepAwake(signal) {
    const ask = async () => {
      if (document.visibilityState !== "visible" || this.released) return;
      this.lock = await navigator.wakeLock?.request("screen").catch(() => null);
      if (this.released) this.lock?.release();
    };
    document.addEventListener("visibilitychange", ask, { signal });
    await ask();
  }

  // Seconds of sound that really came.
  get seconds() {
    return this.media ? this.elapsed() : this.frames / this.context.sampleRate;
  }

  elapsed() {
    return (this.heardAt - this.startedAt) / 1000;
  }

  async startWorklet() {
    await this.context.audioWorklet.addModule("static/recorder-worklet.js");
    this.tap = new AudioWorkletNode(this.context, "tap", {
      numberOfInputs: 1,
      numberOfOutputs: 0,
      channelCount: 1,
      channelCountMode: "explicit",
    });
    this.tap.port.onmessage = ({ data }) => this.receive(data);
    this.source.connect(this.tap);
  }

  receive(block) {
    if (this.lastBlock) {
      this.lastBlock();
      this.lastBlock = null;
    }
    if (!block.length) return;
    this.blocks.push(block);
    this.frames += block.length;
    this.received += 1;
    let peak = 0;
    for (const sample of block) peak = Math.max(peak, Math.abs(sample));
    this.noteLevel(peak);
    this.onBlock(block);
  }

  noteLevel(peak) {
    const now = this.seconds;
    if (peak > SILENT) this.loudAt = now;
    const silent = now - this.loudAt > SILENT_SECONDS;
    const changed = silent !== this.silent;
    this.silent = silent;
    this.onLevel(peak);
    if (changed) this.onSilent(silent);
  }

  startMediaRecorder() {
    const mimeType = FALLBACK_TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    this.media = new MediaRecorder(this.stream, { mimeType, audioBitsPerSecond: 256000 });
    this.startedAt = performance.now();
    this.heardAt = this.startedAt;
    this.media.ondataavailable = ({ data }) => {
      this.blocks.push(data);
      this.heardAt = performance.now();
      if (data.size) this.received += 1;
    };
    this.media.start(250);
    const meter = this.context.createAnalyser();
    meter.fftSize = 2048;
    this.source.connect(meter);
    const samples = new Float32Array(meter.fftSize);
    this.meterTimer = setInterval(() => {
      meter.getFloatTimeDomainData(samples);
      this.noteLevel(samples.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0));
    }, 50);
  }

  // Notes that a phase of the guided take begins now, on the clock of the recording.
  beginPhase({ kind, turn }) {
    const start = this.phases.length ? this.seconds : 0;
    this.phases.push({ kind, turn, start });
  }

  // Notes a sound of the page's own: it began `lasted` seconds ago and is over in `lasts` seconds.
  noteCue(lasts, lasted = 0) {
    this.cues.push({ start: Math.max(0, this.seconds - lasted), end: this.seconds + lasts });
  }

  // What the file says about itself: how it was made, the phases that fill it, our own sounds.
  describe() {
    const duration = this.seconds;
    const performed = this.phases.filter((phase) => phase.start < duration);
    const protocol = performed.map((phase, index) => ({
      ...phase,
      end: performed[index + 1]?.start ?? duration,
    }));
    const cues = this.cues.filter((cue) => cue.start < duration);
    return { capture: this.capture, protocol, cues };
  }

  // Stops and returns { blob, name, capture, seconds }: seconds of sound that really came.
  async stop() {
    this.watches.abort();
    let blob;
    let name;
    if (this.media) {
      clearInterval(this.meterTimer);
      if (this.media.state !== "inactive") {
        await new Promise((resolve) => {
          this.media.onstop = resolve;
          this.media.stop();
        });
      }
      const type = this.media.mimeType.split(";")[0];
      blob = new Blob(this.blocks, { type });
      name = `twist.${type.split("/")[1]}`;
    } else {
      await this.lastSamples();
      blob = encodeWav(this.blocks, this.context.sampleRate, JSON.stringify(this.describe()));
      name = "twist.wav";
    }
    const { capture, seconds } = this;
    await this.release();
    return { blob, name, capture, seconds };
  }

  // The last block is only part full: ask for it, but not for ever.
  async lastSamples() {
    if (this.context.state !== "running") return;
    await Promise.race([
      new Promise((resolve) => {
        this.lastBlock = resolve;
        this.tap.port.postMessage("flush");
      }),
      new Promise((resolve) => setTimeout(resolve, 500)),
    ]);
  }

  async release() {
    this.released = true;
    this.watches.abort();
    this.lock?.release().catch(() => {});
    clearInterval(this.meterTimer);
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    if (this.context && this.context.state !== "closed") await this.context.close();
    this.blocks = [];
  }
}
