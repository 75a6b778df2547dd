// What the microphone hears, handed on in tenths of a second.
class Listener extends AudioWorkletProcessor {
  constructor() {
    super();
    this.heard = [];
    this.length = 0;
  }

  process([input]) {
    if (input[0]) {
      this.heard.push(input[0].slice());
      this.length += input[0].length;
    }
    if (this.length >= sampleRate / 10) {
      const samples = new Float32Array(this.length);
      let at = 0;
      for (const piece of this.heard) {
        samples.set(piece, at);
        at += piece.length;
      }
      this.port.postMessage(samples, [samples.buffer]);
      this.heard = [];
      this.length = 0;
    }
    return true;
  }
}

registerProcessor("listener", Listener);
