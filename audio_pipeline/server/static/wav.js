// Raw samples to a 24-bit mono WAV file, so that no codec stands between the sound and the ear.

const BYTES_PER_SAMPLE = 3;
const HEADER_BYTES = 44;

export function encodeWav(blocks, sampleRate) {
  const frames = blocks.reduce((total, block) => total + block.length, 0);
  const dataBytes = frames * BYTES_PER_SAMPLE;
  const padding = dataBytes % 2;
  const view = new DataView(new ArrayBuffer(HEADER_BYTES + dataBytes + padding));
  const text = (offset, letters) => {
    for (let i = 0; i < letters.length; i += 1) view.setUint8(offset + i, letters.charCodeAt(i));
  };
  text(0, "RIFF");
  view.setUint32(4, HEADER_BYTES - 8 + dataBytes + padding, true);
  text(8, "WAVEfmt ");
  view.setUint32(16, 16, true); // length of the format chunk
  view.setUint16(20, 1, true); // integer samples
  view.setUint16(22, 1, true); // one channel
  view.setUint32(24, sampleRate, true);
  view.setUint32(28, sampleRate * BYTES_PER_SAMPLE, true);
  view.setUint16(32, BYTES_PER_SAMPLE, true);
  view.setUint16(34, 8 * BYTES_PER_SAMPLE, true);
  text(36, "data");
  view.setUint32(40, dataBytes, true);
  let offset = HEADER_BYTES;
  for (const block of blocks) {
    for (const sample of block) {
      const value = Math.round(Math.max(-1, Math.min(1, sample)) * 0x7fffff);
      view.setUint8(offset, value & 0xff);
      view.setInt16(offset + 1, value >> 8, true);
      offset += BYTES_PER_SAMPLE;
    }
  }
  return new Blob([view.buffer], { type: "audio/wav" });
}
