"use strict";

for (const button of document.querySelectorAll("button[data-copy]")) {
  button.addEventListener("click", async () => {
    const field = document.getElementById(button.dataset.copy);
    const note = document.getElementById(button.getAttribute("aria-describedby"));
    field.select();
    try {
      await navigator.clipboard.writeText(field.value);
      note.textContent = "Copied.";
    } catch {
      // Without permission, or without https: the text is selected for the keyboard.
      note.textContent = "Press Ctrl+C (or ⌘C) to copy the selected text.";
    }
  });
}
