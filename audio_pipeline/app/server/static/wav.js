// Raw samples to a 24-bit mono WAV file, so that no codec stands between the sound and the ear.

const BYTES_PER_SAMPLE = 3;
const FORMAT_BYTES = 16;

const even = (size) => size + (size % 2);

// The comment stands before the sound, in a LIST chunk, where readers look for it.
function commentChunk(comment) {
  const text = new TextEncoder().encode(`${comment}\0`);
  const chunk = new DataView(new ArrayBuffer(8 + 4 + 8 + even(text.length)));
  write(chunk, 0, "LIST");
  chunk.setUint32(4, chunk.byteLength - 8, true);
  write(chunk, 8, "INFOICMT");
  chunk.setUint32(16, text.length, true);
  new Uint8Array(chunk.buffer).set(text, 20);
  return chunk;
}

function write(view, offset, letters) {
  for (let i = 0; i < letters.length; i += 1) view.setUint8(offset + i, letters.charCodeAt(i));
}

function headerChunks(sampleRate, dataBytes, listBytes) {
  const view = new DataView(new ArrayBuffer(12 + 8 + FORMAT_BYTES));
  write(view, 0, "RIFF");
  view.setUint32(4, 4 + 8 + FORMAT_BYTES + listBytes + 8 + even(dataBytes), true);
  write(view, 8, "WAVEfmt ");
  view.setUint32(16, FORMAT_BYTES, true);
  view.setUint16(20, 1, true); // integer samples
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, sampleRate * BYTES_PER_SAMPLE, true);
  view.setUint16(32, BYTES_PER_SAMPLE, true);
  view.setUint16(34, 8 * BYTES_PER_SAMPLE, true);
  return view;
}

function dataChunk(blocks, dataBytes) {
  const view = new DataView(new ArrayBuffer(8 + even(dataBytes)));
  write(view, 0, "data");
  view.setUint32(4, dataBytes, true);
  let offset = 8;
  for (const block of blocks) {
    for (const sample of block) {
      const value = Math.round(Math.max(-1, Math.min(1, sample)) * 0x7fffff);
      view.setUint8(offset, value & 0xff);
      view.setInt16(offset + 1, value >> 8, true);
      offset += BYTES_PER_SAMPLE;
    }
  }
  return view;
}

// blocks: Float32Arrays; comment: what the file says about itself.
export function encodeWav(blocks, sampleRate, comment) {
  const frames = blocks.reduce((total, block) => total + block.length, 0);
  const dataBytes = frames * BYTES_PER_SAMPLE;
  const list = commentChunk(comment);
  const header = headerChunks(sampleRate, dataBytes, list.byteLength);
  return new Blob([header, list, dataChunk(blocks, dataBytes)], { type: "audio/wav" });
}
