// django-unfold's dialog: the focus goes in when it opens, stays in while it is open, and goes back when it closes.
(() => {
  const dialog = document.getElementById("modal-content");
  if (!dialog) return;
  const REACHED = "a[href], button, input:not([type=hidden]), select, textarea, [tabindex='0']";
  const reached = () => [...dialog.querySelectorAll(REACHED)].filter((one) => one.checkVisibility() && !one.disabled);
  let isOpen = false, before = null;

  const look = () => {
    const shown = dialog.checkVisibility();
    if (shown && !isOpen) {
      before = document.activeElement;
      dialog.setAttribute("aria-label", dialog.querySelector("h1")?.textContent.trim() || "Dialog");
      (reached().find((one) => !one.matches("[aria-label=Close]")) || dialog).focus();
    } else if (!shown && isOpen) {
      before?.focus();
    }
    isOpen = shown;
  };
  new MutationObserver(look).observe(dialog.parentElement, { attributes: true, childList: true, subtree: true });

  dialog.addEventListener("keydown", (event) => {
    if (event.key !== "Tab") return;
    const places = reached();
    const [from, to] = event.shiftKey ? [places[0], places.at(-1)] : [places.at(-1), places[0]];
    if (document.activeElement === from || document.activeElement === dialog) {
      event.preventDefault();
      to?.focus();
    }
  });
})();
