// The playground's page. It posts what a client would send to the operators' own door, which makes the call as the tenant.
(() => {
  const told = JSON.parse(document.getElementById("playground-told").textContent);
  const at = (id) => document.getElementById(id);
  const form = at("ask"), turns = at("turns"), problem = at("problem");
  const LARGEST_PICTURE = 1_500_000, STORY_TRIES = 20, STORY_PAUSE_MS = 400;
  let messages = [], models = [], approvals = "#", stopping = null, language = "curl", picture = null;

  class Wrong extends Error {}
  const kind = () => form.elements.kind.value;

  function element(name, text = "", className = "") {
    const made = document.createElement(name);
    made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  function json(id, what) {
    const text = at(id).value.trim();
    if (!text) return undefined;
    try { return JSON.parse(text); } catch (error) { throw new Wrong(`${what} is not JSON: ${error.message}`); }
  }

  function userContent() {
    const text = at("prompt").value || "Say hello";
    return picture ? [{ type: "text", text }, { type: "image_url", image_url: { url: picture } }] : text;
  }

  function body() {
    const model = at("model").value;
    if (kind() === "image") return { model, prompt: at("prompt").value || "A lighthouse", response_format: "b64_json" };
    if (kind() === "speech") return { model, input: at("prompt").value || "Hello", voice: at("voice").value || "alloy" };
    const system = at("system").value.trim();
    const asked = { model, messages: [...(system ? [{ role: "system", content: system }] : []), ...messages, { role: "user", content: userContent() }] };
    const tools = json("tools", "Tools"), schema = json("schema", "The schema");
    if (tools !== undefined) asked.tools = tools;
    if (schema !== undefined) asked.response_format = { type: "json_schema", json_schema: { name: "answer", schema } };
    if (at("temperature").value) asked.temperature = Number(at("temperature").value);
    if (at("max-tokens").value) asked.max_tokens = Number(at("max-tokens").value);
    if (at("stream").checked) { asked.stream = true; asked.stream_options = { include_usage: true }; }
    return asked;
  }

  function shortened(value) {
    return typeof value === "string" && value.startsWith("data:") ? `${value.slice(0, 40)}…` : value;
  }

  function showCode(sent) {
    let asked = sent?.model ? sent : undefined;
    try { asked ??= body(); } catch { return; }
    const short = JSON.parse(JSON.stringify(asked, (name, value) => shortened(value)));
    at("code").textContent = playgroundCode[language](told.base_url, told.paths[kind()], short);
  }

  function showKind() {
    for (const name of ["chat", "speech"]) {
      for (const field of document.querySelectorAll(`.for-${name}`)) field.hidden = kind() !== name;
    }
    const chosen = at("model").value;
    const fitting = models.filter((model) => model.kinds.includes(kind()));
    at("model").replaceChildren(...fitting.map((model) => {
      const option = element("option", model.group ? `${model.name} (group)` : model.name);
      option.value = model.name;
      option.selected = model.name === chosen;
      return option;
    }));
    at("no-models").hidden = !at("tenant").value || fitting.length > 0;
    at("approvals").href = approvals;
    showCode();
  }

  async function loadModels() {
    const tenant = at("tenant").value;
    models = [];
    if (tenant) {
      const answer = await fetch(`${told.choices}?tenant=${encodeURIComponent(tenant)}`);
      if (answer.ok) ({ models, approvals } = await answer.json());
      else fail("The tenant's models could not be read. Reload the page; you may have been logged out.");
    }
    showKind();
  }

  function fail(words, hint) {
    problem.replaceChildren(element("span", words));
    if (hint) {
      problem.append(` ${hint.words} `);
      if (hint.url) {
        const link = element("a", "Mend it there", "link");
        link.href = hint.url;
        problem.append(link);
      }
    }
    problem.hidden = false;
  }

  function failWith(error) {
    const field = error.param ? ` (${error.param})` : "";
    fail(`${error.message}${field}`, told.hints[error.code]);
  }

  function turn(role) {
    if (!turns.querySelector(".turn")) turns.replaceChildren();
    const made = element("div", "", `turn ${role}`);
    made.append(element("strong", role === "user" ? "You" : at("model").value));
    const text = element("span");
    made.append(text);
    turns.append(made);
    return { made, text };
  }

  // Server-sent events that came so far; what is left of the last one waits for its rest.
  function events(state, text) {
    state.rest += text;
    const parts = state.rest.split("\n\n");
    state.rest = parts.pop();
    return parts.flatMap((part) => part.split("\n").filter((line) => line.startsWith("data: ")).map((line) => line.slice(6)));
  }

  function showCalls(spot, calls) {
    for (const one of calls) spot.made.append(element("div", `calls ${one.function.name}(${one.function.arguments})`, "code"));
  }

  function hearEvent(state, data) {
    if (data === "[DONE]") return;
    const said = JSON.parse(data);
    if (said.error) { state.error = said.error; return; }
    const delta = said.choices?.[0]?.delta ?? {};
    if (delta.content) { state.answer += delta.content; state.spot.text.textContent = state.answer; }
    for (const piece of delta.tool_calls ?? []) {
      const call = (state.calls[piece.index ?? 0] ??= { id: "", type: "function", function: { name: "", arguments: "" } });
      call.id ||= piece.id ?? "";
      call.function.name += piece.function?.name ?? "";
      call.function.arguments += piece.function?.arguments ?? "";
    }
  }

  function blobUrl(bytes, type) {
    return URL.createObjectURL(new Blob([bytes], { type }));
  }

  function fromBase64(text) {
    return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  }

  function showWhole(state) {
    const type = (state.head.headers["content-type"] ?? "").split(";")[0];
    if (state.bytes.length) {
      const player = element("audio");
      player.controls = true;
      player.src = blobUrl(new Blob(state.bytes), type);
      state.spot.made.append(player);
      return;
    }
    const said = JSON.parse(state.text);
    if (said.error) { state.error = said.error; return; }
    if (said.url && kind() === "speech") {
      const player = element("audio");
      player.controls = true;
      player.src = new URL(said.url, location.href).pathname + new URL(said.url, location.href).search;
      state.spot.made.append(player);
      return;
    }
    for (const one of said.data ?? []) {
      const shown = element("img");
      shown.alt = at("prompt").value || "A picture";
      shown.src = one.b64_json ? blobUrl(fromBase64(one.b64_json), "image/png") : one.url;
      state.spot.made.append(shown);
    }
    const message = said.choices?.[0]?.message;
    if (message) {
      state.answer = message.content ?? "";
      state.calls = message.tool_calls ?? [];
      state.spot.text.textContent = state.answer;
    }
  }

  function hear(state, line) {
    if (line.kind === "head") {
      state.head = line;
      state.streams = (line.headers["content-type"] ?? "").startsWith("text/event-stream");
      showHeaders(line);
    } else if (line.base64) {
      state.bytes.push(fromBase64(line.base64));
    } else if (line.text) {
      if (state.streams) for (const data of events(state, line.text)) hearEvent(state, data);
      else state.text += line.text;
    }
  }

  function showHeaders(head) {
    const shown = Object.entries(head.headers).filter(([name]) => /^(x-|retry-after|age|content-type)/.test(name));
    at("headers").replaceChildren(...[["status", String(head.status)], ...shown].map(([name, value]) => {
      const row = element("tr");
      const title = element("th", name);
      title.scope = "row";
      row.append(title, element("td", value));
      return row;
    }));
    at("sentence").textContent = "";
    at("cost").textContent = "";
    at("trace").hidden = true;
    at("facts").hidden = false;
  }

  async function showStory(tenant, requestId) {
    for (let tries = 0; tries < STORY_TRIES; tries += 1) {
      const answer = await fetch(`${told.story}?tenant=${encodeURIComponent(tenant)}&request=${encodeURIComponent(requestId)}`);
      const story = answer.ok ? await answer.json() : {};
      if (story.ready) {
        at("sentence").textContent = story.sentence;
        at("cost").textContent = `USD ${story.cost}, ${story.tokens.in} tokens in, ${story.tokens.out} out.`;
        at("trace").href = story.url;
        at("trace").hidden = false;
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, STORY_PAUSE_MS));
    }
    at("sentence").textContent = "What it cost is not written down yet: look for it in the list of requests.";
  }

  async function read(answer, state) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = (rest + value).split("\n");
      rest = lines.pop();
      for (const line of lines) hear(state, JSON.parse(line));
    }
  }

  async function ask(asked, tenant) {
    const user = turn("user");
    user.text.textContent = at("prompt").value || asked.prompt || asked.input || "Say hello";
    const state = { spot: turn("assistant"), answer: "", calls: [], text: "", bytes: [], rest: "", head: null, error: null };
    stopping = new AbortController();
    const answer = await fetch(`${told.call}?tenant=${encodeURIComponent(tenant)}&kind=${kind()}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-CSRFToken": form.parentElement.querySelector("[name=csrfmiddlewaretoken]").value },
      body: JSON.stringify(asked),
      signal: stopping.signal,
    });
    if (!answer.ok) {
      const isJson = (answer.headers.get("content-type") ?? "").startsWith("application/json");
      const said = isJson ? await answer.json() : { error: { message: `The admin answered ${answer.status}: reload the page, you may have been logged out.` } };
      state.spot.made.remove();
      failWith(said.error);
      return;
    }
    await read(answer, state);
    if (!state.streams) showWhole(state);
    showCalls(state.spot, state.calls.filter(Boolean));
    if (state.error) {
      if (!state.answer) state.spot.made.remove();
      failWith(state.error);
    } else if (kind() === "chat") {
      const said = { role: "assistant", content: state.answer || null };
      if (!state.calls.length) messages.push(asked.messages.at(-1), said);
    }
    showCode(asked);
    await showStory(tenant, state.head.headers["x-request-id"]);
  }

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    problem.hidden = true;
    const tenant = at("tenant").value;
    try {
      if (!tenant) throw new Wrong("Choose a tenant: the call is made, limited and paid as its own.");
      if (!at("model").value) throw new Wrong("Choose a model that is approved for this tenant.");
      const asked = body();
      at("send").disabled = true;
      at("stop").hidden = false;
      await ask(asked, tenant);
    } catch (error) {
      if (error.name === "AbortError") fail("Stopped. What was used so far is charged.");
      else if (error instanceof Wrong) fail(error.message);
      else fail(`The answer could not be read: ${error.message}. Is the server still there?`);
    } finally {
      at("send").disabled = false;
      at("stop").hidden = true;
    }
  });

  at("stop").addEventListener("click", () => stopping?.abort());
  at("clear").addEventListener("click", () => {
    messages = [];
    turns.replaceChildren(element("p", "A new conversation.", "remark"));
    problem.hidden = true;
    at("facts").hidden = true;
  });
  at("tenant").addEventListener("change", loadModels);
  at("picture").addEventListener("change", () => {
    picture = null;
    problem.hidden = true;
    const file = at("picture").files[0];
    if (!file) return showCode();
    if (file.size > LARGEST_PICTURE) {
      at("picture").value = "";
      return fail("The picture is larger than 1.5 MB: make it smaller, or send it by a program.");
    }
    const reader = new FileReader();
    reader.addEventListener("load", () => { picture = reader.result; showCode(); });
    reader.readAsDataURL(file);
  });
  for (const radio of form.querySelectorAll("[name=kind]")) radio.addEventListener("change", showKind);
  for (const button of document.querySelectorAll("[data-code]")) {
    button.addEventListener("click", () => {
      language = button.dataset.code;
      for (const other of document.querySelectorAll("[data-code]")) other.setAttribute("aria-pressed", String(other === button));
      showCode();
    });
  }
  form.addEventListener("input", showCode);
  loadModels();
})();
