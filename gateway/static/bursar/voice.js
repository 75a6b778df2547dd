// The voice playground: a client of /v1/realtime as any other, with a secret that was made for one session.
const RATE = 24000;
const PIECE = RATE / 10;
const PIECE_MS = 20; // faster than it is spoken: a file need not be listened to
const SILENCE_PIECES = 7; // ends a turn

const page = document.getElementById("voice");
if (page) talk(page);

function talk(root) {
  const element = (name) => document.getElementById(`voice-${name}`);
  const inSession = ["stop", "microphone", "wav", "interrupt", "text", "send"].map(element);
  let socket = null, audio = null, microphone = null, cost = 0, sessionId = "", askedAt = 0;
  let playing = [], playsUntil = 0, spoken = { item: "", startedAt: 0 };
  const lines = new Map();

  const state = (text) => { element("state").textContent = text; };
  const send = (event) => { if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(event)); };

  function line(kind, text, key) {
    let item = lines.get(key);
    if (!item) {
      item = document.createElement("li");
      item.className = kind;
      element("log").append(item);
      if (key) lines.set(key, item);
    }
    item.textContent += text;
    element("log").scrollTop = element("log").scrollHeight;
    return item;
  }

  function ready(isOpen) {
    for (const control of inSession) control.disabled = !isOpen;
    element("start").disabled = isOpen;
  }

  async function begin(form) {
    element("start").disabled = true;
    document.querySelectorAll("[data-error]").forEach((one) => { one.hidden = true; });
    const answer = await fetch(root.dataset.secrets, { method: "POST", body: new FormData(form) });
    const told = await answer.json().catch(() => ({}));
    if (!answer.ok) {
      for (const [field, problems] of Object.entries(told.errors ?? { key: ["It could not be opened."] })) {
        const place = document.querySelector(`[data-error="${field}"]`) ?? document.querySelector("[data-error]");
        place.textContent = problems.join(" ");
        place.hidden = false;
      }
      element("start").disabled = false;
      return;
    }
    audio ??= new AudioContext({ sampleRate: RATE });
    lines.clear();
    element("log").textContent = "";
    state("connecting");
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const url = `${scheme}://${location.host}/v1/realtime?model=${encodeURIComponent(told.model)}`;
    socket = new WebSocket(url, ["realtime", `openai-insecure-api-key.${told.value}`]);
    socket.addEventListener("message", (message) => hear(JSON.parse(message.data)));
    socket.addEventListener("close", () => end());
  }

  function end() {
    state("ended");
    ready(false);
    silence();
    listen(false);
    clearInterval(cost);
    if (sessionId) charge();
    socket = null;
  }

  async function charge() {
    const answer = await fetch(root.dataset.sessions.replace("ID", sessionId));
    if (answer.ok) tell((await answer.json()).usage);
  }

  function tell(usage) {
    element("cost").textContent = usage.cost;
    element("responses").textContent = usage.responses;
  }

  const hears = {
    "session.created"(event) {
      sessionId = event.session.id;
      element("session").textContent = sessionId;
      state("listening");
      ready(true);
      cost = setInterval(charge, 1000);
    },
    "input_audio_buffer.speech_started"() {
      interrupt(false);
      state("hearing you");
    },
    "input_audio_buffer.speech_stopped"() { askedAt = performance.now(); },
    "input_audio_buffer.committed"(event) { line("me", "", event.item_id).textContent = "(spoken)"; },
    "conversation.item.input_audio_transcription.completed"(event) {
      line("me", "", event.item_id).textContent = event.transcript;
    },
    "response.created"() { state("answering"); },
    "response.output_audio_transcript.delta"(event) { line("model", event.delta, event.item_id); },
    "response.output_text.delta"(event) { line("model", event.delta, event.item_id); },
    "response.output_audio.delta"(event) { play(event); },
    "response.done"(event) {
      const { status, status_details: details } = event.response;
      if (status !== "completed") line("end", `(${status}${details?.reason ? `: ${details.reason}` : ""})`);
      state("listening");
      charge();
    },
    error(event) { line("problem", event.error.message); },
    "session.closed"(event) {
      tell(event.usage);
      sessionId = "";
      line("end", `The session has ended (${event.reason}): ${event.usage.cost} USD, ${event.usage.seconds} s.`);
    },
  };

  function hear(event) { hears[event.type]?.(event); }

  function play(event) {
    if (askedAt) {
      element("latency").textContent = `${Math.round(performance.now() - askedAt)} ms`;
      askedAt = 0;
    }
    const bytes = Uint8Array.from(atob(event.delta), (letter) => letter.charCodeAt(0));
    const samples = Float32Array.from(new Int16Array(bytes.buffer, 0, bytes.length >> 1), (sample) => sample / 32768);
    if (!samples.length) return;
    const buffer = audio.createBuffer(1, samples.length, RATE);
    buffer.copyToChannel(samples, 0);
    const source = audio.createBufferSource();
    source.buffer = buffer;
    source.connect(audio.destination);
    const at = Math.max(audio.currentTime, playsUntil);
    if (spoken.item !== event.item_id) spoken = { item: event.item_id, index: event.content_index ?? 0, startedAt: at };
    source.start(at);
    playsUntil = at + buffer.duration;
    playing.push(source);
    source.addEventListener("ended", () => { playing = playing.filter((one) => one !== source); });
  }

  function silence() {
    for (const source of playing) source.stop();
    playing = [];
    playsUntil = 0;
  }

  function interrupt(cancels) {
    const isHeard = playing.length > 0;
    const heardMs = Math.max(0, Math.round((audio.currentTime - spoken.startedAt) * 1000));
    silence();
    if (cancels) send({ type: "response.cancel" });
    if (isHeard) {
      send({
        type: "conversation.item.truncate", item_id: spoken.item, content_index: spoken.index, audio_end_ms: heardMs,
      });
    }
  }

  function append(samples) {
    const pcm = new Int16Array(samples.length);
    for (let at = 0; at < samples.length; at += 1) pcm[at] = Math.max(-1, Math.min(1, samples[at])) * 32767;
    const bytes = new Uint8Array(pcm.buffer);
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    send({ type: "input_audio_buffer.append", audio: btoa(text) });
  }

  async function sendFile(file) {
    let sound;
    try {
      sound = await audio.decodeAudioData(await file.arrayBuffer());
    } catch {
      line("problem", "This file has no sound that the browser can read.");
      return;
    }
    const samples = sound.getChannelData(0);
    state("sending");
    for (let at = 0; at < samples.length && socket; at += PIECE) {
      append(samples.subarray(at, at + PIECE));
      await new Promise((resume) => { setTimeout(resume, PIECE_MS); });
    }
    for (let piece = 0; piece < SILENCE_PIECES; piece += 1) append(new Float32Array(PIECE));
  }

  async function listen(wanted) {
    element("microphone").setAttribute("aria-pressed", String(wanted));
    if (!wanted) {
      microphone?.getTracks().forEach((track) => track.stop());
      microphone = null;
      return;
    }
    try {
      microphone = await navigator.mediaDevices.getUserMedia({ audio: { echoCancellation: true } });
      await audio.audioWorklet.addModule(root.dataset.worklet);
    } catch {
      element("microphone").setAttribute("aria-pressed", "false");
      line("problem", "The browser gives no microphone to this page: it needs https, or this machine's own address.");
      return;
    }
    const listener = new AudioWorkletNode(audio, "listener");
    listener.port.onmessage = (message) => { if (microphone) append(message.data); };
    audio.createMediaStreamSource(microphone).connect(listener);
  }

  element("form").addEventListener("submit", (event) => {
    event.preventDefault();
    begin(event.target);
  });
  element("stop").addEventListener("click", () => send({ type: "session.close" }));
  element("interrupt").addEventListener("click", () => interrupt(true));
  element("microphone").addEventListener("click", () => listen(microphone === null));
  // On its way down: the admin's own listener on file inputs looks for a text input that this one does not have.
  element("wav").parentNode.addEventListener("change", async (event) => {
    event.stopPropagation();
    const [file] = event.target.files;
    if (file) await sendFile(file);
    event.target.value = "";
  }, { capture: true });
  element("typing").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = element("text").value.trim();
    if (!text) return;
    line("me", text);
    element("text").value = "";
    askedAt = performance.now();
    send({ type: "conversation.item.create", item: { type: "message", role: "user", content: [{ type: "input_text", text }] } });
    send({ type: "response.create" });
  });
}
