// Runs on the audio thread: hands on raw samples in blocks, untouched.

const BLOCK_FRAMES = 2048;

class Tap extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Float32Array(BLOCK_FRAMES);
    this.filled = 0;
    this.port.onmessage = () => this.flush();
  }

  process(inputs) {
    const channel = inputs[0][0];
    if (channel) {
      for (const sample of channel) {
        this.block[this.filled] = sample;
        this.filled += 1;
        if (this.filled === BLOCK_FRAMES) this.flush();
      }
    }
    return true;
  }

  flush() {
    this.port.postMessage(this.block.slice(0, this.filled));
    this.filled = 0;
  }
}

registerProcessor("tap", Tap);
