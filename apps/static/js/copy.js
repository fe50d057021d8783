// A button beside each text that is there to be copied.

for (const place of document.querySelectorAll("[data-copy-text]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "btn btn-outline-primary btn-sm";
  button.textContent = place.dataset.copyText;
  const source = place.firstElementChild;
  if (place.dataset.copyName) button.setAttribute("aria-label", place.dataset.copyName);
  button.addEventListener("click", async () => {
    if (await copied(source)) {
      button.textContent = place.dataset.copiedText;
      setTimeout(() => { button.textContent = place.dataset.copyText; }, 2500);
    }
  });
  place.append(button);
}

// Without TLS browsers give pages no clipboard: the text is selected then, and copied the old way.
async function copied(source) {
  try {
    await navigator.clipboard.writeText(source.textContent);
    return true;
  } catch {
    getSelection().selectAllChildren(source);
    return document.execCommand("copy");
  }
}
