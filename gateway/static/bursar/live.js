// Figures of an open page, told by the server once a second. What is marked with data-live="key" gets the key's text.
// While nothing comes the page says how old it is; after a restart of the server it finds its way back by itself.
(() => {
  const status = document.getElementById("live-status");
  if (!status) return;
  const SILENT_MS = 4000, FIRST_WAIT_MS = 500, LONGEST_WAIT_MS = 15000, LOGGED_OUT = 4403;
  const needsShown = Number(status.dataset.needs);
  let through = status.dataset.through, wait = FIRST_WAIT_MS, socket = null, silence = 0, again = 0;

  const say = (state, text) => {
    status.textContent = text;
    if (status.dataset.state === state) return;
    status.dataset.state = state;
    document.getElementById("live-said").textContent = text;
  };
  const stale = (why) => say("stale", `Not live: ${why} These figures are old, ${through}.`);

  const put = (name, key, text) => {
    const place = document.querySelector(`[data-${name}="${key}"]`);
    if (place && place.textContent !== text) place.textContent = text;
  };
  const show = (told) => {
    for (const [key, figure] of Object.entries(told.figures)) {
      put("live", key, figure.text);
      put("live-remark", key, figure.remark);
      document.querySelector(`[data-figure="${key}"]`)?.classList.toggle("bad", figure.bad);
    }
    for (const [key, isDone] of Object.entries(told.steps)) {
      const step = document.querySelector(`[data-step="${key}"]`);
      if (!step || step.classList.contains("done") === isDone) continue;
      step.classList.toggle("done", isDone);
      step.querySelector(".tick").textContent = isDone ? "check_circle" : "radio_button_unchecked";
      step.querySelector(".step-state").textContent = isDone ? "done" : "to do";
    }
    const changed = document.getElementById("needs-changed");
    if (changed) changed.hidden = told.needs === needsShown;
    through = told.through;
    say("live", `Live, ${through}`);
  };

  const listen = () => {
    clearTimeout(silence);
    silence = setTimeout(() => { stale("nothing comes from the server."); socket?.close(); }, SILENT_MS);
  };
  const connect = () => {
    clearTimeout(again);
    socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${status.dataset.path}`);
    listen();
    socket.onmessage = (event) => {
      listen();
      wait = FIRST_WAIT_MS;
      const told = JSON.parse(event.data);
      if (told.stale) stale(told.stale); else show(told);
    };
    socket.onclose = (event) => {
      clearTimeout(silence);
      if (event.code === LOGGED_OUT) return stale("you are logged out.");
      if (document.hidden) return;
      stale("the server is not there, trying again.");
      again = setTimeout(connect, wait * (0.75 + Math.random() / 2));
      wait = Math.min(wait * 2, LONGEST_WAIT_MS);
    };
  };
  // Nobody looks at a hidden page: the server need not feed it.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) socket?.close();
    else if (!socket || socket.readyState > WebSocket.OPEN) { wait = FIRST_WAIT_MS; connect(); }
  });
  connect();
})();
