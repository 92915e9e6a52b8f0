// Cues for a person who cannot see the screen: spoken words, short low tones, vibration.
// Whatever sounds is noted with its time, so that the analysis never takes a cue for a sound of the
// back. Screen readers are not used for cues: they would speak into the recording.

import { locale } from "./words.js";

const TONE_SECONDS = 0.1;
const GAP_SECONDS = 0.03;
const LOUDNESS = 0.25;
const FADE_SECONDS = 0.02;
// How long a sound needs from the loudspeaker back into the recording, and how long it rings.
const LATE_SECONDS = 0.2;

// Each phase has its own tones (Hz) and its own buzz (ms on, off, on, ...). Low: joints crack far
// above. The test of the page recognises the phases by these.
export const PATTERNS = {
  count: { tones: [262], buzz: [40] },
  quiet: { tones: [330], buzz: [300] },
  turn: { tones: [330, 440], buzz: [100, 60, 200] },
  back: { tones: [440, 330], buzz: [200, 60, 100] },
  still: { tones: [262, 196], buzz: [100, 60, 100] },
  done: { tones: [330, 392, 523], buzz: [100, 60, 100, 60, 300] },
  trouble: { tones: [196, 196, 196], buzz: [400, 100, 400] },
};

export const canSpeak = () => "speechSynthesis" in window && speechSynthesis.getVoices().length > 0;

export class Cues {
  // settings: { speech, tones, vibration }, each true or false. onSound(seconds) is called when
  // something begins to sound that lasts so long.
  constructor(settings, onSound = () => {}) {
    this.settings = settings;
    this.onSound = onSound;
  }

  // Call it in answer to a tap: browsers let no page sound by itself.
  unlock() {
    if (this.settings.tones) this.context ??= new AudioContext();
    this.context?.resume().catch(() => {});
    // iOS speaks later only when it has spoken once in answer to a tap; nothing is heard of this.
    if (this.settings.speech && canSpeak()) {
      const silent = new SpeechSynthesisUtterance(" ");
      silent.volume = 0;
      speechSynthesis.speak(silent);
    }
  }

  give(kind, words = "") {
    const { tones, buzz } = PATTERNS[kind];
    if (this.settings.tones) this.play(tones);
    if (this.settings.vibration) navigator.vibrate?.(buzz);
    if (this.settings.speech && words) this.speak(words);
  }

  play(tones) {
    const { context } = this;
    if (context?.state !== "running") return;
    let at = context.currentTime + 0.01;
    for (const hertz of tones) {
      const tone = context.createOscillator();
      const gain = context.createGain();
      tone.frequency.value = hertz;
      gain.gain.setValueAtTime(0, at);
      gain.gain.linearRampToValueAtTime(LOUDNESS, at + FADE_SECONDS);
      gain.gain.setValueAtTime(LOUDNESS, at + TONE_SECONDS - FADE_SECONDS);
      gain.gain.linearRampToValueAtTime(0, at + TONE_SECONDS);
      tone.connect(gain).connect(context.destination);
      tone.start(at);
      tone.stop(at + TONE_SECONDS);
      at += TONE_SECONDS + GAP_SECONDS;
    }
    this.onSound(at - context.currentTime + LATE_SECONDS);
  }

  speak(words) {
    if (!canSpeak()) return;
    const line = new SpeechSynthesisUtterance(words);
    line.lang = locale;
    line.rate = 1.1;
    let began = performance.now();
    line.onstart = () => {
      began = performance.now();
    };
    // The length is known only at the end; the sound is noted from its start.
    line.onend = () => {
      const lasted = (performance.now() - began) / 1000;
      this.onSound(LATE_SECONDS, lasted);
    };
    speechSynthesis.cancel();
    speechSynthesis.speak(line);
  }

  async close() {
    if ("speechSynthesis" in window) speechSynthesis.cancel();
    await this.context?.close();
    this.context = null;
  }
}
