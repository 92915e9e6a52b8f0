// The microphone: asks for unprocessed sound, reads back what the browser really gives, and
// collects raw samples. Where there is no AudioWorklet, MediaRecorder is the fallback.

import { encodeWav } from "./wav.js";

const WANTED = {
  echoCancellation: false,
  noiseSuppression: false,
  autoGainControl: false,
  channelCount: 1,
};

const FALLBACK_TYPES = ["audio/webm;codecs=opus", "audio/mp4", "audio/ogg;codecs=opus"];

export class MicrophoneError extends Error {}

const REASONS = {
  NotAllowedError:
    "The browser may not use the microphone. Allow it in the browser's settings for this page, then try again.",
  NotFoundError: "No microphone was found. Plug one in, then try again.",
  NotReadableError: "Another program is using the microphone. Close it, then try again.",
};

export function microphoneAvailable() {
  return Boolean(navigator.mediaDevices?.getUserMedia);
}

export class Recorder {
  // onLevel(peak) is called about 20 times a second with the largest sample of a block, 0 to 1.
  constructor(onLevel) {
    this.onLevel = onLevel;
    this.blocks = [];
    this.frames = 0;
    this.phases = [];
    this.capture = {};
  }

  async start() {
    if (!microphoneAvailable()) {
      throw new MicrophoneError(
        "This browser gives no microphone to this page. Open the page over https, or choose a recording instead.",
      );
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({ audio: WANTED });
    } catch (error) {
      throw new MicrophoneError(REASONS[error.name] ?? "The microphone could not be opened.");
    }
    const [track] = this.stream.getAudioTracks();
    const applied = track.getSettings();
    this.capture = Object.fromEntries(
      ["echoCancellation", "noiseSuppression", "autoGainControl", "sampleRate"].map((name) => [
        name,
        applied[name] ?? null,
      ]),
    );
    track.addEventListener("ended", () => this.onEnded?.());
    try {
      this.context = new AudioContext();
      await this.context.resume();
      this.source = this.context.createMediaStreamSource(this.stream);
      if (this.context.audioWorklet) await this.startWorklet();
      else this.startMediaRecorder();
    } catch {
      await this.release();
      throw new MicrophoneError("The microphone could not be read. Reload the page and try again.");
    }
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
    let peak = 0;
    for (const sample of block) peak = Math.max(peak, Math.abs(sample));
    this.onLevel(peak);
  }

  startMediaRecorder() {
    const mimeType = FALLBACK_TYPES.find((type) => MediaRecorder.isTypeSupported(type));
    this.media = new MediaRecorder(this.stream, { mimeType, audioBitsPerSecond: 256000 });
    this.media.ondataavailable = ({ data }) => this.blocks.push(data);
    this.media.start(250);
    const meter = this.context.createAnalyser();
    meter.fftSize = 2048;
    this.source.connect(meter);
    const samples = new Float32Array(meter.fftSize);
    this.meterTimer = setInterval(() => {
      meter.getFloatTimeDomainData(samples);
      this.onLevel(samples.reduce((peak, sample) => Math.max(peak, Math.abs(sample)), 0));
    }, 50);
  }

  // Notes that a phase of the guided take begins now, on the clock of the recording.
  beginPhase({ kind, turn }) {
    const start = this.phases.length ? this.frames / this.context.sampleRate : 0;
    this.phases.push({ kind, turn, start });
  }

  // What the file says about itself: how it was made, and the phases that fill it.
  comment() {
    const duration = this.frames / this.context.sampleRate;
    const performed = this.phases.filter((phase) => phase.start < duration);
    const protocol = performed.map((phase, index) => ({
      ...phase,
      end: performed[index + 1]?.start ?? duration,
    }));
    return JSON.stringify({ capture: this.capture, protocol });
  }

  // Stops and returns { blob, name, capture }.
  async stop() {
    let blob;
    let name;
    if (this.media) {
      clearInterval(this.meterTimer);
      await new Promise((resolve) => {
        this.media.onstop = resolve;
        this.media.stop();
      });
      const type = this.media.mimeType.split(";")[0];
      blob = new Blob(this.blocks, { type });
      name = `twist.${type.split("/")[1]}`;
    } else {
      await this.lastSamples();
      blob = encodeWav(this.blocks, this.context.sampleRate, this.comment());
      name = "twist.wav";
    }
    const { capture } = this;
    await this.release();
    return { blob, name, capture };
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
    clearInterval(this.meterTimer);
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    if (this.context && this.context.state !== "closed") await this.context.close();
    this.blocks = [];
  }
}
