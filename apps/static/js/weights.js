// A large file takes its time: says so, and keeps a second click from sending it twice.

const form = document.querySelector("form[data-weights]");
const status = form.querySelector("[data-busy]");
const button = form.querySelector("[type=submit]");

form.addEventListener("submit", () => {
  status.textContent = status.dataset.busy;
  // Not at once: a disabled button would not send its own name.
  setTimeout(() => { button.disabled = true; });
});

// Back to this page from the next one: browsers show it as it was left.
addEventListener("pageshow", () => {
  status.textContent = "";
  button.disabled = false;
});
