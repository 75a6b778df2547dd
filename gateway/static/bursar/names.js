// Form widgets that come without a name or are out of a keyboard's reach, and whose templates cannot be replaced: the fields
// that select2 draws get their label's words, and the menu beside a choice becomes a button.
(() => {
  const labelOf = (select) => document.querySelector(`label[for="${select.id}"]`)?.textContent.trim().replace(/\s*\*$/, "");

  const name = () => {
    for (const select of document.querySelectorAll("select.select2-hidden-accessible")) {
      const text = labelOf(select) || select.name.replaceAll("_", " ");
      for (const part of select.parentElement.querySelectorAll(".select2-selection, .select2-selection__rendered, .select2-search__field")) {
        part.setAttribute("aria-label", text);
      }
    }
    for (const menu of document.querySelectorAll("[x-ref^=relatedWidgetWrapper]:not([role])")) {
      menu.setAttribute("role", "button");
      menu.setAttribute("aria-label", "Add, change or look at what is chosen");
      menu.tabIndex = 0;
      menu.addEventListener("keydown", (event) => {
        if (event.key !== "Enter" && event.key !== " ") return;
        event.preventDefault();
        menu.click();
      });
    }
  };
  addEventListener("load", () => setTimeout(name));
  document.addEventListener("formset:added", () => setTimeout(name));
})();
