// Waveform and spectrogram of a recording on a canvas.

const FRAME = 512;
export const HIGHEST_HZ = 16000;
const LOWEST_DB = -70;
const QUIETEST_TOP_DB = -40; // digital silence must not look loud
const FRAMES_PER_COLUMN = 24;

// Real FFT magnitude by a plain radix-2 transform; FRAME is a power of two.
function makeTransform() {
  const window = Float32Array.from({ length: FRAME }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / FRAME));
  const cosine = Float32Array.from({ length: FRAME / 2 }, (_, i) => Math.cos((2 * Math.PI * i) / FRAME));
  const sine = Float32Array.from({ length: FRAME / 2 }, (_, i) => Math.sin((2 * Math.PI * i) / FRAME));
  const bits = Math.log2(FRAME);
  const reversed = Uint16Array.from({ length: FRAME }, (_, i) => {
    let result = 0;
    for (let bit = 0; bit < bits; bit += 1) if (i & (1 << bit)) result |= 1 << (bits - 1 - bit);
    return result;
  });
  const real = new Float32Array(FRAME);
  const imaginary = new Float32Array(FRAME);
  return (samples, start, power) => {
    for (let i = 0; i < FRAME; i += 1) {
      real[reversed[i]] = (samples[start + i] ?? 0) * window[i];
    }
    imaginary.fill(0);
    for (let half = 1; half < FRAME; half *= 2) {
      const stride = FRAME / (2 * half);
      for (let base = 0; base < FRAME; base += 2 * half) {
        for (let k = 0; k < half; k += 1) {
          const c = cosine[k * stride];
          const s = sine[k * stride];
          const a = base + k;
          const b = a + half;
          const re = real[b] * c + imaginary[b] * s;
          const im = imaginary[b] * c - real[b] * s;
          real[b] = real[a] - re;
          imaginary[b] = imaginary[a] - im;
          real[a] += re;
          imaginary[a] += im;
        }
      }
    }
    for (let bin = 0; bin < power.length; bin += 1) {
      const value = real[bin] ** 2 + imaginary[bin] ** 2;
      if (value > power[bin]) power[bin] = value;
    }
  };
}

function colour(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function sharpen(canvas, height) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const width = Math.max(200, canvas.parentElement.clientWidth);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.height = `${height}px`;
  return canvas.getContext("2d");
}

// Draws samples[from:to] as the range of each column; loudest sample fills the height.
export function drawWaveform(canvas, samples, from, to, height) {
  const context = sharpen(canvas, height);
  const { width } = canvas;
  const middle = canvas.height / 2;
  let largest = 1e-6;
  for (let i = from; i < to; i += 1) largest = Math.max(largest, Math.abs(samples[i]));
  context.fillStyle = colour("--accent");
  const step = (to - from) / width;
  for (let x = 0; x < width; x += 1) {
    const first = Math.floor(from + x * step);
    const last = Math.max(first + 1, Math.floor(from + (x + 1) * step));
    let low = 0;
    let high = 0;
    for (let i = first; i < last && i < to; i += 1) {
      low = Math.min(low, samples[i]);
      high = Math.max(high, samples[i]);
    }
    const top = middle - (high / largest) * (middle - 2);
    const bottom = middle - (low / largest) * (middle - 2);
    context.fillRect(x, top, 1, Math.max(1, bottom - top));
  }
}

// Dark blue to yellow, readable without telling red from green.
function heat(share) {
  return [255 * Math.min(1, 1.6 * share), 230 * share ** 1.3, 90 + 70 * Math.sin(Math.PI * share)];
}

// Frequencies upward from 0 to HIGHEST_HZ; each column keeps its loudest frames.
export function drawSpectrogram(canvas, samples, sampleRate, height) {
  const context = sharpen(canvas, height);
  const columns = Math.min(canvas.width, Math.max(1, Math.floor(samples.length / 64)));
  const bins = Math.min(FRAME / 2, Math.round((HIGHEST_HZ / sampleRate) * FRAME));
  const transform = makeTransform();
  const levels = new Float32Array(columns * bins);
  const power = new Float32Array(bins);
  const step = samples.length / columns;
  const hop = Math.max(FRAME / 4, step / FRAMES_PER_COLUMN);
  let loudest = QUIETEST_TOP_DB;
  for (let column = 0; column < columns; column += 1) {
    power.fill(1e-12);
    const start = column * step;
    for (let at = start; at < start + step; at += hop) transform(samples, Math.floor(at), power);
    for (let bin = 0; bin < bins; bin += 1) {
      const level = 10 * Math.log10(power[bin]);
      levels[column * bins + bin] = level;
      if (level > loudest) loudest = level;
    }
  }
  const image = context.createImageData(columns, bins);
  for (let column = 0; column < columns; column += 1) {
    for (let bin = 0; bin < bins; bin += 1) {
      const share = Math.max(0, 1 + (levels[column * bins + bin] - loudest) / -LOWEST_DB);
      const at = 4 * ((bins - 1 - bin) * columns + column);
      const [red, green, blue] = heat(share);
      image.data.set([red, green, blue, 255], at);
    }
  }
  const small = document.createElement("canvas");
  small.width = columns;
  small.height = bins;
  small.getContext("2d").putImageData(image, 0, 0);
  context.drawImage(small, 0, 0, canvas.width, canvas.height);
}
